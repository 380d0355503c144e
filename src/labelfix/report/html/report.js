// The page without this script says everything, one part below the other; with it, each part has a
// tab, and tables can be sorted.
(() => {
  const find = (selector) => document.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Tabs: one part at a time; the address names it, so that links and the back button work.
  const tabs = all(".tabs a"), panels = all(".panel");
  const panelOf = (id) => panels.find((panel) => panel.id === id);
  const open = (id) => {
    for (const panel of panels) panel.classList.toggle("open", panel.id === id);
    for (const tab of tabs) {
      const isOpen = tab.hash === `#${id}`;
      tab.setAttribute("aria-selected", String(isOpen));
      tab.tabIndex = isOpen ? 0 : -1;
      if (isOpen && tab.parentElement.scrollWidth > tab.parentElement.clientWidth) {
        tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.clientWidth / 3;
      }
    }
  };
  const follow = () => {
    let id = "";
    try { id = decodeURIComponent(location.hash.slice(1)); } catch { /* no address of this page */ }
    const target = document.getElementById(id);
    const panel = target?.closest(".panel");
    if (!id) open(panels[0].id);
    if (!panel) return;
    open(panel.id);
    if (target === panel) return;
    if (target.tagName === "DETAILS") target.open = true;
    target.scrollIntoView();
  };
  find(".tabs").setAttribute("role", "tablist");
  for (const tab of tabs) {
    const panel = panelOf(tab.hash.slice(1));
    tab.setAttribute("role", "tab");
    tab.id = `tab-${panel.id}`;
    tab.setAttribute("aria-controls", panel.id);
    panel.setAttribute("role", "tabpanel");
    tab.addEventListener("click", (event) => {
      event.preventDefault();
      history.pushState(null, "", tab.hash);
      open(panel.id);
    });
  }
  find(".tabs").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const place = tabs.indexOf(event.target);
    if (!step || place < 0) return;
    event.preventDefault();
    const next = tabs[(place + step + tabs.length) % tabs.length];
    next.click();
    next.focus();
  });
  addEventListener("hashchange", follow);
  addEventListener("popstate", follow);
  open(panels[0].id);
  follow();

  // What to expect of the first so many samples.
  const slider = find("#reviewed");
  if (slider) {
    const points = JSON.parse(slider.dataset.points);
    const output = find("#expected");
    const chart = find("#review .chart");
    const [left, top, right, bottom] = chart.dataset.plot.split(" ").map(Number);
    const cursor = document.createElementNS(chart.namespaceURI, "path");
    cursor.setAttribute("class", "cursor");
    const percent = (share) => `${(100 * share).toFixed(1)}%`;
    slider.addEventListener("input", () => {
      const [reviewed, wrong, precision, recall] = points[Number(slider.value)];
      const x = left + (right - left) * reviewed / points.at(-1)[0];
      cursor.setAttribute("d", `M${x} ${top}V${bottom}`);
      chart.append(cursor);
      const parts = ["The first ", reviewed.toLocaleString("en"), " hold about ",
        Math.round(wrong).toLocaleString("en"), ` wrong labels (${percent(precision)} of them), ` +
        `which is ${percent(recall)} of all wrong ones.`];
      output.replaceChildren(...parts.map((part, number) => {
        if (number % 2 === 0) return part;
        const strong = document.createElement("strong");
        strong.textContent = part;
        return strong;
      }));
    });
  }

  // Tables that can be sorted.
  for (const table of all(".sortable")) {
    const body = table.tBodies[0];
    const rest = table.closest("section").querySelector(".all");
    all("thead th", table).forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const isDown = head.getAttribute("aria-sort") === "descending" ||
          (column === 0 && head.getAttribute("aria-sort") !== "ascending");
        const sign = isDown ? 1 : -1;
        const value = (row) => Number(row.cells[column].dataset.value);
        const rows = [...body.rows].sort((a, b) => sign * (value(a) - value(b)));
        const wasLater = all(".later", body).length;
        rows.forEach((row, number) => {
          row.classList.toggle("later", wasLater > 0 && number >= rows.length - wasLater);
        });
        body.append(...rows);
        for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", isDown ? "ascending" : "descending");
      });
    });
    if (rest) {
      rest.hidden = false;
      rest.addEventListener("click", () => {
        for (const row of all(".later", body)) row.classList.remove("later");
        rest.hidden = true;
      });
    }
  }

  // The map of the samples: one class before the others.
  const colors = all(".color");
  for (const button of colors) {
    button.addEventListener("click", () => {
      const isOn = button.getAttribute("aria-pressed") === "true";
      for (const other of colors) other.setAttribute("aria-pressed", String(other === button && !isOn));
      for (const point of all(".scatter circle")) {
        point.classList.toggle("dim", !isOn && !point.classList.contains(`k${button.dataset.color}`));
      }
    });
  }

  // Commands: with the folder that the page lies in, and a button to take them along.
  const quoted = (path) => /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
  const folder = location.protocol === "file:"
    ? decodeURIComponent(location.pathname).replace(/\/[^/]*$/, "").replace(/^\/(?=[A-Za-z]:)/, "")
    : "";
  for (const command of all(".command")) {
    if (folder) {
      command.textContent = command.textContent.includes('"RUN"')
        ? command.textContent.replace('"RUN"', JSON.stringify(folder))
        : command.textContent.split(" ")
          .map((word) => word.startsWith("RUN") ? quoted(folder + word.slice(3)) : word).join(" ");
    }
    const button = command.parentElement.querySelector(".copy");
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.setAttribute("aria-label", `Copy the command ${command.textContent}`);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    });
  }
  if (folder && find("#run-is")) find("#run-is").hidden = true;
})();
