"""What the audit found, as cleanlab's Datalab tells it: its four columns of label issues."""

import pyarrow as pa

from labelfix.report import Report

COLUMNS = ("is_label_issue", "label_score", "given_label", "predicted_label")
"""As ``Datalab.get_issues("label")`` has them."""


def datalab_table(report: Report) -> pa.Table:
    """Return the N rows of a report with Datalab's four columns, in the order of the input.

    They say what was found, so that neither decisions nor a plan change them. ``label_score`` and
    ``predicted_label`` are null where labelfix has not judged, which Datalab does not know.
    """
    return report.table.select(list(COLUMNS))
