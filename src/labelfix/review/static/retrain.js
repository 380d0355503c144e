// Training again on the decisions: what that would show, how far it is, and what it found.
"use strict";

const RETRAIN_EVERY = 1000;  // milliseconds between two questions while it goes on

async function refreshRetrain() {
  clearTimeout(refreshRetrain.timer);
  const found = await ask("/api/retrain");
  showRetrain(found);
  if (found.stage !== "running") return;
  refreshRetrain.timer = setTimeout(() => { refreshRetrain().then(tellRetrain).catch(alarm); }, RETRAIN_EVERY);
}

function aboutSeconds(seconds) {
  if (seconds < 55) return `about ${Math.max(5, 5 * Math.round(seconds / 5))} seconds`;
  return seconds < 90 ? "about a minute" : `about ${Math.round(seconds / 60)} minutes`;
}

function showRetrain(found) {
  const isRunning = found.stage === "running";
  at("retrain").dataset.stage = found.stage;
  at("retrain-what").textContent = retrainWhat(found);
  at("retrain-run").disabled = isRunning || found.why_not !== null;
  at("retrain-run").textContent = isRunning ? "Looking…" : found.stage === "done" ? "Look again with my decisions" : "Look for more with my decisions";
  at("retrain-said").className = found.stage;
  at("retrain-said").replaceChildren(...retrainLines(found).map((line) => element("p", line)));
  at("retrain-open").hidden = found.stage !== "done";
  if (found.stage === "done") at("retrain-command").textContent = found.found.command;
}

function retrainWhat(found) {
  if (found.why_not !== null) return `Training again on your decisions is not possible here: ${found.why_not}.`;
  return "Train again on your decisions, and see which labels look wrong only then. It runs beside the review, in a folder of its own, and changes nothing here" +
    (found.seconds === null ? "." : `; ${aboutSeconds(found.seconds)} if the features are still cached.`) +
    (found.is_other_model ? " This run trained networks. To be quick, heads are trained here, so some of what they find is due to that." : "");
}

function retrainLines(found) {
  if (found.stage === "running") return [`${number(Math.round(found.elapsed))} s: ${found.doing || "loading libraries"}`];
  if (found.stage === "failed") return [found.error, ...(found.hint ? [`What to do: ${found.hint}`] : [])];
  if (found.stage !== "done") return [];
  const { new: fresh, still, cleared, decided } = found.found;
  return [
    `${counted(fresh, "new suspect")} when trained with ${counted(decided, "decision")}: neither flagged nor decided before.`,
    `Of the undecided flags ${number(still)} ${still === 1 ? "stays" : "stay"}, and ${number(cleared)} no longer ${cleared === 1 ? "looks" : "look"} wrong.`,
  ];
}

function tellRetrain() {
  const { stage } = at("retrain").dataset;
  if (stage === "running" || document.body.dataset.mode === "finish") return;
  say(stage === "done" ? `${at("retrain-said").firstChild.textContent} See Finish.` : "Training again has failed: see Finish.");
}

async function runRetrain() {
  at("retrain-run").disabled = true;
  try {
    await ask("/api/retrain", {});
  } catch (error) {
    alarm(error);
  }
  await refreshRetrain();
}

function wireRetrain() {
  at("retrain-run").addEventListener("click", () => { runRetrain().catch(alarm); });
  at("retrain-copy").addEventListener("click", () => copyCommand("retrain-command"));
}
