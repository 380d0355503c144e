"""Records in one JSON file: a list of objects, or the tasks that Label Studio exports."""

import posixpath
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from labelfix.data.files import is_address
from labelfix.errors import DatasetError
from labelfix.types import Assumption
from labelfix.utils.reading import parse_json
from labelfix.utils.text import counted

_SHAPE = 'write a list of objects like [{"image": "a.jpg", "label": "cat"}]'


def json_of(text: str | bytes, where: str, shape: str = _SHAPE) -> Any:
    """Return what a text of JSON holds.

    Raises:
        DatasetError: It is no JSON, or nests too deep to be a table.
    """
    try:
        return parse_json(text)
    except ValueError as error:
        raise DatasetError(f"{where} is not JSON: {error}", hint=shape) from error


def rows_of_list(value: Any, where: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a list.

    Raises:
        DatasetError: The value is something else; the message says what, where that is known.
    """
    if not isinstance(value, list):
        raise _no_list(value, where)
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict):
            raise DatasetError(f"entry {number} of {where} is not a JSON object", hint=_SHAPE)
        yield row


def _no_list(value: Any, where: str) -> DatasetError:
    keys = set(value) if isinstance(value, dict) else set()
    if {"images", "annotations"} <= keys:
        return DatasetError(
            f"{where} is in the form of COCO, whose annotations are of objects in an image",
            hint="write one label an image: a CSV file with the columns image and label",
        )
    if {"classes", "labels"} <= keys:
        return DatasetError(
            f"{where} is a label file of FiftyOne",
            hint="export the data set from FiftyOne as ImageClassificationDirectoryTree",
        )
    if keys and all(isinstance(column, dict | list) for column in value.values()):
        return DatasetError(
            f"{where} holds columns, not a list of records",
            hint='write it with pandas as to_json(..., orient="records")',
        )
    return DatasetError(f"{where} is not a list of records", hint=_SHAPE)


def is_label_studio(value: Any) -> bool:
    """Return whether a value is a list of Label Studio's tasks."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    task = value[0]
    return isinstance(task.get("data"), dict) and bool({"annotations", "completions"} & set(task))


def rows_of_label_studio(
    tasks: list[Any], where: str, root: Path
) -> tuple[list[dict[str, Any]], tuple[Assumption, ...]]:
    """Return a row a task: ``image`` and ``choice``, which is null where nobody has chosen.

    Of several annotations of a task the choice that most have made counts, of as many the first.

    Args:
        tasks: The export.
        where: The file, for messages.
        root: The folder that the images lie below.

    Raises:
        DatasetError: The tasks are not about images with one choice each.
    """
    rows, disputed = [], 0
    for number, task in enumerate(tasks, 1):
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict):
            raise DatasetError(f"entry {number} of {where} is no task of Label Studio", hint=_SHAPE)
        chosen = _choices(task, f"task {number} of {where}")
        counts = Counter(chosen)
        disputed += len(counts) > 1
        best = max(counts, key=lambda choice: counts[choice], default=None)
        rows.append({"image": _image_of(data, number, where, root), "choice": best})
    if not any(row["choice"] is not None for row in rows):
        raise DatasetError(
            f"no task of {where} has a choice",
            hint="labelfix reads Label Studio's exports of one choice an image; boxes and regions "
            "are no labels of images",
        )
    if not disputed:
        return rows, ()
    some, were = counted(disputed, "task"), "was" if disputed == 1 else "were"
    text = f"{some} of {where} {were} labeled in more than one way; the choice that most"
    return rows, (Assumption("labels", f"{text} made, else the first, was taken"),)


def _choices(task: dict[str, Any], where: str) -> list[str]:
    annotations = task.get("annotations", task.get("completions"))
    chosen = []
    for annotation in annotations if isinstance(annotations, list) else []:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        results = annotation.get("result")
        for result in results if isinstance(results, list) else []:
            value = result.get("value") if isinstance(result, dict) else None
            names = value.get("choices") if isinstance(value, dict) else None
            if not isinstance(names, list):
                continue
            if len(names) != 1 or not isinstance(names[0], str):
                raise DatasetError(
                    f"{where} has {len(names)} choices in one annotation",
                    hint="labelfix audits one label an image; export a project of single choices",
                )
            chosen.append(names[0])
    return chosen


def _image_of(data: dict[str, Any], number: int, where: str, root: Path) -> str | None:
    texts = [value for value in data.values() if isinstance(value, str)]
    text = data.get("image", texts[0] if len(texts) == 1 else None)
    if text is None:
        return None
    if not isinstance(text, str):
        raise DatasetError(
            f"task {number} of {where} has no path of an image",
            hint='labelfix reads tasks with one image each, in "data": {"image": ...}',
        )
    if is_address(text):
        return text[:200]
    parts = urlsplit(text)
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    return _below(root, path.removeprefix("/data/upload/") if not parts.query else path)


def _below(root: Path, path: str) -> str:
    """Return a path below the root: what is left of it once folders above are taken off."""
    path = posixpath.normpath(path.lstrip("/") or ".")
    parts = path.split("/")
    for start in range(len(parts)):
        rest = "/".join(parts[start:])
        try:
            if (root / rest).is_file():
                return rest
        except (OSError, ValueError):
            continue
    return path
