// The page to decide in. Names come from outside: they are only ever set as text.
"use strict";

const PAGE = 20;        // samples fetched at a time
const PREFETCH = 4;     // pictures loaded before they are needed
const PACE = 30;        // decisions whose median time foretells the rest

const TAB = nameOfTab();  // what this tab has in hand is shown in no other one

const at = (id) => document.getElementById(id);
const state = {
  start: null,          // what the server says once
  items: [],            // the samples of this view so far, in their order
  here: 0,              // which of them is shown
  more: 0,              // how many come after them
  total: 0,
  busy: false,          // a decision is on its way to the disk
  mine: readMine(),     // what this tab has decided, to take back one after the other
  version: null,        // how often the decisions have changed, by anybody
  view: 0,              // rises with every new view, so that late answers are dropped
  since: 0,             // when the sample was shown that is decided next
  pace: [],             // seconds that each of the last decisions took
};

// ---- talking to the server ------------------------------------------------------------------

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Labelfix-Token": state.start.token },
    body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is `labelfix review` still running? " +
      "Nothing that was shown as decided is lost.");
  }
  const isJson = (answer.headers.get("Content-Type") || "").startsWith("application/json");
  if (!answer.ok) {
    const fault = isJson ? await answer.json() : { error: await answer.text() };
    throw Object.assign(new Error(fault.error || `the server said ${answer.status}`), { hint: fault.hint });
  }
  return answer.json();
}

function pictureOf(row, size) {
  return `/picture/${row}/${size}?v=${state.start.version}`;
}

function viewQuery(limit, after, pair) {
  const query = new URLSearchParams({ kind: at("kind").value, state: at("state").value, limit, after, tab: TAB });
  if (document.body.dataset.mode === "grid") query.set("state", "undecided");
  if (!at("checks").checked) query.set("checks", "false");
  if (pair) {
    query.set("kind", "label");
    query.set("given", pair.given);
    query.set("suggested", pair.suggested);
  }
  if (at("class").value) query.set("class", at("class").value);
  if (at("split").value) query.set("split", at("split").value);
  return `/api/queue?${query}`;
}

// ---- small helpers --------------------------------------------------------------------------

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function nameOf(code) {
  return code === null || code < 0 ? "no label" : String(state.start.classes[code]) || "(empty name)";
}

// What a page may show of a sample whose label is hidden: its name may hold the label.
const shownName = (item) => item.is_hidden ? "a sample drawn at random" : item.sample_id;
const shownGiven = (item) => item.is_hidden ? "hidden" : nameOf(item.given);

const percent = (value) => value === null ? "?" : value > 0.995 && value < 1 ? "over 99\u00a0%"
  : value < 0.005 && value > 0 ? "under 1\u00a0%" : `${Math.round(100 * value)}\u00a0%`;
const number = (value) => Number(value).toLocaleString("en");
const words = (kind) => kind.replaceAll("_", " ");

function say(text) { at("message").textContent = text; clearTimeout(say.timer); say.timer = setTimeout(() => { at("message").textContent = ""; }, 4000); }
function alarm(error) { at("alarm").textContent = error ? error.message : ""; }

function nameOfTab() {
  const fresh = [...crypto.getRandomValues(new Uint32Array(4))].join("-");
  try {
    sessionStorage.setItem("labelfix-tab", sessionStorage.getItem("labelfix-tab") || fresh);
    return sessionStorage.getItem("labelfix-tab");
  } catch {
    return fresh;
  }
}

function readName() {
  try { return localStorage.getItem("labelfix-reviewer") || ""; } catch { return ""; }
}
function writeName(name) {
  try { localStorage.setItem("labelfix-reviewer", name); } catch { /* asked again next time */ }
}

function readMine() {
  try { return JSON.parse(sessionStorage.getItem("labelfix-mine")) || []; } catch { return []; }
}
function writeMine() {
  try { sessionStorage.setItem("labelfix-mine", JSON.stringify(state.mine.slice(-500))); } catch { /* full: undo then asks the log */ }
}

