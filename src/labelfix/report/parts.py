"""A report in parts: a folder of Parquet files, and a manifest that says which they are.

The name of the manifest begins with ``_``, so that readers of a folder of Parquet (pandas, Arrow,
Spark) pass over it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelfix.data.decisions import PARTS_MANIFEST
from labelfix.errors import ReportError
from labelfix.report.schema import SCHEMA_VERSION
from labelfix.report.stored import HINT, StoredFile
from labelfix.utils.files import atomic_folder, refuse_special_file
from labelfix.utils.reading import parquet_faults, parse_json

PARTS_NAME = "report"
"""What the folder is called in a RUN folder."""

MANIFEST_NAME = PARTS_MANIFEST

_TAIL = 8  # bytes that end a Parquet file: the length of its footer, and a mark


def is_parts(path: Path) -> bool:
    """Return whether a path is the folder of a report in parts."""
    return (path / MANIFEST_NAME).is_file()


def report_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return the writer of a report, or of a part of one."""
    return pq.ParquetWriter(
        path,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=3,
        write_page_checksum=True,
        use_dictionary=["split", "given_label", "predicted_label", "suggested_label"],
    )


def write_parts(
    groups: Iterator[pa.Table], schema: pa.Schema, folder: Path, part_groups: int, step: int
) -> None:
    """Write a report in parts; a folder that is there is replaced as a whole.

    Args:
        groups: Its row groups.
        schema: The columns, with the metadata of the report.
        folder: Where the parts will lie.
        part_groups: Row groups of a part.
        step: Rows of a row group at most.

    Raises:
        RunError: The place cannot be written to.
    """
    with atomic_folder(folder, may_be_there=True) as draft:
        parts: list[dict[str, Any]] = []
        for first in groups:
            path = draft / f"part-{len(parts):05d}.parquet"
            rows = 0
            with report_writer(path, schema) as writer:
                for group in chain([first], islice(groups, part_groups - 1)):
                    writer.write_table(group, row_group_size=step)
                    rows += len(group)
            parts.append({"name": path.name, "rows": rows, **_marks_of(path)})
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "rows": sum(part["rows"] for part in parts),
            "parts": parts,
        }
        text = json.dumps(manifest, indent=2) + "\n"
        (draft / MANIFEST_NAME).write_text(text, encoding="utf-8")
        remove_parts(folder)


def _marks_of(path: Path) -> dict[str, Any]:
    """Return the size and the digest of the footer of a part.

    Pages have checksums, and the footer says where and how long each of them is.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - _TAIL - length))
        footer = file.read()
    digest = hashlib.blake2b(footer, digest_size=16).hexdigest()
    return {"bytes": size, "footer_digest": digest}


def open_parts(folder: Path) -> tuple[StoredFile, ...]:
    """Return the parts of a report, in their order.

    Raises:
        ReportError: A part is missing, another one than was written, or cannot be read.
    """
    parts = _read_manifest(folder)
    files = tuple(_open_part(folder, part) for part in parts)
    for file in files[1:]:
        if not file.schema.equals(files[0].schema, check_metadata=True):
            raise _damaged(folder, f"{file.path.name} is of another report")
    return files


def copy_parts(folder: Path, to: Path) -> None:
    """Copy a report in parts; one that is there is replaced as a whole.

    Raises:
        ReportError: The manifest is damaged.
        RunError: The place cannot be written to.
    """
    names = [part["name"] for part in _read_manifest(folder)]
    with atomic_folder(to, may_be_there=True) as draft:
        for name in (*names, MANIFEST_NAME):
            shutil.copyfile(folder / name, draft / name)
        remove_parts(to)


def remove_parts(folder: Path) -> None:
    """Take away a report in parts, if there is one; files of others, and their folder, stay."""
    if not is_parts(folder):
        return
    (folder / MANIFEST_NAME).unlink()  # first: what is left is no report
    for path in folder.glob("part-*.parquet"):
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _open_part(folder: Path, part: dict[str, Any]) -> StoredFile:
    path = folder / part["name"]
    refuse_special_file(path, ReportError)
    if not path.is_file():
        raise _damaged(folder, f"it lacks {path.name}")
    with parquet_faults(ReportError, f"{path} cannot be read as Parquet", HINT):
        marks = _marks_of(path)
        if any(part[key] != value for key, value in marks.items()):
            raise _damaged(folder, f"{path.name} is not the part that was written")
        return StoredFile.of(path)


def _read_manifest(folder: Path) -> list[dict[str, Any]]:
    """Return what the manifest says of each part."""
    path = folder / MANIFEST_NAME
    try:
        held = parse_json(path.read_bytes())
        version, parts, rows = held["schema_version"], held["parts"], held["rows"]
        if type(version) is int and version > SCHEMA_VERSION:
            raise ReportError(
                f"{path} has schema version {version}; this labelfix reads up to {SCHEMA_VERSION}",
                hint="read it with a newer labelfix: pip install --upgrade labelfix",
            )
        are_parts = bool(parts) and all(
            type(part["rows"]) is int and isinstance(part["name"], str)
            and part["name"] == f"part-{number:05d}.parquet"
            and {"bytes", "footer_digest"} <= part.keys()
            for number, part in enumerate(parts)
        )  # fmt: skip
        if not are_parts or rows != sum(part["rows"] for part in parts):
            raise ValueError("its parts do not add up")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)[:300]
        raise _damaged(folder, f"{path.name} cannot be read ({what})") from error
    return parts  # type: ignore[no-any-return]


def _damaged(folder: Path, what: str) -> ReportError:
    return ReportError(
        f"{folder} is no whole report in parts: {what}", hint="audit again with --overwrite"
    )
