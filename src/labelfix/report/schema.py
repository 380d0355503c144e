"""The columns of ``report.parquet``: the one place that names them, types them and says them.

Letters: N samples, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labelfix.modalities.base import IssueCheck
from labelfix.modalities.image.checks import IMAGE_CHECKS
from labelfix.modalities.text.checks import TEXT_CHECKS
from labelfix.types import (
    CLASSES_KEY,
    MISSING,
    TOP_CLASSES,
    TOP_PROBS,
    Codes,
    Label,
    code_type,
)

SCHEMA_VERSION = 1
"""Rises when a column changes its type or meaning or goes away; a new column does not raise it."""

VERSION_KEY = b"labelfix.schema_version"
RUN_KEY = b"labelfix.run"
DIGEST_KEY = b"labelfix.digest"
"""Of the three before: pages of Parquet have checksums, the metadata of a file have none."""

Kind: TypeAlias = Literal["label"] | pa.DataType
"""An Arrow type, or the type of the labels, which depends on the data set."""

PROBABILITIES = pa.list_(pa.field("element", pa.float32()))
"""The type of ``pred_probs``; lists of fixed size with nulls are beyond many Parquet readers."""

CODES = pa.list_(pa.field("element", pa.int32()))
"""The type of ``top_classes``."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the report.

    Args:
        name: Its name in the file.
        kind: Its type.
        nullable: Whether a row may have no value.
        meaning: One sentence, with units, direction and when it is null.
        is_late: Whether reports of the same schema version may lack it, as they are older, or on
            samples of a modality without that check; they are read as if it said nothing.
    """

    name: str
    kind: Kind
    nullable: bool
    meaning: str
    is_late: bool = False

    def nothing(self, size: int) -> pa.Array:
        """Return so many cells of a late column that say nothing."""
        if self.nullable:
            return pa.nulls(size, self.kind)
        return pa.array(np.zeros(size, np.bool_))


def _kind(name: str, question: str, score: str) -> tuple[Column, Column]:
    """Return the two columns of a kind of issue."""
    return (
        Column(f"is_{name}_issue", pa.bool_(), nullable=False, meaning=question, is_late=True),
        Column(
            f"{name}_score",
            pa.float32(),
            nullable=True,
            meaning=f"{score}; null where it cannot be read.",
            is_late=True,
        ),
    )


_FIRST_COLUMNS: tuple[Column, ...] = (
    Column(
        "sample_id",
        pa.string(),
        nullable=False,
        meaning="The sample's name, unique and the same in every run: the image's path inside the "
        "data set, or the value of the id column; of arrays that were given, the row from 0.",
    ),
    Column(
        "split",
        pa.string(),
        nullable=True,
        meaning="The split that the sample came in (`train`, `test`, ...), as the input spells it; "
        "null where the input names none.",
    ),
    Column(
        "given_label",
        "label",
        nullable=True,
        meaning="The label that the sample came with, unchanged; null where there is none.",
    ),
    Column(
        "predicted_label",
        "label",
        nullable=True,
        meaning="The class with the highest of `pred_probs`, of those that any scored sample was "
        "given; null when not scored.",
    ),
    Column(
        "suggested_label",
        "label",
        nullable=True,
        meaning="The most probable label of a flagged sample, or the one that a reviewer chose; "
        "null unless `is_label_issue`.",
    ),
    Column(
        "is_label_issue",
        pa.bool_(),
        nullable=False,
        meaning="Whether the given label is flagged as probably wrong. Labels of equal probability "
        "are flagged together or not at all, so `--budget` may leave some flags unused. Without "
        "`--precision` and `--budget` no label is flagged whose probability is below .05.",
    ),
    Column(
        "label_score",
        pa.float32(),
        nullable=True,
        meaning="How far the given label can be believed, 0 (doubtful) to 1 (clean): "
        "1 - `label_error_probability`; null when not scored.",
    ),
    Column(
        "label_error_probability",
        pa.float32(),
        nullable=True,
        meaning="The probability that the given label is wrong, 0 (clean) to 1 (wrong); exactly 0 "
        "or 1 where a reviewer has decided (`--decisions`), 1 also for a dropped sample; null when "
        "not scored.",
    ),
    Column(
        "suggested_label_probability",
        pa.float32(),
        nullable=True,
        meaning="The probability that `suggested_label` is the true class, 0 to 1: 1 where a "
        "reviewer chose it, 0 for a dropped sample, which is of no class; null unless "
        "`is_label_issue`.",
    ),
    Column(
        "sample_weight",
        pa.float32(),
        nullable=False,
        meaning="How much the sample, with its given label, should count in later training: at "
        "least 0, mean 1 over all rows, 0 for a row that cannot be trained on. One value per "
        "sample (cleanlab's column of this name has one value per class).",
    ),
    Column(
        "pred_probs",
        PROBABILITIES,
        nullable=True,
        meaning="The probability of each of the K classes, in the order of the class names in the "
        "file's metadata, from models that never trained on the sample (out-of-sample), or as they "
        "were given with `--pred-probs`; null when not scored.",
    ),
    Column(
        "fold",
        pa.int16(),
        nullable=True,
        meaning="The cross-validation fold, from 0, that held the sample out; null when not "
        "scored, for a row that no fold trains on (of a test split, or one that a reviewer has "
        "dropped or given a class too small to be scored), and where probabilities were given.",
    ),
    Column(
        "is_unreadable_issue",
        pa.bool_(),
        nullable=False,
        meaning="Whether the image could not be read; `reason` says why.",
    ),
    Column(
        "is_exact_duplicate_issue",
        pa.bool_(),
        nullable=False,
        meaning="Whether another sample's image is byte for byte the same.",
    ),
    Column(
        "exact_duplicate_set",
        pa.int64(),
        nullable=True,
        meaning="The same number for byte-identical images, from 0 in order of first appearance; "
        "null for an image without a copy. All labels of a set are scored together: at most one "
        "can be right, so the error probabilities of k different labels sum to at least k - 1, the "
        "most probable one is not flagged, and it is what the others are suggested. What a "
        "reviewer decided on one copy holds for all. Near-duplicates are scored separately.",
    ),
    Column(
        "is_conflicting_duplicate_issue",
        pa.bool_(),
        nullable=False,
        meaning="Whether a byte-identical image came with another label.",
    ),
    Column(
        "near_duplicate_set",
        pa.int64(),
        nullable=True,
        meaning="The same number for images that show the same picture, encoded, resized or "
        "slightly cropped anew, or byte for byte, from 0 in order of first appearance, across "
        "splits; null for an image without such a copy.",
        is_late=True,
    ),
    Column(
        "is_near_duplicate_issue",
        pa.bool_(),
        nullable=False,
        meaning="Whether the image is in a `near_duplicate_set`.",
        is_late=True,
    ),
    Column(
        "near_duplicate_score",
        pa.float32(),
        nullable=True,
        meaning="1 - the correlation of the image's detail with that of the neighbor most alike, "
        "or of the part that agrees least where that is too little for a copy; 0 (the same "
        "picture) to 1 (nothing in common); null where it cannot be read.",
        is_late=True,
    ),
    Column(
        "is_conflicting_near_duplicate_issue",
        pa.bool_(),
        nullable=False,
        meaning="Whether the image is in a `near_duplicate_set` whose given labels differ; true of "
        "every conflict of byte-identical images, too.",
        is_late=True,
    ),
    *_kind(
        "outlier",
        "Whether the image is unlike all others.",
        "How near the image is to its 10 nearest, set against all other images, 0 (unlike all) to "
        "1; 0.5 is a modified z-score of 3.5 of the mean distance between features",
    ),
)
"""The columns that samples of every modality have, before those of its checks."""

_REASON = Column(
    "reason",
    pa.string(),
    nullable=True,
    meaning="Why the row is flagged, not scored or has another issue, in a short sentence that "
    "begins with `reviewed: ` where a reviewer has decided (`--decisions`); null when there is "
    "nothing to say.",
)


def columns_of(checks: Sequence[IssueCheck]) -> tuple[Column, ...]:
    """Return the columns of a report on samples whose modality has these checks."""
    of_checks = [_kind(check.name, check.meaning, check.score_meaning) for check in checks]
    return (*_FIRST_COLUMNS, *chain.from_iterable(of_checks), _REASON)


COLUMNS = columns_of(IMAGE_CHECKS)
"""The columns of a report on images, and of one on given probabilities."""

_COMMON_COLUMNS = columns_of(())

_KNOWN_COLUMNS = {None: COLUMNS, "image": COLUMNS, "text": columns_of(TEXT_CHECKS)}
"""By the name of the modality; where probabilities were given, samples are taken for images."""


def columns_known(modality: str | None) -> tuple[Column, ...]:
    """Return the columns that labelfix knows in a report on samples of a modality.

    Of a modality from outside these are the ones that every report has: its checks are known by
    the columns of the file alone, see `names_of_checks`.

    Args:
        modality: As the record of the run names it; ``None`` where probabilities were given.
    """
    return _KNOWN_COLUMNS.get(modality, _COMMON_COLUMNS)


TOP_COLUMNS: tuple[Column, ...] = (
    Column(
        TOP_CLASSES,
        CODES,
        nullable=True,
        meaning="The T most probable classes, the most probable first, equal ones in the order of "
        "the classes: their places, from 0, in the class names in the file's metadata; null when "
        "not scored.",
    ),
    Column(
        TOP_PROBS,
        PROBABILITIES,
        nullable=True,
        meaning="The probabilities of these classes, in the same order; null when not scored.",
    ),
)
"""What a report has in place of ``pred_probs`` where it keeps the likeliest classes only."""


def columns_in(names: Sequence[str], modality: str | None) -> tuple[Column, ...]:
    """Return the columns that labelfix knows in a report, which are `columns_known` or nearly so.

    Args:
        names: Those of the file: they tell whether the likeliest classes alone were kept.
        modality: As `columns_known` has it.
    """
    columns = columns_known(modality)
    if TOP_CLASSES not in names or PRED_PROBS in names:
        return columns
    place = [column.name for column in columns].index(PRED_PROBS)
    return (*columns[:place], *TOP_COLUMNS, *columns[place + 1 :])


DECISION_COLUMNS: tuple[Column, ...] = (
    Column(
        "decision",
        pa.string(),
        nullable=True,
        meaning="What somebody decided in `labelfix review`: `keep`, `relabel`, `unsure` or "
        "`drop`; null where nothing was decided.",
    ),
    Column(
        "final_label",
        "label",
        nullable=True,
        meaning="The label that comes of the decision: the chosen one after `relabel`, the given "
        "one after `keep` and `unsure`; null after `drop`, and where nothing was decided.",
    ),
    Column(
        "decided_at",
        pa.string(),
        nullable=True,
        meaning="When, UTC, like `2026-11-23T12:00:00.123Z`.",
    ),
    Column(
        "decided_by",
        pa.string(),
        nullable=True,
        meaning="Who decided, if that is known.",
    ),
)
"""What `RUN/decisions.jsonl` adds to the rows of a report."""


def label_type(class_names: Sequence[Label]) -> pa.DataType:
    """Return the Arrow type of the label columns: int64 if every class is a number, else string."""
    are_numbers = bool(class_names) and all(isinstance(name, int) for name in class_names)
    return pa.int64() if are_numbers else pa.string()


def codes_of(column: pa.Array, names: pa.Array) -> Codes:
    """Return ``(N,)`` where each value is among some names, ``MISSING`` where it is not.

    Args:
        column: ``(N,)`` values, or a dictionary array of them.
        names: K values of the same type, each once.
    """
    kind = code_type(len(names))
    if not pa.types.is_dictionary(column.type):
        found = pc.fill_null(pc.index_in(column, names), MISSING)
        return found.to_numpy(zero_copy_only=False).astype(kind)  # type: ignore[no-any-return]
    # one cell more, for the rows that have no value
    place = np.append(codes_of(column.dictionary, names), kind(MISSING))
    indices = column.indices
    if indices.null_count:
        indices = pc.fill_null(indices, len(place) - 1)
    return place[indices.to_numpy(zero_copy_only=False)]  # type: ignore[no-any-return]


def arrow_schema(class_names: Sequence[Label], columns: Sequence[Column] = COLUMNS) -> pa.Schema:
    """Return the schema of a report on these K classes, without file metadata."""
    labels = label_type(class_names)
    kinds = [labels if isinstance(column.kind, str) else column.kind for column in columns]
    return pa.schema(
        [
            pa.field(c.name, kind, nullable=c.nullable)
            for c, kind in zip(columns, kinds, strict=True)
        ]
    )


_NAMES = {
    pa.float32(): "float32",
    PROBABILITIES: "list of K float32",
    CODES: "list of T int32",
}

_PAGE = """\
# The report