const PHRASE = { keep: "kept", relabel: "relabeled", unsure: "not sure", drop: "dropped" };
function phrase(decision) {
  return decision.action === "relabel" ? `relabeled ${decision.label}` : PHRASE[decision.action];
}

// ---- the view -------------------------------------------------------------------------------

async function openView() {
  const view = ++state.view;
  if (["grid", "groups"].includes(document.body.dataset.mode)) setMode("single");
  state.since = performance.now();
  const found = await ask(viewQuery(PAGE, -1));
  if (view !== state.view) return;
  Object.assign(state, { items: found.items, here: 0, more: found.more, total: found.total });
  showProgressOf(found);
  show();
}

async function loadMore() {
  const last = state.items.findLast((item) => item.place !== undefined);
  if (!state.more || state.loading || !last) return;
  const view = state.view;
  state.loading = true;
  try {
    const found = await ask(viewQuery(PAGE, last.place));
    if (view !== state.view) return;
    const held = new Set(state.items.map((item) => item.row));
    state.items.push(...found.items.filter((item) => !held.has(item.row)));
    state.more = found.more;
    showProgressOf(found);
  } finally {
    state.loading = false;
  }
}

function showProgressOf(found) {
  state.elsewhere = found.elsewhere;
  state.total = found.total;
  state.viewDecided = found.decided;
  drawProgress();
}

function drawProgress() {
  const bar = at("progress-bar");
  bar.setAttribute("aria-valuemax", state.total);
  bar.setAttribute("aria-valuenow", state.viewDecided);
  bar.setAttribute("aria-valuetext", `${number(state.viewDecided)} of ${number(state.total)} decided`);
  at("progress-done").style.width = `${state.total ? 100 * state.viewDecided / state.total : 0}%`;
}

// One of "single", "grid", "groups" and "finish": samples one by one, many at once, copies, or the end.
function setMode(mode) {
  showMenu(false);
  document.body.dataset.mode = mode;
  for (const id of ["stage", "sample"]) at(id).hidden = mode !== "single";
  for (const id of ["grid", "groups", "finish"]) at(id).hidden = mode !== id;
}

// Leaves the samples one by one: an answer for them that comes late opens them no more.
function leaveView(mode) {
  state.view += 1;
  setMode(mode);
}

function focusMode() {
  if (document.body.dataset.mode === "grid") goToTile(grid.here);
  else if (document.body.dataset.mode === "groups") goToCopy(groups.member);
  else at(document.body.dataset.mode === "finish" ? "finish" : "sample").focus({ preventScroll: true });
}

function show() {
  const item = state.items[state.here];
  setMode(item ? "single" : "finish");
  at("stage").classList.toggle("empty", !item);
  at("picture-frame").hidden = !item || !state.start.has_pictures;
  at("no-picture").hidden = !item || state.start.has_pictures || state.start.has_texts;
  at("text").hidden = !item || !state.start.has_texts;
  at("near").hidden = !item || !state.start.has_neighbors;
  at("neighbors").replaceChildren();
  at("picture-fault").hidden = true;
  document.body.dataset.row = item ? item.row : "";
  if (!item) { at("zoom-dialog").close(); showEnd(); return; }
  window.scrollTo(0, 0);
  showMore(false);
  showLabels(item);
  showPicture(item);
  showText(item);
  showNeighbors(item);
  prefetch();
  if (state.here > state.items.length - 8) loadMore().catch(alarm);
}

function showEnd() {
  const filtered = at("state").value === "undecided" ? "You have seen all that is undecided in this view"
    : "You have seen all of this view";
  openFinish(`${filtered}: ${number(state.viewDecided ?? 0)} of ${number(state.total)} decided. ` + elsewhereText() +
    "Export below, choose another view above, or look again at what you skipped.").catch(alarm);
}

function elsewhereText() {
  return state.elsewhere ? `${counted(state.elsewhere, "sample")} ${state.elsewhere === 1 ? "is" : "are"} in the hands of another tab. ` : "";
}

function changeView() {
  const open = { grid: openGrid, groups: openGroups }[document.body.dataset.mode];
  return open ? open() : openView();
}

function backToSamples() {
  if (!state.items.length) { openView().catch(alarm); return; }
  state.here = Math.min(state.here, state.items.length - 1);
  show();
  at("sample").focus({ preventScroll: true });
}

