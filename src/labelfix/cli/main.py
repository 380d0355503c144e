"""The command line: parse, call one function, print.

Nothing heavy is imported before a command needs it: ``--help`` starts without numpy, and ``show``
and ``export`` never see torch.
"""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import labelfix.cli.options as opt
from labelfix.cli.benchmark import benchmark
from labelfix.cli.certify import certify
from labelfix.cli.console import (
    CommandGroup,
    print_json,
    refuse_idle_options,
    run_as_process,
    stdout_console,
)
from labelfix.cli.exports import add_export_commands
from labelfix.cli.review import review
from labelfix.utils.text import plain

if TYPE_CHECKING:
    from labelfix.pipeline.result import AuditResult
    from labelfix.report.types import Report


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # half the start time of rich's boxes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(benchmark, name="benchmark", short_help="Measure how well wrong labels are found.")
app.command(short_help="Decide about the suspects, on a page on this machine.")(review)
app.command(short_help="Say how many labels are wrong, from a random sample.")(certify)


def main() -> None:
    """Run the command line as a process."""
    run_as_process(app)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from labelfix.utils.text import version_of

        typer.echo(f"labelfix {version_of('labelfix')}")
        raise typer.Exit


@app.callback()
def labelfix_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Find the wrong labels of an image data set, and write clean ones.

    Begin with: labelfix audit DATA
    """
    warnings.filterwarnings("ignore", module="PIL")  # the report says what ails an image


ROWS = 20
"""Rows of a table where nobody says how many."""

USED_WITH_PRED_PROBS = {
    "out",
    "pred_probs",
    "precision",
    "budget",
    "config",
    "overwrite",
    "resume",
    "decisions",
    "force",
    "images",
    "image_column",
    "text_column",
    "memory",
    "top_classes",
    "as_json",
    "quiet",
}


@app.command(cls=opt.GroupedCommand, short_help="Find the labels of DATA that are probably wrong.")
def audit(
    ctx: typer.Context,
    *,
    data: opt.Data = None,
    out: opt.Out = None,
    pred_probs: opt.PredProbs = None,
    images: opt.Images = None,
    force: opt.Force = False,
    precision: opt.Precision = None,
    budget: opt.Budget = None,
    issue_threshold: opt.IssueThresholds = None,
    overwrite: opt.Overwrite = False,
    resume: opt.Resume = False,
    halve_learning_rate: opt.HalveLearningRate = False,
    decisions: opt.Decisions = None,
    seed: opt.AuditSeed = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    config: opt.ConfigFile = None,
    backbone: opt.Backbone = None,
    weights: opt.Weights = None,
    pretrained: opt.Pretrained = None,
    image_size: opt.ImageSize = None,
    device: opt.AuditDevice = None,
    tune: opt.WhatIsTuned = None,
    time: opt.TimeLimit = None,
    folds: opt.Folds = None,
    epochs: opt.Epochs = None,
    learning_rate: opt.LearningRate = None,
    train_batch_size: opt.TrainBatchSize = None,
    max_weight_change: opt.MaxWeightChange = None,
    self_labeling: opt.SelfLabeling = None,
    cache: opt.Cache = None,
    memory: opt.Memory = None,
    top_classes: opt.TopClasses = None,
    image_column: opt.ImageColumn = None,
    text_column: opt.TextColumn = None,
    features_column: opt.FeaturesColumn = None,
    features: opt.FeaturesFile = None,
    label_column: opt.LabelColumn = None,
    id_column: opt.IdColumn = None,
    split_column: opt.SplitColumn = None,
    test_split: opt.TestSplit = None,
    label_missing: opt.LabelMissing = None,
    outside_files: opt.OutsideFilesRead = None,
    max_pixels: opt.MaxPixels = None,
    value_range: opt.ValueRange = None,
    engine: opt.Engine = None,
    ray_address: opt.RayAddress = None,
    workers: opt.Workers = None,
    cpus_per_worker: opt.CpusPerWorker = None,
    gpus_per_worker: opt.GpusPerWorker = None,
) -> None:
    """Find the labels of DATA that are probably wrong, and write a report to RUN."""
    if overwrite and resume:
        raise typer.BadParameter("--overwrite and --resume exclude each other")
    if data is None:
        if not pred_probs:
            raise typer.BadParameter("give DATA, or --pred-probs FILE")
        refuse_idle_options(ctx, used=USED_WITH_PRED_PROBS)
        _audit_pred_probs(
            pred_probs,
            _place(out, pred_probs[0], quiet=quiet, overwrite=overwrite, resume=resume),
            as_json,
            quiet,
            precision=precision,
            budget=budget,
            overwrite=overwrite,
            resume=resume,
            decisions=decisions,
            force=force,
            config=config,
            images=images,
            image_column=image_column,
            text_column=text_column,
            memory=memory,
            top_classes=top_classes,
        )
        return
    if pred_probs:
        raise typer.BadParameter("DATA and --pred-probs exclude each other")
    if images is not None:
        raise typer.BadParameter("--images is for --pred-probs: DATA says where its images are")
    if force:
        raise typer.BadParameter("--force is for --pred-probs: an audit of DATA refuses no labels")
    out = _place(out, data, quiet=quiet, overwrite=overwrite, resume=resume)
    from labelfix.utils.progress_bars import shown_progress

    with shown_progress(quiet=quiet, first="loading libraries") as on_progress:
        from labelfix.api import audit as run_audit

        result = run_audit(
            data,
            out,
            config=config,
            backbone=backbone,
            weights=weights,
            pretrained=pretrained,
            image_size=image_size,
            device=device,
            tune=tune,
            time=time,
            folds=folds,
            epochs=epochs,
            learning_rate=learning_rate,
            train_batch_size=train_batch_size,
            max_weight_change=max_weight_change,
            self_labeling=self_labeling,
            seed=seed,
            cache=cache,
            memory=memory,
            top_classes=top_classes,
            image_column=image_column,
            text_column=text_column,
            features_column=features_column,
            features=features,
            label_column=label_column,
            id_column=id_column,
            split_column=split_column,
            test_split=test_split,
            label_missing=label_missing,
            outside_files=outside_files,
            max_pixels=max_pixels,
            value_range=opt.range_of(value_range),
            engine=engine,
            ray_address=ray_address,
            workers=workers,
            cpus_per_worker=cpus_per_worker,
            gpus_per_worker=gpus_per_worker,
            precision=precision,
            budget=budget,
            issue_threshold=opt.thresholds_of(issue_threshold),
            overwrite=overwrite,
            resume=resume,
            halve_learning_rate=halve_learning_rate,
            decisions=decisions,
            on_progress=on_progress,
        )
    _tell_audit(result, as_json, quiet)


def _place(out: Path | None, data: Path, *, quiet: bool, overwrite: bool, resume: bool) -> Path:
    """Return the RUN folder, and refuse one that cannot be written to before torch is loaded.

    Args:
        out: What was asked for.
        data: What is audited: it names the folder where nothing was asked for.
        quiet: Do not say which folder it is.
        overwrite: Whether a run that is in it can be replaced.
        resume: Whether a run that is in it can be gone on with.

    Raises:
        RunError: It holds something else, or a run, or another process is writing to it or
            reviews what would be replaced.
    """
    from labelfix.report.run_folder import RunFolder, default_run

    if out is None:
        out = default_run(data)
        if not quiet:
            typer.echo(plain(f"writing to {out}"), err=True)
    is_writer = os.environ.get("RANK", "0") == "0"  # as torchrun says; the others find it held
    # else that is what is wrong; of an address it is known later
    if is_writer and (not isinstance(data, os.PathLike) or data.exists()):
        RunFolder(out).refuse_in_advance(overwrite=overwrite, resume=resume)
    return out


def _audit_pred_probs(
    files: list[Path], out: Path, as_json: bool, quiet: bool, **options: Any
) -> None:
    from labelfix.utils.progress_bars import shown_progress

    with shown_progress(quiet=quiet, first="loading libraries") as on_progress:
        from labelfix.pipeline.probabilities import audit_pred_probs

        result = audit_pred_probs(files, out, on_progress=on_progress, **options)
    _tell_audit(result, as_json, quiet)


def _tell_audit(result: "AuditResult", as_json: bool, quiet: bool) -> None:
    if as_json or not quiet:
        _tell_report(result.report, result.run, as_json=as_json)


def _tell_report(
    report: "Report",
    run: Path,
    *,
    as_json: bool,
    of_class: str | None = None,
    top: int | None = None,
    pairs: int | None = None,
) -> None:
    """Print the answer, or the tables that were asked for.

    Args:
        report: The report.
        run: Its RUN folder.
        as_json: Print all as JSON instead.
        of_class: Show one class.
        top: Rows of each table.
        pairs: Rows of the table of pairs.
    """
    from labelfix.data.decisions import read_decisions
    from labelfix.report.summary import summarize
    from labelfix.report.training_log import summarize_training
    from labelfix.report.view import ReportView

    view = ReportView(report, read_decisions(run))
    training = summarize_training(run, report)
    rows = max(top or ROWS, pairs or 0)
    summary = summarize(view, class_name=of_class, top=rows, training=training)
    if as_json:
        print_json({**_places(run), **summary.to_json()})
    elif of_class is None and top is None and pairs is None:
        from labelfix.cli.answer import print_answer
        from labelfix.exports.leftovers import outlook_of

        print_answer(stdout_console(), summary, outlook_of(view), run)
    else:
        from labelfix.cli.tables import print_show

        whole = None if of_class is None and top is None else top or ROWS
        print_show(stdout_console(), summary, of_class=of_class, top=whole, pairs=pairs)


@app.command(short_help="Show what an audit found.")
def show(
    run: opt.Run,
    of_class: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME",
            help="Only samples that came with this label, or should have it.",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Show tables, of so many rows each."),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Show so many of the classes most confused."),
    ] = None,
    html: Annotated[
        bool,
        typer.Option(
            "--html", help="Write the page RUN/report.html anew, with what was decided since."
        ),
    ] = False,
    outside_files: opt.OutsideFiles = False,
    as_json: opt.AsJson = False,
) -> None:
    """Show what an audit found: on one screen, or in the tables that are asked for."""
    if html:
        if of_class is not None:
            raise typer.BadParameter("--html and --class exclude each other: the page has a filter")
        _write_page(run, outside_files=outside_files, as_json=as_json)
        return
    from labelfix.data.decisions import folder_of_run
    from labelfix.report.io import read_report_table

    report = read_report_table(run, pred_probs=False)
    folder = folder_of_run(run)
    _tell_report(report, folder, as_json=as_json, of_class=of_class, top=top, pairs=pairs)


def _write_page(run: Path, *, outside_files: bool, as_json: bool) -> None:
    from labelfix.report.html.page import rewrite_page
    from labelfix.utils.progress_bars import shown_progress

    with shown_progress(quiet=as_json) as on_progress:
        page = rewrite_page(run, on_progress, follow_links=outside_files)
    if as_json:
        print_json(_places(page.parent))
    else:
        typer.echo(f"wrote {page}")


add_export_commands(app)


@app.command(short_help="Say how far the layers of a network were trained.")
def diagnose(
    run: Annotated[
        Path,
        typer.Argument(
            parser=opt.path_of("run"),
            metavar="RUN",
            help="The folder of a finished audit --tune top or full.",
        ),
    ],
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Training images to take the losses on.")
    ] = 1000,
    draws: Annotated[
        int, typer.Option(min=2, metavar="N", help="How many times noise is drawn, for each size.")
    ] = 20,
    seed: opt.Seed = 0,
    device: opt.WhereItRuns = "auto",
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Say how far each layer was trained, how stable the network is, and what that promises."""
    from labelfix.utils.progress_bars import shown_progress

    with shown_progress(quiet=quiet, first="loading libraries") as on_progress:
        from labelfix.diagnose import diagnose as run_diagnosis

        diagnosis = run_diagnosis(
            run, samples=samples, draws=draws, seed=seed, device=device, on_progress=on_progress
        )
    if as_json:
        print_json(diagnosis.to_json())
    elif not quiet:
        from labelfix.cli.diagnose import print_diagnosis
        from labelfix.report.run_folder import DIAGNOSIS_NAMES

        print_diagnosis(stdout_console(), diagnosis, [run / name for name in DIAGNOSIS_NAMES])


