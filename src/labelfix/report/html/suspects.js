// The suspects: a filter, so many at a time, the large view, and ticks that become decisions.
(() => {
  const find = (selector) => document.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const STEP = 24;
  const cards = all(".card");
  if (!cards.length) return;
  const data = JSON.parse(find("#data").textContent);

  // A filter by given and suggested label, and so many cards at a time.
  const given = find("#filter-given"), suggested = find("#filter-suggested");
  const clear = find("#clear"), more = find("#more"), status = find("#shown");
  const choosers = all(".confusion button[data-given]");
  let limit = STEP;

  const fitting = (within = cards) => within.filter((card) =>
    (given.value === "" || card.dataset.given === given.value) &&
    (suggested.value === "" || card.dataset.suggested === suggested.value));
  const show = () => {
    const fits = fitting();
    const shown = new Set(fits.slice(0, limit));
    for (const card of cards) {
      card.hidden = !shown.has(card);
      card.classList.remove("later");
    }
    for (const band of all(".band")) {
      const fit = fitting(all(".card", band));
      band.hidden = !all(".card", band).some((card) => shown.has(card));
      band.querySelector(".tally").textContent = fit.length.toLocaleString("en");
      band.querySelector(".accept-all").textContent =
        fit.length === 1 ? "Accept it" : `Accept all ${fit.length.toLocaleString("en")}`;
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
    fitting()[next]?.querySelector(".enlarge").focus({ preventScroll: true });
  });
  find(".filter").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !dialog.open && !clear.disabled) choose("", "");
  });

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

  // Ticks: kept in this browser under the name of the run, and written as decisions.
  const key = `labelfix-ticks-${data.run}`;
  const placeOf = new Map(data.samples.map((name, place) => [name, place]));
  const read = () => {
    try {
      const kept = Object.entries(JSON.parse(localStorage.getItem(key)) ?? {});
      return new Map(kept.filter(([name, tick]) =>
        placeOf.has(name) && ["accept", "keep"].includes(tick?.choice)));
    } catch {
      return new Map();  // nothing is kept here, or it cannot be read
    }
  };
  let ticks = read(), cleared = null, isKept = true;
  const keep = () => {
    try {
      localStorage.setItem(key, JSON.stringify(Object.fromEntries(ticks)));
      isKept = true;
    } catch {
      isKept = false;
    }
  };
  const count = (number, word) => `${number.toLocaleString("en")} ${word}`;
  const tell = () => {
    cards.forEach((card, place) => mark(card, place));
    if (dialog.open) mark(find("#large-card").firstElementChild, current);
    const choices = [...ticks.values()].map((tick) => tick.choice);
    const accepted = choices.filter((choice) => choice === "accept").length;
    find("#ticked").textContent = !ticks.size
      ? "Tick Accept or Keep on cards; ticks stay in this browser."
      : `${count(accepted, "accepted")}, ${count(ticks.size - accepted, "kept")}, ` +
        `${count(cards.length - ticks.size, "left")}.` +
        (isKept ? "" : " This browser keeps nothing: download before you leave.");
    find("#download").disabled = !ticks.size;
    find("#untick").disabled = !ticks.size && !cleared;
    find("#untick").textContent = cleared ? "Undo" : "Clear ticks";
    find("#then").hidden = !ticks.size;
    find("#tray").classList.toggle("some", ticks.size > 0);
  };
  const mark = (card, place) => {
    const choice = ticks.get(data.samples[place])?.choice ?? "";
    card.dataset.choice = choice;
    for (const button of all("[data-tick]", card)) {
      button.setAttribute("aria-pressed", String(button.dataset.tick === choice));
    }
  };
  const tick = (places, choice, isToggle) => {
    const at = new Date().toISOString();
    cleared = null;
    for (const place of places) {
      const name = data.samples[place];
      if (isToggle && ticks.get(name)?.choice === choice) ticks.delete(name);
      else ticks.set(name, { choice, at });
    }
    keep();
    tell();
  };
  const line = ([name, { choice, at }]) => {
    const card = cards[placeOf.get(name)];
    const label = choice === "accept" ? data.labels[card.dataset.suggested] : "null";
    return `{"sample_id": ${JSON.stringify(name)}, ` +
      `"decision": "${choice === "accept" ? "relabel" : "keep"}", "label": ${label}, ` +
      `"decided_at": ${JSON.stringify(String(at))}, "decided_by": null, "flagged": true, ` +
      `"batch": null}\n`;
  };
  find("#download").addEventListener("click", () => {
    const link = document.createElement("a");
    const file = new Blob([...ticks].map(line), { type: "application/x-ndjson" });
    link.href = URL.createObjectURL(file);
    link.download = "decisions.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
  find("#untick").addEventListener("click", () => {
    const restored = cleared;
    cleared = restored ? null : ticks;
    ticks = restored ?? new Map();
    keep();
    tell();
  });
  addEventListener("storage", (event) => {
    if (event.key !== key) return;
    ticks = read();  // another tab shows the same run
    tell();
  });
  for (const button of all(".accept-all")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const fits = fitting(all(".card", button.closest(".band")));
      tick(fits.map((card) => cards.indexOf(card)), "accept", false);
    });
  }

  // The large view: a copy of the card, with arrows to the others that the filter leaves.
  const dialog = find("#large");
  let current = 0;
  const enlarge = (place) => {
    current = place;
    const copy = cards[place].cloneNode(true);
    copy.hidden = false;
    const large = document.createElement("div");
    large.className = "card";
    large.dataset.choice = copy.dataset.choice ?? "";
    large.append(...copy.childNodes);
    const photo = large.querySelector(".enlarge");
    photo.replaceWith(...photo.childNodes);
    find("#large-card").replaceChildren(large);
    const fits = fitting(), number = fits.indexOf(cards[place]);
    find("#large-place").textContent = number < 0 ? "" : `${number + 1} of ${fits.length}`;
    // not "disabled", which would take the keys away with the focus
    find("#large-back").ariaDisabled = String(number <= 0);
    find("#large-on").ariaDisabled = String(number < 0 || number === fits.length - 1);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
  const step = (by) => {
    const fits = fitting(), number = fits.indexOf(cards[current]);
    const next = number < 0 ? undefined : fits[number + by];
    if (next) enlarge(cards.indexOf(next));
  };
  find("#large-back").addEventListener("click", () => step(-1));
  find("#large-on").addEventListener("click", () => step(1));
  find("#large-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1),
      s: () => tick([current], "accept", true), k: () => tick([current], "keep", true),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  dialog.addEventListener("close", () => {
    const tile = find(`#classes.open button[data-card="${current}"]`);
    (tile ?? cards[current].querySelector(".enlarge")).focus();
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-tick], .enlarge, [data-card]");
    if (!button) return;
    if (button.dataset.card) return enlarge(Number(button.dataset.card));
    const card = button.closest(".card");
    const place = dialog.contains(card) ? current : cards.indexOf(card);
    if (button.dataset.tick) tick([place], button.dataset.tick, true);
    else enlarge(place);
  });

  for (const group of all(".ticks")) group.hidden = false;
  find("#tray").hidden = false;
  find(".filter").hidden = false;
  show();
  tell();
})();