// The class that one key takes: the suggested one, or else the model's first one; -1 if there is none.
function firstClass(item) {
  return item.suggested >= 0 ? item.suggested : item.top[0]?.[0] ?? -1;
}

function showLabels(item) {
  const flags = item.issues.map((kind) => element("span", words(kind) + " issue"));
  if (item.is_check) flags.unshift(element("span", item.is_flagged ? "random check among the flags" : "random check, no flag", "check"));
  if (item.split !== null) flags.push(element("span", `split ${item.split}`));
  at("flag").replaceChildren(...flags);
  at("given").textContent = shownGiven(item);
  at("suggested-line").hidden = item.suggested < 0;
  at("suggested").textContent = item.suggested < 0 ? "" : nameOf(item.suggested);
  at("chance").textContent = item.is_hidden ? "Drawn at random for a certificate: which class is it? Its label and what the model says are not shown."
    : item.is_blind ? "Drawn at random for a certificate: is this label right? What the model says is not shown."
    : item.probability === null ? "This label was not scored."
    : `Wrong with a probability of ${percent(item.probability)}.`;
  at("keep-name").textContent = shownGiven(item);
  at("keep").disabled = item.is_hidden === true;
  const first = firstClass(item);
  at("take-name").textContent = first < 0 ? "a suggestion (there is none)" : nameOf(first);
  at("take").disabled = first < 0;
  at("decided").hidden = !item.decision;
  at("decided").textContent = item.decision && item.is_hidden ? "Decided. Another key changes it." : item.decision ? `Decided: ${phrase(item.decision)}` +
    (item.decision.decided_by ? ` by ${item.decision.decided_by}` : "") + ". Another key changes it." : "";
  at("top").replaceChildren(...item.top.map(([code, share], index) => topLine(item, code, share, index)));
  at("reason").textContent = item.reason || "";
  at("name").textContent = shownName(item);
  at("big-name").textContent = shownName(item);
  refreshZoom();
}

function topLine(item, code, share, index) {
  const line = element("li");
  const button = element("button");
  button.type = "button";
  const name = element("span", nameOf(code), "class" + (item.is_hidden ? "" : code === item.given ? " given" : code === item.suggested ? " suggested" : ""));
  const bar = element("span", undefined, "bar");
  bar.append(element("i"));
  bar.firstChild.style.width = `${100 * (share ?? 0)}%`;
  if (!item.is_blind) button.title = `The network's own probability, before it is known how often labels are wrong: ${percent(share)}`;
  button.append(name, bar, element("kbd", String(index + 1)));
  button.addEventListener("click", () => decideClass(code));
  line.append(button);
  return line;
}

function showPicture(item) {
  if (!state.start.has_pictures) return;
  const picture = at("picture");
  picture.alt = item.is_hidden ? shownName(item) : `${item.sample_id}, given as ${nameOf(item.given)}`;
  picture.classList.remove("tiny");
  picture.src = pictureOf(item.row, "large");
}

function showText(item) {
  if (!state.start.has_texts) return;
  at("text").textContent = "";
  at("text").scrollTop = 0;
  const isWanted = () => state.items[state.here] === item;
  fillText(at("text"), item.row, "large", isWanted).then(() => markWords(item, isWanted));
}

// Marks the words that speak for the given class or for the suggested one; the text stays as it is.
async function markWords(item, isWanted) {
  at("words-said").hidden = true;
  if (!state.start.has_words || item.given < 0 || item.suggested < 0) return;
  let parts;
  try {
    const answer = await fetch(`/api/words/${item.row}?other=${item.suggested}`);
    if (!answer.ok) return;
    parts = (await answer.json()).parts;
  } catch {
    return;  // the text is there without marks
  }
  if (!isWanted() || parts.length < 2 && parts[0]?.[1] == null) return;
  at("text").replaceChildren(...parts.map(([text, code]) =>
    code === null ? document.createTextNode(text) : element("mark", text, code === item.given ? "given" : "suggested")));
  at("words-said").hidden = false;
}

