"""Exports as work for people: tasks of Label Studio, records of Argilla; both are JSON lists."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from xml.etree import ElementTree

import pyarrow as pa

from labelfix.exports.folder import TakenImage, take_image
from labelfix.exports.plan import ExportPlan
from labelfix.report.view import ReportView
from labelfix.types import DatasetSource, Label, SampleStore
from labelfix.utils.files import atomic_path
from labelfix.utils.progress import OnProgress, Progress

TaskFormat = Literal["label-studio", "argilla"]

_COLUMNS = (
    "sample_id", "split", "given_label", "suggested_label", "suggested_label_probability",
    "is_label_issue", "label_score",
)  # fmt: skip
_SERVED = "/data/local-files/?d="  # where Label Studio serves files below its document root
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of an export on its way to people.

    Args:
        report: What the report says, by `_COLUMNS`; ``None`` where it says nothing.
        decision: What was decided, by name of column; ``None`` likewise.
        image: The image.
        source: The data it is of.
    """

    report: dict[str, Any]
    decision: dict[str, Any]
    image: TakenImage
    source: DatasetSource

    @property
    def label(self) -> Label | None:
        """Return the label to propose: the decided one, the suggested one, else the given one."""
        if self.is_decided:
            return self.decision["final_label"]  # type: ignore[no-any-return]
        suggested = self.report["suggested_label"]
        return self.report["given_label"] if suggested is None else suggested  # type: ignore[no-any-return]

    @property
    def is_decided(self) -> bool:
        """Return whether somebody was sure; what nobody is sure of is proposed as suggested."""
        return self.decision["decision"] in ("keep", "relabel")

    @property
    def known(self) -> dict[str, Any]:
        """Return what the report and the decision say, without what they do not."""
        values = self.report | {"decision": self.decision["decision"]}
        return {name: value for name, value in values.items() if value is not None}


def write_tasks(
    view: ReportView,
    plan: ExportPlan,
    store: SampleStore,
    to: Path,
    form: TaskFormat,
    on_progress: OnProgress,
) -> int:
    """Write the rows of a plan that have an image, as a JSON list; return how many.

    Raises:
        RunError: The place cannot be written to.
    """
    task_of = _label_studio_task if form == "label-studio" else _argilla_record
    agent = f"labelfix-{version('labelfix')}"
    written = 0
    with atomic_path(to) as draft, draft.open("w", encoding="ascii") as file:
        file.write("[")
        for row in _rows(view, plan, store, on_progress):
            file.write(",\n" if written else "\n")
            file.write(json.dumps(task_of(row, agent)))
            written += 1
        file.write("\n]\n")
    return written


def write_label_studio_config(view: ReportView, plan: ExportPlan, to: Path) -> None:
    """Write the labeling interface that fits the tasks, as Label Studio's XML.

    Raises:
        RunError: The place cannot be written to.
    """
    root = ElementTree.Element("View")
    ElementTree.SubElement(root, "Image", name="image", value="$image")
    choices = ElementTree.SubElement(root, "Choices", name="choice", toName="image")
    for label in (*view.class_names, *plan.decided.new_classes):
        ElementTree.SubElement(choices, "Choice", value=_choice(label))
    ElementTree.indent(root)
    with atomic_path(to) as draft:
        draft.write_text(ElementTree.tostring(root, "unicode") + "\n", encoding="utf-8")


def _rows(
    view: ReportView, plan: ExportPlan, store: SampleStore, on_progress: OnProgress
) -> Iterator[_Row]:
    rows = pa.array(plan.rows)
    said = view.take(plan.rows, _COLUMNS)
    decided = plan.decided.columns.take(rows)
    above = _served_folder(view.report.run.source)
    for position, row in enumerate(plan.rows.tolist()):
        is_served = Path(store.location(row)).is_relative_to(above)  # not where links led out
        image = take_image(store, row, link=is_served)
        if image is not None:
            yield _Row(
                report=said.slice(position, 1).to_pylist()[0],
                decision=decided.slice(position, 1).to_pylist()[0],
                image=image,
                source=view.report.run.source,
            )
        if position % 256 == 255 or position + 1 == len(rows):
            on_progress(Progress("writing tasks", position + 1, len(rows), "tasks"))


def _label_studio_task(row: _Row, agent: str) -> dict[str, Any]:
    """Return a task: the proposal is its prediction, a decision its annotation.

    ``score`` is `label_score`, so that tasks sorted by it begin with the most doubtful.
    """
    task: dict[str, Any] = {"data": {"image": _served(row), **row.known}}
    if row.is_decided and row.label is not None:
        task["annotations"] = [{"result": [_chosen(row.label)]}]
    if row.label is not None:
        prediction = {"model_version": agent, "result": [_chosen(row.label)]}
        if row.report["label_score"] is not None:
            prediction["score"] = row.report["label_score"]
        task["predictions"] = [prediction]
    return task


def _chosen(label: Label) -> dict[str, Any]:
    value = {"choices": [_choice(label)]}
    return {"from_name": "choice", "to_name": "image", "type": "choices", "value": value}


def _choice(label: Label) -> str:
    return _NOT_XML.sub("\ufffd", str(label))


def _served(row: _Row) -> str:
    """Return where Label Studio finds an image, if its document root is the folder above DATA."""
    if row.image.original is None:
        return row.image.as_uri()
    inside = Path(row.image.location).relative_to(_served_folder(row.source))
    return _SERVED + quote(os.fsencode(inside.as_posix()))


def _served_folder(source: DatasetSource) -> Path:
    """Return the folder above DATA, or above the folder of a manifest."""
    root = source.path if source.path.is_dir() else source.path.parent
    return root.parent


def _argilla_record(row: _Row, agent: str) -> dict[str, Any]:
    """Return a record as ``dataset.records.from_json`` reads it: the proposal is a suggestion."""
    uri = row.image.as_uri() if row.image.original is None else row.image.location
    suggestions = {}
    if row.label is not None:
        suggestion = {"value": str(row.label), "agent": agent, "score": _confidence(row)}
        suggestions["label"] = {k: v for k, v in suggestion.items() if v is not None}
    named = {
        name: value if isinstance(value, float) else str(value) for name, value in row.known.items()
    }
    return {
        "id": row.report["sample_id"],
        "fields": {"image": uri},
        "metadata": {name: value for name, value in named.items() if name != "sample_id"},
        "suggestions": suggestions,
        "responses": {},
        "vectors": {},
    }


def _confidence(row: _Row) -> float | None:
    """Return how probably the proposal is right."""
    if row.is_decided:
        return 1.0
    name = "suggested_label_probability" if row.report["is_label_issue"] else "label_score"
    return row.report[name]  # type: ignore[no-any-return]
