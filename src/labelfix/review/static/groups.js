// Sets of copies side by side: one label for all, all but one dropped, or kept as they are.
"use strict";

const SETS = 5;           // fetched at a time
const COPIES_SHOWN = 48;  // tiles of one set; what is decided holds for all of it

const WHICH = {
  all: "all", contradicting: "with different labels", leaking: "in several splits", identical: "byte-identical",
};

const groups = {
  list: [],             // the sets of this view so far
  here: 0,              // which of them is shown
  member: 0,            // which of its copies is chosen
  more: 0,
  asked: 0,
};

async function openGroups(which = at("groups-which").value || "all", row = null) {
  if (!state.start.groups.all) { say("The report knows of no copies."); return; }
  at("groups-which").value = which;
  const asked = ++groups.asked;
  leaveView("groups");
  state.since = performance.now();
  const found = await ask(groupsQuery(-1));
  const first = row === null ? [] : (await ask(`/api/groups?row=${row}`)).groups;
  if (asked !== groups.asked || document.body.dataset.mode !== "groups") return;
  const others = found.groups.filter((group) => !first.some((one) => one.place === group.place));
  Object.assign(groups, { list: [...first, ...others], here: 0, more: found.more });
  showProgressOf(found);
  showGroup();
}

// The row of a sample that has copies: its set is shown first.
function rowWithCopies(item) {
  const isShown = ["single", "grid"].includes(document.body.dataset.mode);
  return isShown && item?.issues.some((kind) => kind.endsWith("duplicate")) ? item.row : null;
}

function groupsQuery(after) {
  const query = new URLSearchParams({
    which: at("groups-which").value, state: at("state").value, limit: SETS, after, tab: TAB,
  });
  for (const id of ["class", "split"]) if (at(id).value) query.set(id, at(id).value);
  return `/api/groups?${query}`;
}

async function loadMoreGroups() {
  const last = groups.list.at(-1);
  if (!groups.more || groups.loading || !last) return;
  const asked = groups.asked;
  groups.loading = true;
  try {
    const found = await ask(groupsQuery(last.place));
    if (asked !== groups.asked) return;
    const held = new Set(groups.list.map((group) => group.place));
    groups.list.push(...found.groups.filter((group) => !held.has(group.place)));
    groups.more = found.more;
    showProgressOf(found);
  } finally {
    groups.loading = false;
  }
}

const groupHere = () => groups.list[groups.here];
const copyHere = () => groupHere()?.members[groups.member];

async function showGroup() {
  const group = groupHere();
  document.body.dataset.group = group ? group.place : "";
  if (!group) {
    at("zoom-dialog").close();
    openFinish(`You have seen all sets of copies in this view. ${elsewhereText()}` +
      "Export below, choose another view above, or look again at what you skipped.").catch(alarm);
    return;
  }
  document.body.dataset.row = String(group.members[0].row);
  groups.member = bestCopy(group);
  showWhatSet(group);
  at("copies").replaceChildren(...group.members.slice(0, COPIES_SHOWN).map(copyTile));
  const rest = group.members.length - COPIES_SHOWN;
  at("copies-more").textContent = rest > 0 ? `and ${number(rest)} more, for which your decision holds too` : "";
  at("group-classes").replaceChildren(...group.classes.map(([code, share], index) => classButton(code, share, index)));
  at("groups").scrollTop = 0;
  goToCopy(groups.member);
  window.scrollTo(0, 0);
  if (groups.here > groups.list.length - 3) loadMoreGroups().catch(alarm);
}

// The copy whose label is least probably wrong, of those that stay.
function bestCopy(group) {
  const doubt = (item) => (item.decision?.action === "drop" ? 2 : 0) + (item.probability ?? 1);
  const shown = group.members.slice(0, COPIES_SHOWN);
  return shown.reduce((best, item, place) => doubt(item) < doubt(shown[best]) ? place : best, 0);
}

function showWhatSet(group) {
  const noun = group.is_identical ? "byte-identical copies" : "near-duplicates";
  const chips = [element("span", `${number(group.members.length)} ${noun}`)];
  const labels = new Set(group.members.filter((item) => labelOf(item) !== null).map(labelOf));
  if (labels.size > 1) chips.push(element("span", group.is_identical ? "different labels: at most one is right" : "different labels", "warn"));
  if (group.is_leaking) chips.push(element("span", "in several splits", "warn"));
  if (group.members.every((item) => item.decision)) chips.push(element("span", "decided; another key changes it", "check"));
  at("groups-what").replaceChildren(...chips);
}

