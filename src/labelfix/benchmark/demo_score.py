"""How well an audit found the planted errors: only this module reads the demo's true labels."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from labelfix.errors import ReportError
from labelfix.report.types import Report
from labelfix.utils.files import refuse_special_file

TRUTH_NAME = "truth.csv"
TRUTH_COLUMNS = ("sample_id", "given_label", "true_label", "kind")
PLANTED = ("random", "look-alike")
FIRST = 50


@dataclass(frozen=True, slots=True)
class DemoScore:
    """What an audit of the demo data found.

    Args:
        planted: Labels that were planted wrong.
        planted_flagged: Those among them that the report flags.
        flagged: All rows that the report flags.
        flagged_wrong: Those among them whose label is wrong, the wrong copy with them.
        first: How many rows were looked at from the top, by ``label_error_probability``.
        first_wrong: Those among them whose label is wrong.
        suggested_right: Rows of ``flagged_wrong`` whose suggested label is the true one.
        broken_reported: The broken file, or the empty text, is reported as unreadable.
        pair_reported: Both copies of the sample with two labels are reported as conflicting.
    """

    planted: int
    planted_flagged: int
    flagged: int
    flagged_wrong: int
    first: int
    first_wrong: int
    suggested_right: int
    broken_reported: bool
    pair_reported: bool

    def to_json(self) -> dict[str, Any]:
        """Return the score as JSON values."""
        return asdict(self)


def score_demo(report: Report, truth: Path) -> DemoScore:
    """Compare a report with the truth of the demo data.

    Args:
        report: Of an audit of the data that ``labelfix demo`` wrote.
        truth: The ``truth.csv`` beside them.

    Raises:
        ReportError: There is no truth, or the report is on other data.
    """
    known = _read_truth(truth)
    rows = pc.index_in(known["sample_id"], report.table["sample_id"].combine_chunks())
    if rows.null_count or len(rows) != len(report):
        raise ReportError(
            f"the report is not on the demo data of {truth.parent}",
            hint="audit the data folder beside truth.csv",
        )
    table = report.table.take(rows)
    kind = known["kind"].to_numpy()
    is_wrong = pc.not_equal(known["given_label"], known["true_label"]).to_numpy()
    is_planted = np.isin(kind, PLANTED)
    is_flagged = table["is_label_issue"].to_numpy()
    error = pc.fill_null(table["label_error_probability"], -1.0).to_numpy()
    first = np.argsort(-error, kind="stable")[:FIRST]
    is_right = pc.fill_null(pc.equal(table["suggested_label"], known["true_label"]), False)
    conflicting = table["is_conflicting_duplicate_issue"].to_numpy()
    return DemoScore(
        planted=int(is_planted.sum()),
        planted_flagged=int((is_planted & is_flagged).sum()),
        flagged=int(is_flagged.sum()),
        flagged_wrong=int((is_wrong & is_flagged).sum()),
        first=len(first),
        first_wrong=int(is_wrong[first].sum()),
        suggested_right=int((is_wrong & is_flagged & is_right.to_numpy()).sum()),
        broken_reported=bool(table["is_unreadable_issue"].to_numpy()[kind == "broken"].all()),
        pair_reported=bool(conflicting[kind == "copy"].all() and conflicting.sum() == 2),
    )


def _read_truth(path: Path) -> pa.Table:
    types = dict.fromkeys(TRUTH_COLUMNS, pa.string())
    options = pcsv.ConvertOptions(column_types=types, include_columns=list(types))
    refuse_special_file(path, ReportError)
    try:
        return pcsv.read_csv(path, convert_options=options).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise ReportError(
            f"cannot read the truth of the demo data: {error}",
            hint="name the folder that `labelfix demo` wrote",
        ) from error
