"""An export as FiftyOne's own form: ``TO/data/*`` and ``TO/labels.json``."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelfix.exports.folder import FolderFiles, has_image_suffix, take_image
from labelfix.exports.plan import ExportPlan
from labelfix.report.view import ReportView
from labelfix.types import SampleStore
from labelfix.utils.files import atomic_folder
from labelfix.utils.progress import OnProgress, Progress

_ATTRIBUTES = (
    "sample_id", "split", "given_label", "suggested_label", "is_label_issue",
    "label_error_probability",
)  # fmt: skip


def write_fiftyone(
    view: ReportView,
    plan: ExportPlan,
    store: SampleStore,
    to: Path,
    *,
    link: bool,
    on_progress: OnProgress,
) -> FolderFiles:
    """Write a folder that FiftyOne imports as ``FiftyOneImageClassificationDataset``.

    The images are numbered by the row of the report, so that no name from outside becomes a path.
    Each label has the exported label, as ``confidence`` the probability that it is right, and as
    attributes what the report says.

    Raises:
        RunError: ``to`` is there already, or cannot be written to.
    """
    kept = view.take(plan.rows, _ATTRIBUTES)
    kept = kept.append_column("decision", plan.decided.take(plan.rows)["decision"])
    labels: dict[str, dict[str, Any]] = {}
    written, total = 0, len(plan.rows)
    with atomic_folder(to) as draft:
        (draft / "data").mkdir()
        for position, row in enumerate(plan.rows.tolist()):
            image = take_image(store, row, link=link)
            if image is not None:
                name = f"{row:08}"
                ending = Path(image.location).suffix
                suffix = ending if has_image_suffix(image.location) else image.suffix
                image.put(draft / "data" / f"{name}{suffix}")
                written += 1
                labels |= _label_of(name, kept, plan, position)
            if position % 256 == 255 or position + 1 == total:
                on_progress(Progress("writing files", position + 1, total, "files"))
        classes = [str(label) for label in (*view.class_names, *plan.decided.new_classes)]
        text = json.dumps({"classes": classes, "labels": labels})
        (draft / "labels.json").write_text(text, encoding="utf-8")
    return FolderFiles(written, total - written)


def _label_of(name: str, kept: pa.Table, plan: ExportPlan, position: int) -> dict[str, Any]:
    """Return the entry of an image; none without a label, which FiftyOne reads as unlabeled."""
    label = plan.label[position].as_py()
    if label is None:
        return {}
    values = {column: kept[column][position].as_py() for column in kept.column_names}
    entry = {
        "label": str(label),
        "confidence": _known(float(plan.label_probability[position])),
        "attributes": {key: value for key, value in values.items() if value is not None},
    }
    return {name: {key: value for key, value in entry.items() if value is not None}}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
