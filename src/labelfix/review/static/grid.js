// Many samples at once: each is accepted, kept or left, and all are decided as one batch.
"use strict";

const TILES = 24;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWX";  // of the tiles; with Shift they go to one
const SURE = 0.9;  // a suggestion at least so probable is accepted beforehand

const grid = {
  pair: null,           // given and suggested class; null is all, by probability
  passed: new Set(),    // the pairs that were gone through, with what was left of them
  after: -1,            // the place after which this page begins
  pages: [],            // where the pages before began, to go back to
  items: [],
  choices: [],          // what is to become of each: null, or an action with its label
  before: [],           // the choices before each change, to take it back
  here: 0,
  more: 0,
  asked: 0,
};

async function openGrid(pair = null) {
  if (state.items[0]?.is_hidden) { say("Labels are hidden: decide one sample at a time."); return; }
  Object.assign(grid, { pair, after: -1, pages: [], passed: new Set() });
  await showGridPage();
}

async function showGridPage() {
  const asked = ++grid.asked;
  leaveView("grid");
  state.since = performance.now();
  const query = viewQuery(TILES, grid.after, grid.pair);
  const [found, pairs] = await Promise.all([ask(query), ask("/api/pairs")]);
  if (asked !== grid.asked || document.body.dataset.mode !== "grid") return;
  showPairs(pairs.pairs);
  state.elsewhere = found.elsewhere;
  if (!found.items.length) { await leavePair(pairs.pairs); return; }
  if (!grid.pair) showProgressOf(found);
  Object.assign(grid, { items: found.items, choices: found.items.map(preset), before: [], here: 0, more: found.more });
  document.body.dataset.row = String(found.items[0].row);
  at("tiles").replaceChildren(...found.items.map(tileOf));
  at("grid").scrollTop = 0;
  grid.items.forEach((_, place) => drawTile(place));
  drawChoices();
  goToTile(0);
  window.scrollTo(0, 0);
}

// A pair that is gone through leads to the next one; when there is none, to the end.
async function leavePair(pairs) {
  if (!grid.pair) {
    openFinish(`You have seen all that is undecided in this view. ${elsewhereText()}` + "Export below, choose another view above, or look again at what you left.").catch(alarm);
    return;
  }
  grid.passed.add(keyOf(grid.pair));
  const next = pairs.find((pair) => !grid.passed.has(keyOf(pair))) || null;
  Object.assign(grid, { pair: next, after: -1 });
  say(next ? `Next: ${nameOf(next.given)} \u2192 ${nameOf(next.suggested)}` : "Every pair is gone through: what is left, by probability.");
  await showGridPage();
}

const keyOf = (pair) => pair ? `${pair.given},${pair.suggested}` : "";

function showPairs(pairs) {
  const lines = pairs.map((pair) => [keyOf(pair), `${nameOf(pair.given)} \u2192 ${nameOf(pair.suggested)} (${number(pair.count)})`]);
  if (grid.pair && !pairs.some((pair) => keyOf(pair) === keyOf(grid.pair))) {
    lines.unshift([keyOf(grid.pair), `${nameOf(grid.pair.given)} \u2192 ${nameOf(grid.pair.suggested)}`]);
  }
  fill(at("grid-pair"), "all, the surest errors first", lines);
  at("grid-pair").value = keyOf(grid.pair);
}

function preset(item) {
  return item.suggested_probability !== null && item.suggested_probability >= SURE ? accepted(item) : null;
}

function accepted(item) {
  return firstClass(item) < 0 ? null : chosen(item, firstClass(item));
}

function chosen(item, code) {
  return code === item.given ? { action: "keep" } : { action: "relabel", label: code };
}

// ---- tiles ----------------------------------------------------------------------------------

// A tile that shows a sample and nothing of its labels.
function emptyTile(item, role, onClick) {
  const tile = element("div");
  tile.className = "tile";
  tile.setAttribute("role", role);
  tile.addEventListener("click", onClick);
  if (state.start.has_pictures || state.start.has_texts) {
    const shown = preview(item.row, "");
    shown.addEventListener("load", pictureLoaded);
    tile.append(shown);
  } else {
    tile.append(element("span", item.sample_id, "snippet"));
  }
  return tile;
}

