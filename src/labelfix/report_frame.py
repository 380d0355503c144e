"""The report as a pandas DataFrame."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from labelfix.report import read_report_table

_NULLABLE = {pa.int16(): pd.Int16Dtype(), pa.int64(): pd.Int64Dtype()}
"""Plain pandas integers hold no nulls: labels would come back as floats."""


def read_report(path: str | Path) -> pd.DataFrame:
    """Read a report into a DataFrame, one row a sample, in the order of the input.

    The columns are described in docs/report.md. Integer columns are pandas' nullable integers, so
    that integer labels stay integers; ``attrs["class_names"]`` holds the K class names in the order
    of ``pred_probs``, and ``attrs["run"]`` says where the verdicts came from.

    Args:
        path: A RUN folder, or the report file itself.

    Raises:
        ReportError: There is no report, or the file is not one that this version can read.
    """
    report = read_report_table(Path(path))
    frame: pd.DataFrame = report.table.to_pandas(types_mapper=_NULLABLE.get)
    frame.attrs = {"class_names": list(report.class_names), "run": report.run.to_json()}
    return frame