// The label that a copy has now; null if it is dropped or has none.
function labelOf(item) {
  if (item.decision?.action === "drop") return null;
  if (item.decision?.action === "relabel") return String(item.decision.label);
  return item.given < 0 ? null : nameOf(item.given);
}

function copyTile(item, place) {
  const tile = emptyTile(item, "radio", () => goToCopy(place));
  const labels = element("span", undefined, "tile-labels");
  labels.append(element("b", nameOf(item.given), "given"));
  if (item.probability !== null) labels.append(` wrong: ${percent(item.probability)}`);
  const facts = [item.sample_id, item.split === null ? "" : `split ${item.split}`].filter(Boolean).join(", ");
  const said = item.decision ? phrase(item.decision) : "undecided";
  tile.append(labels, element("span", facts, "tile-name muted"), element("span", said, "tile-choice"));
  tile.title = item.sample_id;
  tile.dataset.choice = item.decision ? item.decision.action : "none";
  tile.setAttribute("aria-label", `${item.sample_id}, given ${nameOf(item.given)}, ${said}` + (item.split === null ? "" : `, split ${item.split}`));
  return tile;
}

function classButton(code, share, index) {
  const button = element("button");
  button.type = "button";
  button.append(element("span", nameOf(code), "class"), element("kbd", String(index + 1)));
  button.title = `The model gives ${nameOf(code)} ${percent(share)} on average`;
  button.addEventListener("click", () => labelAll(code));
  return button;
}

function goToCopy(place) {
  const tiles = [...at("copies").children];
  if (!tiles.length) return;
  groups.member = Math.min(Math.max(place, 0), tiles.length - 1);
  tiles.forEach((tile, index) => {
    tile.setAttribute("aria-checked", String(index === groups.member));
    tile.tabIndex = index === groups.member ? 0 : -1;
  });
  tiles[groups.member].focus();
  at("group-drop").title = `Drop all but ${copyHere().sample_id}`;
  refreshZoom();
}

function goToCopyRow(step) {
  const tiles = [...at("copies").children];
  const below = tiles.findIndex((tile) => tile.offsetTop > tiles[0].offsetTop);
  const place = groups.member + step * (below < 0 ? tiles.length : below);
  if (place >= 0 && place < tiles.length) goToCopy(place);
}

function moveGroup(step) {
  if (state.busy) return;
  groups.here = Math.min(Math.max(groups.here + step, 0), groups.list.length);
  showGroup();
}

// ---- deciding -------------------------------------------------------------------------------

const isOpen = (item) => !item.decision || item.decision.action === "unsure";

function labelAll(code) {
  const group = groupHere();
  if (!group || code < 0) return;
  const staying = group.members.filter((item) => item.decision?.action !== "drop");
  decideGroup(staying.map((item) => ({ item, ...chosen(item, code) })), `all ${nameOf(code)}`);
}

function keepAll() {
  decideGroup(groupHere()?.members.filter(isOpen).map((item) => ({ item, action: "keep" })), "kept as they are");
}

function unsureAll() {
  decideGroup(groupHere()?.members.filter((item) => !item.decision).map((item) => ({ item, action: "unsure" })), "not sure");
}

function dropOthers() {
  const kept = copyHere();
  if (!kept) return;
  const others = groupHere().members.filter((item) => item !== kept && item.decision?.action !== "drop");
  const wanted = others.map((item) => ({ item, action: "drop", as_copy: true }));
  if (isOpen(kept) || kept.decision.action === "drop") wanted.push({ item: kept, action: "keep" });
  decideGroup(wanted, `${counted(others.length, "copy").replace("copys", "copies")} dropped, ${kept.sample_id} stays`);
}