async function fillText(into, row, size, isWanted) {
  let text;
  try {
    const answer = await fetch(pictureOf(row, size));
    text = answer.ok ? await answer.text() : (await answer.json()).error;
  } catch {
    text = "The sample cannot be shown.";
  }
  if (isWanted()) into.textContent = text;
}

function preview(row, alt) {
  const shown = element(state.start.has_texts ? "span" : "img");
  if (state.start.has_texts) {
    shown.className = "snippet";
    fillText(shown, row, "small", () => true);
  } else {
    shown.src = pictureOf(row, "small");
    shown.alt = alt;
  }
  return shown;
}

function pictureLoaded(event) {
  event.target.classList.toggle("tiny", event.target.naturalWidth <= 48 && event.target.naturalHeight <= 48);
}

async function pictureFailed() {
  const item = state.items[state.here];
  if (!item) return;
  at("picture-frame").hidden = true;
  at("picture-fault").hidden = false;
  at("picture-fault").textContent = "The image cannot be shown.";
  await ask(pictureOf(item.row, "large")).catch((error) => { at("picture-fault").textContent = error.message; });
}

function prefetch() {
  if (!state.start.has_pictures) return;
  state.held = state.items.slice(state.here + 1, state.here + 1 + PREFETCH).map((item) => {
    const picture = new Image();
    picture.src = pictureOf(item.row, "large");
    return picture;
  });
}

async function showNeighbors(item) {
  if (!state.start.has_neighbors || item.is_blind) return;
  const found = await ask(`/api/sample/${item.row}`).catch(() => null);
  if (!found || state.items[state.here] !== item || !found.neighbors.length) return;
  at("neighbors").replaceChildren(...found.neighbors.map((near) => {
    const label = near.decision && near.decision.action === "relabel" ? String(near.decision.label) : nameOf(near.given);
    const line = element("li");
    if (label === nameOf(item.given)) line.classList.add("is-given");
    else if (item.suggested >= 0 && label === nameOf(item.suggested)) line.classList.add("is-suggested");
    if (state.start.has_pictures || state.start.has_texts) line.append(preview(near.row, near.sample_id));
    const name = element("span", label);
    name.title = near.sample_id;
    line.append(name, element("span", near.similarity.toFixed(2), "muted"));
    return line;
  }));
}

// ---- deciding -------------------------------------------------------------------------------

async function decide(action, label) {
  const item = state.items[state.here];
  if (!item || state.busy) return;
  state.busy = true;
  alarm(null);
  try {
    const seen = item.decision ? item.decision.decided_at : null;
    const wanted = { row: item.row, sample_id: item.sample_id, action, label, seen };
    const done = await ask("/api/decide", { decisions: [wanted], reviewer: at("reviewer").value });
    if (done.conflict_count) {
      Object.assign(item, done.conflicts[0]);
      show();
      say("Decided meanwhile in another tab; press the key again to change that.");
      return;
    }
    takeIn(done.changed);
    remember(done.changed);
    keepPace(1);
    progress(done.progress);
    if (!seen) { state.viewDecided += 1; drawProgress(); }
    say(item.is_hidden ? "noted" : `${phrase(done.changed[0].decision)}: ${item.sample_id}`);
    state.here += 1;
    show();
  } catch (error) {
    alarm(error);
  } finally {
    state.busy = false;
  }
}

function keep() {
  if (state.items[state.here]?.is_hidden) say("The label is hidden: choose the class that you see.");
  else decide("keep");
}

function decideClass(code) {
  const item = state.items[state.here];
  if (!item || code < 0) return;
  if (code === item.given) decide("keep"); else decide("relabel", code);
}

function takeIn(changed) {
  const fresh = new Map(changed.map((item) => [item.row, item]));
  for (const item of state.items) if (fresh.has(item.row)) Object.assign(item, fresh.get(item.row));
}

function remember(changed) {
  state.mine.push(changed.map((item) => ({ row: item.row, sample_id: item.sample_id, decided_at: item.decision.decided_at })));
  writeMine();
}