<!-- Written by docs/generate.py from src/labelfix/report/schema.py: change it there. -->

`RUN/report.parquet` holds one row for each sample, in the order of the input. Samples that could
not be read or scored have a row too; `reason` tells why.

```python
import pandas as pd

import labelfix

report = labelfix.read_report("RUN")  # a DataFrame with nullable types; checks the file
plain = pd.read_parquet("RUN/report.parquet")  # the same rows, without labelfix
worst = report.sort_values("label_score").head(20)
```

A report of more than 10,000,000 rows (`part_rows` in section `[report]` of a `--config` file) is a
folder of parts, `RUN/report`, in place of the file: `part-00000.parquet` and so on, and
`_manifest.json`, which names them with their rows, sizes and digests. Every command and
`labelfix.read_report` read one as the other, and refuse parts that are not those that were written.
Other libraries read the folder, and pass over the manifest for its name:

```python
pd.read_parquet("RUN/report", columns=["sample_id", "label_score"])  # some columns, in memory

import pyarrow.dataset as ds

doubtful = ds.field("label_error_probability") > 0.9
ds.dataset("RUN/report").to_table(["sample_id", "suggested_label"], filter=doubtful)

import duckdb

duckdb.sql(
    "SELECT given_label, count(*) FROM 'RUN/report/*.parquet' WHERE is_label_issue GROUP BY 1"
)

spark.read.parquet("RUN/report").where("is_label_issue")
```