function tileOf(item, place) {
  const tile = emptyTile(item, "button", () => { goToTile(place); cycleTile(); });
  const labels = element("span", undefined, "tile-labels");
  labels.append(element("span", nameOf(item.given), "given"));
  if (item.suggested >= 0) labels.append(" \u2192 ", element("span", nameOf(item.suggested), "suggested"), ` ${percent(item.suggested_probability)}`);
  labels.title = item.sample_id;
  tile.append(labels, element("span", "", "tile-choice"), element("kbd", LETTERS[place], "tile-letter"));
  return tile;
}

function saidOf(item, choice) {
  if (!choice) return "undecided";
  if (choice.action === "relabel") return `${choice.label === item.suggested ? "accept" : "take"} ${nameOf(choice.label)}`;
  return { keep: `keep ${nameOf(item.given)}`, unsure: "not sure", drop: "drop" }[choice.action];
}

function drawTile(place) {
  const [item, choice, tile] = [grid.items[place], grid.choices[place], at("tiles").children[place]];
  const said = saidOf(item, choice);
  tile.dataset.choice = choice ? choice.action : "none";
  tile.querySelector(".tile-choice").textContent = said;
  const suggested = item.suggested < 0 ? "no suggestion" : `suggested ${nameOf(item.suggested)}, ${percent(item.suggested_probability)}`;
  tile.setAttribute("aria-label", `${said}. ${item.sample_id}, given ${nameOf(item.given)}, ${suggested}`);
  tile.tabIndex = place === grid.here ? 0 : -1;
}

function goToTile(place) {
  const tiles = at("tiles").children;
  if (!tiles.length) return;
  tiles[grid.here].tabIndex = -1;
  grid.here = Math.min(Math.max(place, 0), tiles.length - 1);
  tiles[grid.here].tabIndex = 0;
  tiles[grid.here].focus();
  refreshZoom();
}

function columns() {
  const tiles = [...at("tiles").children];
  const below = tiles.findIndex((tile) => tile.offsetTop > tiles[0].offsetTop);
  return below < 0 ? tiles.length : below;
}

function change(choices, next) {
  grid.before.push({ choices: grid.choices, here: grid.here });
  grid.choices = choices;
  redraw();
  at("grid-said").textContent = saidOf(grid.items[grid.here], grid.choices[grid.here]);
  if (next) goToTile(grid.here + 1); else refreshZoom();
}

function redraw() {
  grid.items.forEach((_, place) => drawTile(place));
  drawChoices();
}

function setTile(choice, next = true) {
  if (state.busy || !grid.items.length) return;
  change(grid.choices.map((held, place) => place === grid.here ? choice : held), next);
}

function cycleTile() {
  const item = grid.items[grid.here];
  const held = grid.choices[grid.here];
  const taken = accepted(item);
  const turn = [null, ...(taken && taken.action !== "keep" ? [taken] : []), { action: "keep" }];
  const place = turn.findIndex((choice) => (choice && choice.action) === (held && held.action));
  setTile(turn[(place + 1) % turn.length], false);
}

function acceptTile() {
  const item = grid.items[grid.here];
  if (accepted(item)) setTile(accepted(item));
  else say("There is no suggestion: keep the label with k, or choose a class by its number.");
}

function acceptAll() {
  change(grid.choices.map((held, place) => held || accepted(grid.items[place])), false);
}

// Goes to a tile whose label is right: it is kept. The same key once more accepts the suggestion.
function keepAt(place) {
  if (state.busy || place >= grid.items.length) return;
  goToTile(place);
  const [item, held] = [grid.items[place], grid.choices[place]];
  setTile(held && held.action === "keep" ? accepted(item) : { action: "keep" }, false);
}

async function acceptAndApply() {
  if (state.busy) return;
  acceptAll();
  await applyGrid();
}

// ---- applying -------------------------------------------------------------------------------

function drawChoices() {
  const count = (test) => grid.choices.filter(test).length;
  const parts = [
    ["accept", count((c) => c && c.action === "relabel")], ["keep", count((c) => c && c.action === "keep")],
    ["drop", count((c) => c && c.action === "drop")], ["not sure", count((c) => c && c.action === "unsure")],
    ["leave", count((c) => !c)],
  ].filter(([, many]) => many).map(([name, many]) => `${name} ${many}`);
  at("grid-apply-text").textContent = `Apply: ${parts.join(", ")}`;
  at("grid-more").textContent = grid.more ? `${number(grid.more)} more after these` : "the last ones";
}