// Takes back what this tab decided last; ``shown`` then shows what that changed.
async function undoLast(shown) {
  if (state.busy) return;
  state.busy = true;
  alarm(null);
  try {
    const mine = state.mine.pop();
    writeMine();
    const done = await ask("/api/undo", { ...(mine ? { decisions: mine } : {}), reviewer: at("reviewer").value });
    progress(done.progress);
    if (!done.changed_count) {
      say(mine ? "That was changed meanwhile in another tab; it stays." : "There is nothing to undo.");
      return;
    }
    await shown(done);
  } catch (error) {
    alarm(error);
  } finally {
    state.busy = false;
  }
}

function undo() {
  return undoLast(async (done) => {
    takeIn(done.changed);
    if (done.changed_count === 1) goTo(done.changed[0]); else await openView();
    state.viewDecided = Math.max(0, state.viewDecided - 1);
    drawProgress();
    say(done.changed_count === 1 ? `taken back: ${shownName(done.changed[0])}` : `taken back: ${number(done.changed_count)} decisions`);
  });
}

function goTo(item) {
  const there = state.items.findIndex((other) => other.row === item.row);
  if (there >= 0) state.here = there; else state.items.splice(state.here, 0, item);
  show();
}

function move(step) {
  state.here = Math.min(Math.max(state.here + step, 0), state.items.length);
  show();
}

// ---- progress and estimate ------------------------------------------------------------------

function progress(counts) {
  state.version = counts.version;
  at("tally").textContent = `${number(counts.suspects_decided)} of ${counted(counts.suspects, "suspect")} decided` +
    `${paceText(counts.suspects - counts.suspects_decided)} (${number(counts.keep)} kept, ${number(counts.relabel)} relabeled, ${number(counts.unsure)} not sure, ${number(counts.drop)} dropped` +
    " in all)";
  state.counts = counts;
  state.decided = counts.keep + counts.relabel + counts.unsure + counts.drop;
  clearTimeout(progress.timer);
  progress.timer = setTimeout(() => { refreshEstimate().catch(() => {}); }, 250);
}

// Takes the time since the last decision as that of these.
function keepPace(count) {
  const now = performance.now();
  const each = (now - state.since) / 1000 / count;
  state.pace = [...state.pace, ...Array(Math.min(count, PACE)).fill(each)].slice(-PACE);
  state.since = now;
}

function paceText(left) {
  if (state.pace.length < 3) return "";
  const median = state.pace.toSorted((a, b) => a - b)[Math.floor(state.pace.length / 2)];
  const each = `, ${median < 10 ? median.toFixed(1) : Math.round(median)} s each`;
  const minutes = Math.max(1, Math.round(median * left / 60));
  if (!left) return each;
  return each + (minutes === 1 ? ", 1 minute left" : minutes < 100 ? `, ${minutes} minutes left` : `, ${(minutes / 60).toFixed(1)} hours left`);
}

function range(count) {
  return count.low === count.high ? number(count.low) : `${number(count.low)} to ${number(count.high)}`;
}

async function refreshEstimate() {
  const found = await ask("/api/estimate");
  at("right").textContent = `${range(found.right_flags)} of ${number(found.flagged)}`;
  at("left-flagged").textContent = range(found.left_flagged);
  at("left-unflagged").textContent = range(found.left_unflagged);
  const base = state.decided ? "" : " Nothing is decided yet: this rests on the report alone.";
  const advice = at("advice");
  advice.classList.toggle("stop", !found.is_worth_it);
  advice.textContent = found.next_share === null
    ? `Every suspect is decided. Each range holds the truth with a probability of 90 %.${base}`
    : found.is_worth_it
      ? `Of the next 50 suspects about ${percent(found.next_share)} should be right. Each range holds the truth with a probability of 90 %.${base}`
      : `It is no longer worth going on: of the next 50 suspects only about ${percent(found.next_share)} should be right, below one in ten.`;
}