The parts follow one another in the order of the input; Spark does not keep it.

Schema version {version}. A change of a column's type or meaning raises the version; labelfix
refuses a report with a newer version than its own. A new column does not raise it.

## Columns

| column | type | null | meaning |
|---|---|---|---|
{rows}

An image has an issue of a kind (outlier, dark, bright, blurry, odd size) if its score is below a
threshold, `settings.issues` in the file's metadata; `--issue-threshold dark=0.2` changes one.

A report on texts has these in place of dark, bright, blurry and odd size:

| column | type | null | meaning |
|---|---|---|---|
{of_texts}

`RUN/neighbors.parquet` has a row for each row of the report, in the same order: `sample_id`;
`neighbors`, the rows of the report (from 0) of up to 10 nearest images, nearest first;
`similarities`, their cosines, -1 to 1; `x` and `y`, where the image lies on the map of the page,
0 to 1, null if it cannot be read. An audit of given probabilities writes no such file.

## The top of many classes

With `--top-classes T` (`top_classes` in section `[report]` of a `--config` file) a report has these
in place of `pred_probs`. All other columns are what they are without it, as scores are computed
from the probabilities of all classes:

| column | type | null | meaning |
|---|---|---|---|
{of_top}

Such a report can be given to `labelfix audit --pred-probs` again. Soft labels need `pred_probs`.

