"""What an audit leaves in the hands of a program: where the run is, and what can be done with it.

Reading a result loads no torch; pandas, and the server of a review, load when they are asked for.

Letters: N samples, M flagged samples.
"""

import asyncio
import shutil
import threading
import weakref
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from labelfix.arguments import checks_arguments
from labelfix.config import MIN_PROBABILITY
from labelfix.data.decisions import read_decisions
from labelfix.errors import LabelfixError
from labelfix.modalities.base import Renderer
from labelfix.report.html.notebook import Told, as_html
from labelfix.report.io import RUN_NAME, read_report_table, report_file
from labelfix.report.parts import PARTS_NAME, copy_parts, is_parts
from labelfix.report.reopen import find_renderer
from labelfix.report.run_folder import PAGE_NAME, RunFolder
from labelfix.report.run_locks import is_lock
from labelfix.report.schema import PRED_PROBS
from labelfix.report.stored import StoredColumns
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.utils.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

    from labelfix.exports.export import ExportFormat, ExportResult


@dataclass(frozen=True, eq=False, repr=False)
class AuditResult:
    """What an audit left behind.

    Args:
        run: The RUN folder.
        report: What was found; also in ``run/report.parquet``. Of probabilities that were given,
            or too large for the memory, the table here lacks ``pred_probs``, which is most of a
            report when K is large.
        renderer: Shows the samples, where the program that audited them still holds them.
        is_temporary: Whether the folder goes away with this object.
    """

    run: Path
    report: Report
    renderer: Renderer | None = field(default=None, kw_only=True)
    is_temporary: bool = field(default=False, kw_only=True)

    def __len__(self) -> int:
        """Return N."""
        return len(self.report)

    @property
    def view(self) -> ReportView:
        """Return the report with the decisions of now."""
        return ReportView(self.report, read_decisions(self.run))

    @property
    def issues(self) -> "pd.DataFrame":
        """Return the M flagged rows of the report, most probably wrong first.

        The columns are those of `labelfix.read_report` but for ``pred_probs``.
        """
        from labelfix.report.frame import frame_of

        view = self.view
        names = [name for name in self.report.column_names if name != PRED_PROBS]
        table = self.report.take(view.suspects, names)
        decided = view.decided.take(view.suspects)
        for name in decided.column_names:
            table = table.append_column(name, decided[name])
        return frame_of(replace(self.report, columns=table))

    def to_pandas(self) -> "pd.DataFrame":
        """Return the whole report, as `labelfix.read_report` does."""
        from labelfix.report.frame import read_report

        return read_report(self.run)

    @checks_arguments
    def save(self, path: str | Path, *, overwrite: bool = False) -> "AuditResult":
        """Keep the run in another folder, and return the result there.

        Args:
            path: The folder.
            overwrite: Whether a run that is in it already may be replaced.

        Raises:
            RunError: The folder holds something else, or cannot be written to.
        """
        folder = RunFolder(Path(path))
        with folder.held(may_hold_run=overwrite):
            folder.refuse_while_reviewed()
            files = [file for file in self.run.iterdir() if file.is_file()]
            files = [file for file in files if not is_lock(file.name)]
            files.sort(key=lambda file: (file.name == RUN_NAME, file.name))  # last: all are there
            folder.remove_replaced([file.name for file in files])
            if is_parts(self.run / PARTS_NAME):
                copy_parts(self.run / PARTS_NAME, folder.path / PARTS_NAME)
            for file in files:
                with atomic_path(folder.path / file.name) as draft:
                    shutil.copyfile(file, draft)
            folder.remove_again(kept=self.run)
        report = self.report
        if isinstance(report.columns, StoredColumns):  # the run here may be gone before its copy
            has_probs = PRED_PROBS in report.column_names
            there = read_report_table(folder.path, pred_probs=has_probs)
            report = replace(report, columns=there.columns)
        return AuditResult(folder.path, report, renderer=self.renderer)

    def export(
        self,
        to: str | Path,
        *,
        min_probability: float = MIN_PROBABILITY,
        drop: bool = False,
        link: bool = False,
        soft_labels: bool = False,
        format: "ExportFormat | None" = None,
        overwrite: bool = False,
        decisions: str | Path | None = None,
    ) -> "ExportResult":
        """Write the data set with better labels; the arguments are those of `labelfix.export`."""
        from labelfix.exports.export import export

        return export(
            self.run,
            to,
            min_probability=min_probability,
            drop=drop,
            link=link,
            soft_labels=soft_labels,
            format=format,
            overwrite=overwrite,
            decisions=decisions,
        )

    @checks_arguments
    def review(
        self,
        *,
        port: int | None = None,
        browser: bool = True,
        reviewer: str | None = None,
        on_open: Callable[[str], None] = print,
    ) -> None:
        """Open a page on this machine to decide about the suspects one by one.

        It is served until it is interrupted; in a notebook it is served beside it, until that ends.

        Args:
            port: Where to listen; ``None`` takes the usual port, or any if that is taken.
            browser: Whether to open the page.
            reviewer: Kept with each decision.
            on_open: Told the address.

        Raises:
            ConfigError: The port is taken, or what serves pages is not installed.
            DatasetError: The samples are gone or have changed.
        """
        from labelfix.review.server import open_review, serve

        opened = open_review(self.run, reviewer=reviewer, renderer=self.renderer)

        def work() -> None:
            serve(opened, port=port, open_browser=browser, on_open=on_open)

        if _is_in_notebook():
            threading.Thread(target=work, daemon=True, name="labelfix review").start()
        else:
            work()

    def open(self) -> Path:
        """Open the page of the report in a browser; return where it is."""
        page = (self.run / PAGE_NAME).absolute()
        webbrowser.open(page.as_uri())
        return page

    @cached_property
    def told(self) -> Told:
        """Return the result in figures."""
        view = ReportView(self.report)
        run = self.report.run
        unscored = int((~view.is_scored).sum())
        kept = " .save(RUN) keeps the run," if self.is_temporary else ""
        return Told(
            name="AuditResult",
            flagged=len(view.suspects),
            samples=len(view),
            noise_rate=run.noise_rate,
            interval=run.noise_rate_interval,
            next=f".issues lists them, .review() decides on them,{kept} "
            f'.export("clean.csv") writes better labels, .open() shows {self.run / PAGE_NAME}',
            unscored=unscored,
        )

    def __repr__(self) -> str:
        return self.told.as_text()

    def _repr_html_(self) -> str:
        return as_html(self.told, ReportView(self.report), self._shown())

    def _shown(self) -> Renderer | None:
        """Return who shows the samples; that they cannot be shown is no fault of a notebook."""
        if self.renderer is not None:
            return self.renderer
        try:
            return find_renderer(self.report)
        except LabelfixError:
            return None


def _is_in_notebook() -> bool:
    """Return whether an event loop runs here, as in Jupyter: a server has to run beside it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def in_temporary_run(work: Callable[[Path], AuditResult]) -> AuditResult:
    """Return the result of an audit whose run goes away with it.

    Args:
        work: Writes a run into the folder that it is given.
    """
    folder = Path(mkdtemp(prefix="labelfix-"))
    try:
        result = work(folder / "run")
        # whoever keeps the report alone still has it when the folder is gone
        report = replace(result.report, columns=result.report.table)
        result = replace(result, report=report, is_temporary=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
    return result


@checks_arguments
def open_run(run: str | Path) -> AuditResult:
    """Return the result of an audit that was finished before.

    Args:
        run: A RUN folder, or the report in it.

    Raises:
        ReportError: There is no report, or it cannot be read.
    """
    path = Path(run)
    return AuditResult(report_file(path).parent, read_report_table(path, pred_probs=False))