async function watchOthers() {
  if (document.hidden || state.busy) return;
  try {
    const counts = await ask(`/api/progress?tab=${TAB}`);
    if (counts.version === state.version) return;
    progress(counts);
    if (document.body.dataset.mode === "finish") await Promise.all([refreshFinish(), refreshRetrain()]);
    const item = state.items[state.here];
    if (!item) return;
    const fresh = await ask(`/api/sample/${item.row}`);
    if (state.busy || state.items[state.here] !== item) return;
    if (JSON.stringify(fresh.decision) !== JSON.stringify(item.decision)) {
      item.decision = fresh.decision;
      showLabels(item);
    }
  } catch { /* the next decision will tell */ }
}

// ---- keys, and the start --------------------------------------------------------------------

// The sample that keys act on: [the sample, what is chosen for it but not applied yet].
function itemHere() {
  const { mode } = document.body.dataset;
  if (mode === "grid") return [grid.items[grid.here], grid.choices[grid.here]];
  return [mode === "groups" ? copyHere() : state.items[state.here], null];
}

function zoom(item) {
  if (!item || !state.start.has_pictures) return;
  at("zoom-dialog").showModal();
  refreshZoom();
}

// Keeps the enlarged picture that of the sample that keys act on, with its labels.
function refreshZoom() {
  const [item, choice] = itemHere();
  if (!at("zoom-dialog").open || !item) return;
  const source = pictureOf(item.row, "full");
  if (at("zoomed").getAttribute("src") !== source) at("zoomed").src = source;
  at("zoomed").alt = item.is_hidden ? shownName(item) : `${item.sample_id}, given as ${nameOf(item.given)}`;
  const said = choice ? saidOf(item, choice) : item.decision ? phrase(item.decision) : "undecided";
  at("zoom-labels").replaceChildren(element("b", shownGiven(item), "given"));
  if (item.suggested >= 0) at("zoom-labels").append(" \u2192 ", element("b", nameOf(item.suggested), "suggested"));
  at("zoom-labels").append(item.is_hidden ? "" : `: ${said}. ${item.sample_id}`);
}

// On a narrow page: what stands behind "More".
function showMore(isOpen) {
  document.body.classList.toggle("more", isOpen);
  at("more").setAttribute("aria-expanded", String(isOpen));
}

function showMenu(isOpen) {
  document.body.classList.toggle("menu", isOpen);
  at("menu").setAttribute("aria-expanded", String(isOpen));
}

const KEYS = {
  k: keep,
  s: () => takeSuggested(),
  c: () => chooseForItem(), "/": () => chooseForItem(),
  u: () => decide("unsure"),
  d: () => decide("drop"),
  z: undo, Backspace: undo,
  ArrowLeft: () => move(-1), ArrowRight: () => move(1),
  " ": () => zoom(state.items[state.here]),
  g: () => { openGrid().catch(alarm); },
  p: () => { openGroups(undefined, rowWithCopies(itemHere()[0])).catch(alarm); },
  f: () => { openFinish("").catch(alarm); },
  "?": () => at("help-dialog").showModal(),
};

const ZOOM_KEYS = /^([1-9skudzc/bn]|Backspace|Arrow(Left|Right|Up|Down))$/;  // those that work while a picture is enlarged

const FINISH_KEYS = {
  z: undo, Backspace: undo, Escape: backToSamples, ArrowLeft: backToSamples, f: backToSamples, g: KEYS.g, p: KEYS.p, "?": KEYS["?"],
};

function chooseForItem() {
  const item = state.items[state.here];
  if (item) openClasses([item.suggested, ...item.top.map(([code]) => code)].filter((code) => code >= 0), decideClass);
}

function takeSuggested() {
  const item = state.items[state.here];
  if (item && firstClass(item) >= 0) decideClass(firstClass(item));
  else if (item) say("There is no suggestion: choose a class with c, or keep the label with k.");
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (!state.start || document.querySelector("dialog[open]:not(#zoom-dialog)")) return;
  if (["SELECT", "INPUT"].includes(event.target.tagName)) return;
  const onButton = event.target.tagName === "BUTTON" && event.target.id !== "picture-frame";
  if (onButton && event.key === " ") return;  // space presses a button that has the focus
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (at("zoom-dialog").open && !ZOOM_KEYS.test(key)) {
    if ([" ", "e"].includes(key)) pressOf(event, () => at("zoom-dialog").close());
    return;
  }
  if (document.body.dataset.mode === "finish") { pressOf(event, FINISH_KEYS[key]); return; }
  if (document.body.dataset.mode === "grid") { gridKey(event, key); return; }
  if (document.body.dataset.mode === "groups") { groupKey(event, key); return; }
  const item = state.items[state.here];
  const choice = /^[1-9]$/.test(key) && item ? item.top[Number(key) - 1] : undefined;
  pressOf(event, choice ? () => decideClass(choice[0]) : KEYS[key]);
}

