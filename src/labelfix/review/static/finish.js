// The end of a review: before and after, what is left, and the export.
"use strict";

const finish = { found: null, asked: 0, hasTyped: false };

async function openFinish(text) {
  leaveView("finish");
  at("end-text").textContent = text || "";
  at("finish-title").textContent = text ? "Nothing more to show here" : "Finish";
  at("export-result").replaceChildren();
  at("finish").focus({ preventScroll: true });
  at("finish").scrollTop = 0;
  await Promise.all([refreshFinish(), refreshRetrain()]);
}

async function refreshFinish() {
  const asked = ++finish.asked;
  const query = new URLSearchParams({ min_probability: at("export-sure").value || "0.95", drop: at("export-drop").checked });
  const found = await ask(`/api/finish?${query}`);
  if (asked !== finish.asked) return;
  finish.found = found;
  showBeforeAfter(found);
  showClassEnds(found);
  showConflicts(found);
  showUntouched(found);
  showFormats(found);
  progress(found);
}

function row(head, ...cells) {
  const line = element("tr");
  const first = element("th", head);
  first.scope = "row";
  line.append(first, ...cells.map((text) => element("td", text)));
  return line;
}

function showBeforeAfter(found) {
  const said = (share, interval) => share === null ? "not known" : `about ${percent(share)}` +
    (interval ? `, between ${percent(interval[0])} and ${percent(interval[1])}` : "");
  at("before-after").replaceChildren(
    row("Wrong labels (estimated)", said(found.noise_rate, found.noise_rate_interval), said(found.rate_after, found.rate_after_interval)),
    row("Flagged labels", number(found.flagged), `${number(found.undecided)} without a decision`),
    row("Samples", number(found.samples), number(found.samples - found.left_out)),
  );
  at("decided-counts").replaceChildren(...["keep", "relabel", "drop", "unsure"].map((action) => {
    const item = element("li");
    item.append(element("b", number(found[action])), ` ${PHRASE[action]}`);
    return item;
  }));
  const byAudit = found.changed_by_audit;
  at("will-change").textContent = `The export changes ${counted(found.changed, "label")}` +
    (byAudit ? `, ${number(byAudit)} of them without a decision because the audit is sure` : "") +
    (found.left_out ? `, and leaves out ${counted(found.left_out, "sample")}.` : ".");
}

const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

function showClassEnds(found) {
  at("class-ends").hidden = !found.classes.length;
  at("class-ends-body").replaceChildren(...found.classes.map((end) =>
    row(String(end.name) || "(empty name)", ...[end.before, end.away, end.to, end.dropped, end.after].map(number))));
  at("class-ends-more").textContent = found.other_classes ? `and ${counted(found.other_classes, "class").replace("classs", "classes")} more` : "";
}

function showConflicts(found) {
  at("conflicts").hidden = !found.conflict_count;
  at("conflicts-text").textContent = found.conflict_count === 1
    ? "One set of byte-identical samples still has different labels; at most one of them can be right:"
    : `${number(found.conflict_count)} sets of byte-identical samples still have different labels; at most one label a set can be right:`;
  at("conflicts-list").replaceChildren(...found.conflicts.map((copies) => {
    const line = element("li");
    copies.forEach((copy, place) => {
      if (place) line.append(" and ");
      line.append(copy.sample_id, " ", element("b", copy.label === null ? "(no label)" : String(copy.label), "given"));
    });
    return line;
  }));
  at("show-conflicts").hidden = !state.start.groups.contradicting;
}

function showUntouched(found) {
  const { count, would_change: steps } = found.untouched;
  at("untouched").textContent = !count ? "No flagged label is left untouched."
    : `${counted(count, "flagged label")} ${count === 1 ? "is" : "are"} left untouched, as nobody decided and the audit is less sure. ` +
      (steps.length ? `A lower value would change ${steps.map(([p, many]) => `${number(many)} at ${p}`).join(", ")}.`
        : "No lower value would change any.");
}

