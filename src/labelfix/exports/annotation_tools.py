"""Exports as work for people: tasks of Label Studio, records of Argilla; both are JSON lists.

Letters: M rows of the export.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from xml.etree import ElementTree

from labelfix.exports.folder import take_image
from labelfix.exports.plan import ExportPlan
from labelfix.report.view import ReportView
from labelfix.types import DatasetSource, Label, SampleStore
from labelfix.utils.files import atomic_path
from labelfix.utils.progress import OnProgress, Progress
from labelfix.utils.text import version_of

TaskFormat = Literal["label-studio", "argilla"]

_COLUMNS = (
    "sample_id", "split", "given_label", "suggested_label", "suggested_label_probability",
    "is_label_issue", "label_score",
)  # fmt: skip
_SERVED = "/data/local-files/?d="  # where Label Studio serves files below its document root
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class _Content:
    """A sample as people are shown it.

    Args:
        field: ``"image"`` or ``"text"``.
        served: The text, or where Label Studio finds the image.
        located: The text, or where Argilla finds the image.
    """

    field: Literal["image", "text"]
    served: str
    located: str


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of an export on its way to people.

    Args:
        report: What the report says, by `_COLUMNS`; ``None`` where it says nothing.
        decision: What was decided, by name of column; ``None`` likewise.
        content: The sample itself.
    """

    report: dict[str, Any]
    decision: dict[str, Any]
    content: "_Content"

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
    text_of: Callable[[int], str | None] | None,
    on_progress: OnProgress,
) -> int:
    """Write the rows of a plan whose image or text can be had, as a JSON list; return how many.

    Args:
        view: The report.
        plan: What is exported.
        store: The samples.
        to: The file to write.
        form: Whose tasks.
        text_of: Returns the text of a row, or ``None`` where it cannot be read; without it, the
            samples are images.
        on_progress: Told about the tasks.

    Raises:
        RunError: The place cannot be written to.
    """
    task_of = _label_studio_task if form == "label-studio" else _argilla_record
    agent = f"labelfix-{version_of('labelfix')}"
    written = 0
    content_of: Callable[[int], _Content | None]
    with atomic_path(to) as draft, draft.open("w", encoding="ascii") as file:
        file.write("[")
        if text_of is None:
            content_of = partial(_image, store=store, source=view.report.run.source)
        else:
            content_of = partial(_text, text_of=text_of)
        for row in _rows(view, plan, content_of, on_progress):
            file.write(",\n" if written else "\n")
            file.write(json.dumps(task_of(row, agent)))
            written += 1
        file.write("\n]\n")
    return written


def write_label_studio_config(
    view: ReportView, plan: ExportPlan, to: Path, *, is_text: bool = False
) -> None:
    """Write the labeling interface that fits the tasks, as Label Studio's XML.

    Raises:
        RunError: The place cannot be written to.
    """
    root = ElementTree.Element("View")
    tag, field = ("Text", "text") if is_text else ("Image", "image")
    ElementTree.SubElement(root, tag, name=field, value=f"${field}")
    choices = ElementTree.SubElement(root, "Choices", name="choice", toName=field)
    for label in (*view.class_names, *plan.decided.new_classes):
        ElementTree.SubElement(choices, "Choice", value=_choice(label))
    ElementTree.indent(root)
    with atomic_path(to) as draft:
        draft.write_text(ElementTree.tostring(root, "unicode") + "\n", encoding="utf-8")


def _rows(
    view: ReportView,
    plan: ExportPlan,
    content_of: Callable[[int], _Content | None],
    on_progress: OnProgress,
) -> Iterator[_Row]:
    rows = plan.rows
    said = view.take(plan.rows, _COLUMNS)
    decided = plan.decided.take(rows)
    for position, row in enumerate(plan.rows.tolist()):
        content = content_of(row)
        if content is not None:
            yield _Row(
                report=said.slice(position, 1).to_pylist()[0],
                decision=decided.slice(position, 1).to_pylist()[0],
                content=content,
            )
        if position % 256 == 255 or position + 1 == len(rows):
            on_progress(Progress("writing tasks", position + 1, len(rows), "tasks"))


def _label_studio_task(row: _Row, agent: str) -> dict[str, Any]:
    """Return a task: the proposal is its prediction, a decision its annotation.

    ``score`` is `label_score`, so that tasks sorted by it begin with the most doubtful.
    """
    field = row.content.field
    task: dict[str, Any] = {"data": {**row.known, field: row.content.served}}
    if row.is_decided and row.label is not None:
        task["annotations"] = [{"result": [_chosen(row.label, field)]}]
    if row.label is not None:
        prediction = {"model_version": agent, "result": [_chosen(row.label, field)]}
        if row.report["label_score"] is not None:
            prediction["score"] = row.report["label_score"]
        task["predictions"] = [prediction]
    return task


def _chosen(label: Label, field: str) -> dict[str, Any]:
    value = {"choices": [_choice(label)]}
    return {"from_name": "choice", "to_name": field, "type": "choices", "value": value}


def _choice(label: Label) -> str:
    return _NOT_XML.sub("\ufffd", str(label))


def _text(row: int, *, text_of: Callable[[int], str | None]) -> _Content | None:
    text = text_of(row)
    return None if text is None else _Content("text", text, text)


def _image(row: int, *, store: SampleStore, source: DatasetSource) -> _Content | None:
    """Return where an image is found: Label Studio's document root is the folder above DATA."""
    above = _served_folder(source)
    is_served = Path(store.location(row)).is_relative_to(above)  # not where links led out
    image = take_image(store, row, link=is_served)
    if image is None:
        return None
    if image.original is None:
        return _Content("image", image.as_uri(), image.as_uri())
    inside = Path(image.location).relative_to(above)
    return _Content("image", _SERVED + quote(os.fsencode(inside.as_posix())), image.location)


def _served_folder(source: DatasetSource) -> Path:
    """Return the folder above DATA, or above the folder of a manifest."""
    root = source.path if source.path.is_dir() else source.path.parent
    return root.parent


def _argilla_record(row: _Row, agent: str) -> dict[str, Any]:
    """Return a record as ``dataset.records.from_json`` reads it: the proposal is a suggestion."""
    suggestions = {}
    if row.label is not None:
        suggestion = {"value": str(row.label), "agent": agent, "score": _confidence(row)}
        suggestions["label"] = {k: v for k, v in suggestion.items() if v is not None}
    named = {
        name: value if isinstance(value, float) else str(value) for name, value in row.known.items()
    }
    return {
        "id": row.report["sample_id"],
        "fields": {row.content.field: row.content.located},
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