## Decisions

Decisions of reviewers are stored beside the report, in `RUN/decisions.jsonl`.
`labelfix.read_report` and the exports `csv`, `parquet` and `jsonl` join the last decision on each
sample to its row:

| column | type | null | meaning |
|---|---|---|---|
{decisions}

A *label* is text or a 64-bit integer, as in the input; all label columns have the same type.

## File metadata

| key | value |
|---|---|
| `{version_key}` | the schema version, `{version}` |
| `{classes_key}` | JSON list of the K class names, in the order of `pred_probs` |
| `{run_key}` | JSON object: `source` (`kind`, `path` and `columns` of the data), `fingerprint` \
of the images or files, `noise_rate` (estimated share of wrong labels among the scored samples), \
`noise_rate_interval` (it lies between these two with a probability of 90 %), \
`modality` (`image`), `backbone`, `seed`, `versions`, `settings` (with `decisions`, \
the number of decisions that the audit used, if any). Where probabilities were given, \
`source` has the kind `pred_probs`, `modality`, `backbone` and `seed` \
are null, and columns about images \
are false or null |
| `{digest_key}` | a digest of these three; the pages of the columns have checksums. labelfix \
refuses a report that does not fit them |

The file holds no dates, timings or output path: two runs on one machine with the same
data, settings and seed give the same bytes. Timings are in `RUN/run.json`.