function pressOf(event, action) {
  if (!action) return;
  event.preventDefault();
  action();
}

function fill(select, first, entries) {
  const options = [["", first], ...entries].filter(([, text]) => text !== null);
  select.replaceChildren(...options.map(([value, text]) => {
    const option = element("option", text);
    option.value = value;
    return option;
  }));
}

function wire() {
  const clicks = {
    keep: KEYS.k, take: KEYS.s, choose: KEYS.c, unsure: KEYS.u, drop: KEYS.d, undo, "undo-end": undo, "open-finish": KEYS.f, "finish-back": backToSamples,
    back: KEYS.ArrowLeft, skip: KEYS.ArrowRight, again: () => { openView().catch(alarm); },
    "open-grid": KEYS.g, "open-groups": KEYS.p, "open-help": KEYS["?"],
    more: () => showMore(!document.body.classList.contains("more")), menu: () => showMenu(!document.body.classList.contains("menu")), "picture-frame": KEYS[" "],
    "zoom-close": () => at("zoom-dialog").close(), "help-close": () => at("help-dialog").close(),
  };
  for (const [id, action] of Object.entries(clicks)) at(id).addEventListener("click", action);
  for (const id of ["kind", "class", "split", "state", "checks"]) {
    at(id).addEventListener("change", () => { at(id).blur(); showMenu(false); changeView().catch(alarm); });
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", focusMode);
  }
  at("reviewer").addEventListener("change", () => writeName(at("reviewer").value));
  at("name-dialog").addEventListener("close", askName);  // Escape closes it, and a decision needs a name
  at("name-form").addEventListener("submit", takeName);
  at("reviewer").addEventListener("keydown", (event) => { if (event.key === "Enter") focusMode(); });
  wireFinish();
  wireRetrain();
  wireGrid();
  wireGroups();
  wireClasses();
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("picture").addEventListener("load", pictureLoaded);
  at("picture").addEventListener("error", () => { pictureFailed(); });
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", watchOthers);
  setInterval(watchOthers, 5000);
}

// Of several people each says who it is before the first decision.
function askName() {
  if (state.start.is_shared && !at("reviewer").value.trim()) at("name-dialog").showModal();
}

function takeName(event) {
  event.preventDefault();
  const name = at("name-asked").value.trim();
  if (!name) return;
  at("reviewer").value = name;
  writeName(name);
  at("name-dialog").close();
}

async function begin() {
  history.replaceState(null, "", "/");  // the key stays out of the address bar and the history
  state.start = await ask("/api/start");
  at("run").textContent = state.start.run;
  at("run").title = state.start.run;
  at("why-nothing").textContent = state.start.why_nothing_shown || "";
  document.title = `Review ${state.start.run}`;
  at("reviewer").value = state.start.reviewer || readName();
  fill(at("kind"), null, []);
  const kinds = Object.entries(state.start.kinds).filter(([kind, count]) => count || kind === "label");
  at("kind").replaceChildren(...kinds.map(([kind, count]) => {
    const text = kind === "label" ? "suspects" : kind === "random_sample" ? "random sample" : kind === "all" ? "all samples" : `${words(kind)} issues`;
    const option = element("option", `${text} (${number(count)})`);
    option.value = kind;
    return option;
  }));
  fill(at("class"), "all", state.start.classes.map((name, code) => [code, nameOf(code)]));
  fill(at("split"), "all", state.start.splits.map((name, code) => [code, name]));
  at("split").parentElement.hidden = !state.start.splits.length;
  wire();
  await openView();
  progress(await ask("/api/progress"));
  at("sample").focus({ preventScroll: true });
  askName();
}

begin().catch(alarm);
