// The page without this script says everything; with it, cards can be filtered and tables sorted.
(() => {
  const find = (selector) => document.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const STEP = 24;

  // Cards: a filter by given and suggested label, and so many at a time.
  const cards = all(".card");
  if (cards.length) {
    const given = find("#filter-given"), suggested = find("#filter-suggested");
    const clear = find("#clear"), more = find("#more"), status = find("#shown");
    const choosers = all("button[data-given]");
    let limit = STEP;

    const show = () => {
      const fits = cards.filter((card) =>
        (given.value === "" || card.dataset.given === given.value) &&
        (suggested.value === "" || card.dataset.suggested === suggested.value));
      const shown = new Set(fits.slice(0, limit));
      for (const card of cards) {
        card.hidden = !shown.has(card);
        card.classList.remove("later");
      }
      const isFiltered = given.value !== "" || suggested.value !== "";
      status.textContent = `${shown.size} of ${fits.length} cards` +
        (isFiltered ? `, filtered from ${cards.length}` : "");
      clear.disabled = !isFiltered;
      more.hidden = fits.length <= limit;
      more.textContent = `Show ${Math.min(STEP, fits.length - limit)} more`;
      find("#none").hidden = fits.length > 0;
      for (const button of choosers) {
        button.setAttribute("aria-pressed", String(isFiltered &&
          button.dataset.given === given.value && button.dataset.suggested === suggested.value));
      }
    };
    const choose = (one, other) => {
      given.value = one;
      suggested.value = other;
      limit = STEP;
      show();
    };

    for (const button of choosers) {
      button.addEventListener("click", () => {
        const isOn = button.getAttribute("aria-pressed") === "true";
        choose(isOn ? "" : button.dataset.given, isOn ? "" : button.dataset.suggested);
        const deck = find(".deck").getBoundingClientRect();
        if (!isOn && deck.top > innerHeight * 0.8) find(".deck").scrollIntoView();
      });
    }
    for (const list of [given, suggested]) {
      list.addEventListener("change", () => { limit = STEP; show(); });
    }
    clear.addEventListener("click", () => choose("", ""));
    more.addEventListener("click", () => {
      const next = limit;
      limit += STEP;
      show();
      const first = cards.filter((card) => !card.hidden)[next];
      first?.setAttribute("tabindex", "-1");
      first?.focus({ preventScroll: true });
    });
    find(".filter").addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !clear.disabled) choose("", "");
    });
    find(".filter").hidden = false;
    show();
  }

  // The map: one stop for the Tab key, arrows from number to number.
  const lines = all(".map tbody tr").map((line) => all("td", line).map((cell) => cell.firstElementChild));
  const cells = lines.flat().filter(Boolean);
  cells.forEach((cell, number) => { cell.tabIndex = number ? -1 : 0; });
  const focus = (cell) => {
    for (const other of cells) other.tabIndex = other === cell ? 0 : -1;
    cell.focus();
  };
  const WAYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  find(".map")?.addEventListener("keydown", (event) => {
    const way = WAYS[event.key];
    let row = lines.findIndex((line) => line.includes(event.target));
    if (!way || row < 0) return;
    let column = lines[row].indexOf(event.target);
    event.preventDefault();
    do {
      row += way[0];
      column += way[1];
      if (lines[row]?.[column] === undefined) return;
    } while (!lines[row][column]);
    focus(lines[row][column]);
  });
  find(".map")?.addEventListener("click", (event) => {
    if (cells.includes(event.target)) focus(event.target);
  });

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

  // Commands: with the folder that the page lies in, and a button to take them along.
  const quoted = (path) => /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
  const folder = location.protocol === "file:"
    ? decodeURIComponent(location.pathname).replace(/\/[^/]*$/, "").replace(/^\/(?=[A-Za-z]:)/, "")
    : "";
  for (const command of all(".command")) {
    if (folder) {
      command.textContent = command.textContent.split(" ")
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