```python
import json

import pyarrow.parquet as pq

metadata = pq.read_schema("RUN/report.parquet").metadata
class_names = json.loads(metadata[b"{classes_key}"])
```
"""


def schema_page() -> str:
    """Return docs/report.md: the columns and the file metadata, as Markdown."""
    names = {column.name for column in COLUMNS}
    return _PAGE.format(
        rows=_lines(COLUMNS),
        of_texts=_lines([one for one in columns_known("text") if one.name not in names]),
        of_top=_lines(TOP_COLUMNS).replace("list of K float32", "list of T float32"),
        decisions=_lines(DECISION_COLUMNS),
        version=SCHEMA_VERSION,
        version_key=VERSION_KEY.decode(),
        classes_key=CLASSES_KEY.decode(),
        run_key=RUN_KEY.decode(),
        digest_key=DIGEST_KEY.decode(),
    )


def _lines(columns: Sequence[Column]) -> str:
    return "\n".join(
        f"| `{c.name}` | {_type_name(c)} | {'yes' if c.nullable else 'no'} | {c.meaning} |"
        for c in columns
    )


def _type_name(column: Column) -> str:
    if isinstance(column.kind, str):
        return "label"
    return _NAMES.get(column.kind, str(column.kind))


def with_late_columns(table: pa.Table, columns: Sequence[Column] = COLUMNS) -> pa.Table:
    """Return a table with the columns that it lacks; see `Column.is_late`.

    Args:
        table: Of a report.
        columns: Those of its modality, by `columns_known`.
    """
    for column in columns:
        if column.is_late and column.name not in table.column_names:
            field = pa.field(column.name, column.kind, nullable=column.nullable)
            table = table.append_column(field, column.nothing(table.num_rows))
    return table


PRED_PROBS = "pred_probs"

ROW_GROUP_SIZE = 65_536
"""Fixed, so that the same rows always make the same bytes."""

ROW_GROUP_VALUES = 1 << 25
"""Probabilities in a row group at most: with more than 512 classes it has fewer rows."""


def row_group_rows(classes: int, values: int = ROW_GROUP_VALUES) -> int:
    """Return how many rows of a report are written, and held in memory, at a time.

    Args:
        classes: K.
        values: Probabilities in a row group at most.
    """
    return max(1, min(ROW_GROUP_SIZE, values // max(classes, 1)))


def names_of_checks(schema: pa.Schema, columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the columns of a file that belong to checks and are not among those known."""
    known = {column.name for column in columns}
    pairs = [
        (f"is_{name}_issue", f"{name}_score")
        for name in (field.removeprefix("is_").removesuffix("_issue") for field in schema.names)
    ]
    return tuple(
        name
        for flag, score in pairs
        if flag in schema.names
        and score in schema.names
        and flag not in known
        and (schema.field(flag).type, schema.field(score).type) == (pa.bool_(), pa.float32())
        for name in (flag, score)
    )
