"""The report as a pandas DataFrame; no command loads pandas, which takes half a second."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from labelfix.arguments import checks_arguments
from labelfix.data.decisions import read_decisions
from labelfix.report.decisions import join_decisions
from labelfix.report.io import read_report_table
from labelfix.report.types import Report

_NULLABLE = {pa.int16(): pd.Int16Dtype(), pa.int64(): pd.Int64Dtype()}
"""Plain pandas integers hold no nulls: labels would come back as floats."""


@checks_arguments
def read_report(path: str | Path) -> pd.DataFrame:
    """Read a report into a DataFrame, one row a sample, in the order of the input.

    The columns are described in docs/report.md; the decisions of ``labelfix review`` are among
    them. Integer columns are pandas' nullable integers, so that integer labels stay integers;
    ``attrs["class_names"]`` holds the K class names in the order of ``pred_probs``, and
    ``attrs["run"]`` says where the actions came from.

    Args:
        path: A RUN folder, or the report file itself.

    Raises:
        ReportError: There is no report, or the file is not one that this version can read.
        DecisionsError: The file of decisions beside it cannot be read.
    """
    report = read_report_table(Path(path))
    decided = join_decisions(report, read_decisions(Path(path))).columns
    table = report.table
    for name in decided.column_names:
        table = table.append_column(name, decided[name])
    return frame_of(Report(table, report.class_names, report.run))


def frame_of(report: Report) -> pd.DataFrame:
    """Return the table of a report as a DataFrame, as `read_report` describes it."""
    frame: pd.DataFrame = report.table.to_pandas(types_mapper=_NULLABLE.get)
    frame.attrs = {"class_names": list(report.class_names), "run": report.run.to_json()}
    return frame