const FORMATS = {
  own: "as the data came", folder: "a folder for each class", csv: "CSV table", parquet: "Parquet table",
  jsonl: "JSON Lines table", huggingface: "Hugging Face data set", cleanlab: "Cleanlab table of issues",
  "label-studio": "Label Studio tasks", fiftyone: "FiftyOne data set", argilla: "Argilla records",
};

function showFormats(found) {
  const chosen = at("export-format").value || found.formats[0];
  at("export-format").replaceChildren(...found.formats.map((name) => {
    const option = element("option", `${name}: ${FORMATS[name] || name}`);
    option.value = name;
    return option;
  }));
  at("export-format").value = chosen;
  if (!finish.hasTyped) at("export-to").value = found.places[chosen];
  showCommand();
}

// As a POSIX shell reads it: what is not plainly safe stands in single quotes.
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\"'\"'")}'`;
}

function showCommand() {
  const parts = ["labelfix", "export", state.start.run, at("export-to").value, "--format", at("export-format").value];
  if (Number(at("export-sure").value) !== 0.95) parts.push("--min-probability", at("export-sure").value);
  if (at("export-drop").checked) parts.push("--drop");
  if (at("export-replace").checked) parts.push("--overwrite");
  at("export-command").textContent = parts.map(quoted).join(" ");
}

async function copyCommand(id) {
  try {
    await navigator.clipboard.writeText(at(id).textContent);
    say("The command is copied.");
  } catch {
    getSelection().selectAllChildren(at(id));
    say("The command is selected: copy it with Ctrl-C.");
  }
}

async function runExport(event) {
  event.preventDefault();
  const button = at("export-run");
  if (button.disabled || state.start.is_shared) return;
  button.disabled = true;
  button.textContent = "Writing…";
  at("export-result").className = "";
  at("export-result").textContent = "Writing the data set. Large ones take some minutes; you may go on reviewing.";
  try {
    const done = await ask("/api/export", {
      to: at("export-to").value, format: at("export-format").value, min_probability: Number(at("export-sure").value),
      drop: at("export-drop").checked, overwrite: at("export-replace").checked,
    });
    const said = [`Wrote ${done.to}`, `${number(done.changed)} of ${counted(done.rows, "label")} changed, ${counted(done.dropped, "sample")} left out.`];
    if (done.without_image) said.push(`${counted(done.without_image, "sample")} left out as they cannot be read.`);
    if (done.test_rows) said.push(`${counted(done.test_rows, "sample")} of a test split stay as they came.`);
    tellExport("done", [...said, ...done.notes.map((note) => `Note: ${note}`)]);
  } catch (error) {
    tellExport("failed", [error.message, ...(error.hint ? [`What to do: ${error.hint}`] : [])]);
  } finally {
    button.disabled = false;
    button.textContent = "Export";
  }
}

function tellExport(kind, lines) {
  at("export-result").className = kind;
  at("export-result").replaceChildren(...lines.map((line) => element("p", line)));
}

function showConflictSamples() {
  at("state").value = "all";
  openGroups("contradicting").catch(alarm);
}

// A page that a network can reach writes no files: it says by which command to do that.
function leaveWritingToCommand() {
  at("export-run").hidden = true;
  at("export-by-command").textContent = "A page that a network can reach writes no data sets. Run this command on the machine of the review:";
}

function wireFinish() {
  if (state.start.is_shared) leaveWritingToCommand();
  at("export-form").addEventListener("submit", (event) => { runExport(event).catch(alarm); });
  at("export-copy").addEventListener("click", () => copyCommand("export-command"));
  at("show-conflicts").addEventListener("click", showConflictSamples);
  at("export-to").addEventListener("input", () => { finish.hasTyped = true; showCommand(); });
  at("export-replace").addEventListener("change", showCommand);
  at("export-format").addEventListener("change", () => {
    finish.hasTyped = false;
    at("export-to").value = finish.found.places[at("export-format").value];
    showCommand();
  });
  for (const id of ["export-sure", "export-drop"]) {
    at(id).addEventListener("change", () => { if (at(id).checkValidity()) refreshFinish().catch(alarm); });
  }
}