async function decideGroup(wanted, said) {
  if (!wanted || state.busy) return;
  if (!wanted.length) { moveGroup(1); return; }
  state.busy = true;
  alarm(null);
  try {
    const decisions = wanted.map(({ item, ...decision }) => ({
      row: item.row, sample_id: item.sample_id, seen: item.decision ? item.decision.decided_at : null, ...decision,
    }));
    const wasOpen = !groupHere().members.every((item) => item.decision);
    const done = await ask("/api/decide", { decisions, batch: true, reviewer: at("reviewer").value });
    if (done.changed_count) { remember(done.changed); state.since = performance.now(); }
    progress(done.progress);
    await takeInGroup(done);
    if (done.conflict_count) {
      say(`${number(done.conflict_count)} of these were decided meanwhile in another tab; press the key again to change that.`);
      showGroup();
      return;
    }
    if (wasOpen) { state.viewDecided += 1; drawProgress(); }
    say(said);
    groups.here += 1;
    showGroup();
  } catch (error) {
    alarm(error);
  } finally {
    state.busy = false;
  }
}

// Takes in what became of samples; an answer names the first of very many only.
async function takeInGroup(done) {
  takeIn(done.changed);
  const fresh = new Map([...done.changed, ...done.conflicts].map((item) => [item.row, item]));
  for (const group of groups.list) {
    for (const item of group.members) if (fresh.has(item.row)) Object.assign(item, fresh.get(item.row));
  }
  const group = groupHere();
  if (!group || done.changed_count + done.conflict_count <= fresh.size) return;
  Object.assign(group, (await ask(`/api/groups?row=${group.members[0].row}`)).groups[0]);
}

function undoGroup() {
  return undoLast(async (done) => {
    const row = done.changed[0].row;
    let there = groups.list.findIndex((group) => group.members.some((item) => item.row === row));
    const fresh = (await ask(`/api/groups?row=${row}`)).groups[0];
    takeIn(done.changed);
    if (fresh && there < 0) { there = groups.here; groups.list.splice(there, 0, fresh); }
    if (fresh) { groups.list[there] = fresh; groups.here = there; }
    state.viewDecided = Math.max(0, state.viewDecided - 1);
    drawProgress();
    showGroup();
    say(`taken back: ${counted(done.changed_count, "decision")}`);
  });
}

const GROUP_KEYS = {
  k: keepAll, s: () => { const first = groupHere()?.classes[0]; if (first) labelAll(first[0]); },
  d: dropOthers, u: unsureAll, z: undoGroup, Backspace: undoGroup,
  c: () => chooseForGroup(), "/": () => chooseForGroup(),
  ArrowLeft: () => goToCopy(groups.member - 1), ArrowRight: () => goToCopy(groups.member + 1),
  ArrowUp: () => goToCopyRow(-1), ArrowDown: () => goToCopyRow(1),
  Home: () => goToCopy(0), End: () => goToCopy(COPIES_SHOWN),
  b: () => moveGroup(-1), PageUp: () => moveGroup(-1), n: () => moveGroup(1), PageDown: () => moveGroup(1),
  " ": () => zoom(copyHere()), e: () => zoom(copyHere()),
  Escape: () => leaveGrid(), p: () => leaveGrid(), g: () => { openGrid().catch(alarm); },
  f: () => { openFinish("").catch(alarm); }, "?": () => at("help-dialog").showModal(),
};

function chooseForGroup() {
  const group = groupHere();
  if (group) openClasses(group.classes.map(([code]) => code), labelAll);
}

function groupKey(event, key) {
  if (event.target.tagName === "BUTTON" && ["Enter", " "].includes(key)) return;  // they press it
  const offered = /^[1-9]$/.test(key) ? groupHere()?.classes[Number(key) - 1] : undefined;
  pressOf(event, offered ? () => labelAll(offered[0]) : GROUP_KEYS[key]);
}

function wireGroups() {
  const clicks = {
    "group-keep": keepAll, "group-drop": dropOthers, "group-choose": chooseForGroup, "group-unsure": unsureAll,
    "groups-undo": undoGroup, "groups-back": () => moveGroup(-1), "groups-skip": () => moveGroup(1), "groups-leave": () => leaveGrid(),
  };
  for (const [id, action] of Object.entries(clicks)) at(id).addEventListener("click", action);
  const held = Object.entries(WHICH).filter(([which]) => state.start.groups[which]);
  at("groups-which").replaceChildren(...held.map(([which, text]) => {
    const option = element("option", `${text} (${number(state.start.groups[which])})`);
    option.value = which;
    return option;
  }));
  at("groups-which").addEventListener("change", () => { at("groups-which").blur(); openGroups().catch(alarm); });
  at("open-groups").hidden = !state.start.groups.all;
}
