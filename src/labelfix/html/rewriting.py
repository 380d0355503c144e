"""Write the page of a run anew, from what lies in RUN."""

from pathlib import Path

from labelfix.html.pictures import find_pictures
from labelfix.html.writing import write_page
from labelfix.records import OnProgress, no_progress
from labelfix.report import read_report_table, report_file
from labelfix.run_folder import locked


def rewrite_page(
    run: Path, on_progress: OnProgress = no_progress, *, follow_links: bool = False
) -> Path:
    """Write the page of a finished run anew, with what was decided since; return where it is.

    Args:
        run: The RUN folder, or the report in it.
        on_progress: Told how far it is.
        follow_links: Whether to show images that links outside the data set lead to.

    Raises:
        ReportError: There is no report, or it cannot be read.
        RunError: A file of the run is damaged, or the page cannot be written.
        DecisionsError: The decisions are damaged.
    """
    folder = report_file(run).parent
    with locked(folder):  # an audit that replaces the run would write its own page
        report = read_report_table(run, pred_probs=False)
        pictures = find_pictures(report, on_progress, follow_links=follow_links)
        return write_page(folder, report, pictures)
