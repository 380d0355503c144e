// Choosing a class by typing: its words in any order; likely and recent classes first.
"use strict";

const CLASSES_SHOWN = 60;
const RECENT = 8;        // classes that were chosen last

const picker = {
  likely: [],           // codes that the model holds for likely, the first ones first
  choose: null,         // told the code
  choices: [],          // the codes that are listed
  choice: 0,            // which of them is picked
};

function openClasses(likely, choose) {
  Object.assign(picker, { likely, choose });
  at("class-search").value = "";
  listClasses();
  at("class-dialog").showModal();
  at("class-search").focus();
}

function readRecent() {
  try { return JSON.parse(sessionStorage.getItem("labelfix-classes")) || []; } catch { return []; }
}
function noteRecent(code) {
  const codes = [code, ...readRecent().filter((other) => other !== code)].slice(0, RECENT);
  try { sessionStorage.setItem("labelfix-classes", JSON.stringify(codes)); } catch { /* not allowed */ }
}

// Classes that hold every word; those whose words begin with them first, then likely, then recent ones.
function matches(text) {
  const wanted = text.trim().toLocaleLowerCase();
  const parts = wanted.split(/[\s_-]+/).filter(Boolean);
  const recent = readRecent();
  const rank = (codes, code) => { const place = codes.indexOf(code); return place < 0 ? codes.length : place; };
  const found = [];
  state.start.classes.forEach((name, code) => {
    const lower = String(name).toLocaleLowerCase();
    if (!lower.includes(wanted) && !parts.every((part) => lower.includes(part))) return;
    const begins = lower.split(/[\s_-]+/);
    const fit = !wanted || lower === wanted ? 0 : lower.startsWith(wanted) ? 1
      : parts.every((part) => begins.some((word) => word.startsWith(part))) ? 2 : 3;
    found.push([fit, rank(picker.likely, code), rank(recent, code), wanted ? lower.length : 0, code]);
  });
  found.sort((a, b) => a.map((value, place) => value - b[place]).find((difference) => difference) ?? 0);
  return found.map((entry) => entry.at(-1));
}

function listClasses() {
  const found = matches(at("class-search").value);
  const recent = readRecent();
  picker.choices = found.slice(0, CLASSES_SHOWN);
  at("class-list").replaceChildren(...picker.choices.map((code, index) => {
    const line = element("li", nameOf(code));
    const why = picker.likely.includes(code) ? "likely" : recent.includes(code) ? "recent" : "";
    if (why) line.append(element("span", why, "why"));
    line.id = `class-${index}`;
    line.setAttribute("role", "option");
    line.addEventListener("click", () => chooseClass(index));
    return line;
  }));
  const rest = found.length - picker.choices.length;
  at("class-more").textContent = !found.length ? "No class is called that."
    : rest > 0 ? `and ${number(rest)} more: type to narrow it down` : "";
  pickClass(0);
}

function pickClass(index) {
  picker.choice = Math.min(Math.max(index, 0), picker.choices.length - 1);
  [...at("class-list").children].forEach((line, place) => line.setAttribute("aria-selected", String(place === picker.choice)));
  const picked = at("class-list").children[picker.choice];
  if (picked) picked.scrollIntoView({ block: "nearest" });
  at("class-search").setAttribute("aria-activedescendant", picked ? picked.id : "");
}

function chooseClass(index) {
  if (!(index in picker.choices)) return;
  at("class-dialog").close();
  noteRecent(picker.choices[index]);
  picker.choose(picker.choices[index]);
}

function classKey(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) { pickClass(picker.choice + step); event.preventDefault(); }
  if (event.key === "Enter" && !event.isComposing) { chooseClass(picker.choice); event.preventDefault(); }
}

function wireClasses() {
  at("class-search").addEventListener("input", listClasses);
  at("class-search").addEventListener("keydown", classKey);
}