@app.command()
def demo(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=opt.path_of("folder"),
            metavar="DIR",
            help="The folder to write, or to score a run of.",
        ),
    ],
    seed: opt.Seed = 0,
    score: Annotated[
        Path | None,
        typer.Option(
            parser=opt.path_of("score"),
            metavar="RUN",
            help="Write nothing; say how much of the known truth RUN has found.",
        ),
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="Made sentences in a table, in place of pictures.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Write a small data set with known mistakes, to try an audit on."""
    if score is not None:
        _score_demo(folder, score, as_json=as_json)
        return
    from labelfix.benchmark.demo import write_demo
    from labelfix.benchmark.demo_texts import write_text_demo

    made = (write_text_demo if text else write_demo)(folder, seed=seed)
    if as_json:
        print_json({"data": str(made.data), "truth": str(made.truth), "planted": made.planted})
        return
    typer.echo(
        f"wrote {made.samples:,} {made.plural}, {made.planted} of them with a planted wrong label"
    )
    typer.echo(f"data: {made.data}")
    typer.echo(f"truth, which an audit never reads: {made.truth}")


def _score_demo(folder: Path, run: Path, *, as_json: bool) -> None:
    from labelfix.benchmark.demo_score import TRUTH_NAME, score_demo
    from labelfix.cli.tables import print_demo_score
    from labelfix.modalities.base import wording_of
    from labelfix.report.io import read_report_table, report_file

    report = read_report_table(run, pred_probs=False)
    score = score_demo(report, folder / TRUTH_NAME)
    if as_json:
        print_json(score.to_json())
    else:
        plural = wording_of(report.run.modality).plural
        print_demo_score(stdout_console(), score, report_file(run), plural)


def _files(run: Path) -> dict[str, Path]:
    """Return the files of a run that a person may open."""
    from labelfix.report.parts import PARTS_NAME, is_parts

    parts = run / PARTS_NAME
    files = {
        "page": run / "report.html",
        "report": parts if is_parts(parts) else run / "report.parquet",
        "noise_matrix": run / "noise_matrix.parquet",
        "neighbors": run / "neighbors.parquet",
        "run_info": run / "run.json",
    }
    return {name: path for name, path in files.items() if path.is_file() or is_parts(path)}


def _places(run: Path) -> dict[str, Any]:
    return {"run": str(run), "files": {name: str(path) for name, path in _files(run).items()}}