async function applyGrid() {
  if (state.busy || !grid.items.length) return;
  state.busy = true;
  alarm(null);
  try {
    const decisions = grid.items.map((item, place) => ({ row: item.row, sample_id: item.sample_id, seen: null, ...grid.choices[place] }))
      .filter((decision) => decision.action);
    let said = "Nothing was decided.";
    if (decisions.length) {
      const done = await ask("/api/decide", { decisions, batch: true, reviewer: at("reviewer").value });
      if (done.changed_count) { remember(done.changed); keepPace(done.changed_count); }
      progress(done.progress);
      said = `${number(done.changed_count)} decided` +
        (done.conflict_count ? `; ${number(done.conflict_count)} were decided in another tab and stay as they are` : "");
    }
    say(said);
    grid.pages.push({ pair: grid.pair, after: grid.after, isDecided: decisions.length > 0 });
    grid.after = grid.items.at(-1).place;
    await showGridPage();
  } catch (error) {
    alarm(error);
  } finally {
    state.busy = false;
  }
}

// Takes back the last change on this page, or else the page before, decided or not.
async function undoGrid() {
  if (state.busy) return;
  const last = grid.before.pop();
  if (last) {
    grid.choices = last.choices;
    redraw();
    goToTile(last.here);
    return;
  }
  state.busy = true;
  try {
    const page = grid.pages.pop();
    if (!page || page.isDecided) await takeBack();
    Object.assign(grid, page ? { pair: page.pair, after: page.after } : { after: -1 });
    if (page && page.pair) grid.passed.delete(keyOf(page.pair));
    await showGridPage();
  } catch (error) {
    alarm(error);
  } finally {
    state.busy = false;
  }
}

async function takeBack() {
  const mine = state.mine.pop();
  writeMine();
  const done = await ask("/api/undo", mine ? { decisions: mine } : {});
  progress(done.progress);
  say(done.changed_count ? `taken back: ${number(done.changed_count)} decisions` : "There is nothing to undo.");
}

function leaveGrid() {
  openView().then(focusMode).catch(alarm);
}

const GRID_KEYS = {
  s: acceptTile, k: () => setTile({ action: "keep" }), d: () => setTile({ action: "drop" }), u: () => setTile({ action: "unsure" }),
  c: chooseForTile, "/": chooseForTile,
  " ": cycleTile, a: acceptAll, Enter: applyGrid, z: undoGrid, Backspace: undoGrid,
  ArrowLeft: () => goToTile(grid.here - 1), ArrowRight: () => goToTile(grid.here + 1),
  ArrowUp: () => goToRow(-1), ArrowDown: () => goToRow(1), Home: () => goToTile(0), End: () => goToTile(TILES),
  e: () => zoom(grid.items[grid.here]), Escape: leaveGrid, g: leaveGrid, p: () => KEYS.p(),
  f: () => { openFinish("").catch(alarm); }, "?": () => at("help-dialog").showModal(),
};

function chooseForTile() {
  const item = grid.items[grid.here];
  if (!item) return;
  const likely = [item.suggested, ...item.top.map(([code]) => code)].filter((code) => code >= 0);
  openClasses(likely, (code) => setTile(chosen(item, code)));
}

function goToRow(step) {
  const place = grid.here + step * columns();
  if (place >= 0 && place < grid.items.length) goToTile(place);
}

function gridKey(event, key) {
  if (event.target.tagName === "BUTTON" && ["Enter", " "].includes(key)) return;  // they press it
  const item = grid.items[grid.here];
  const wanted = /^[1-9]$/.test(key) && item ? item.top[Number(key) - 1] : undefined;
  const letter = event.shiftKey ? LETTERS.indexOf(key.toUpperCase()) : -1;
  if (key.length === 1 && letter >= 0) { pressOf(event, () => keepAt(letter)); return; }
  if (key === "Enter" && event.shiftKey) { pressOf(event, acceptAndApply); return; }
  pressOf(event, wanted ? () => setTile(chosen(item, wanted[0])) : GRID_KEYS[key]);
}

function wireGrid() {
  const clicks = { "grid-apply": applyGrid, "grid-all": acceptAll, "grid-accept": acceptAndApply, "grid-undo": undoGrid, "grid-back": leaveGrid };
  for (const [id, action] of Object.entries(clicks)) at(id).addEventListener("click", action);
  at("grid-pair").addEventListener("change", () => {
    const [given, suggested] = at("grid-pair").value.split(",").map(Number);
    openGrid(at("grid-pair").value ? { given, suggested } : null).catch(alarm);
  });
}
