"""The command line: parse, call one function, print.

Nothing heavy is imported before a command needs it: ``--help`` starts without numpy, and ``show``
and ``export`` never see torch.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer
from typer.core import TyperGroup

from labelfix.cli_benchmark import benchmark
from labelfix.config import EMBEDDED_BACKBONE, Device, Tune
from labelfix.errors import LabelfixError

INTERRUPTED = 130
"""What a shell says of a command that Ctrl-C ended."""


class Door(TyperGroup):
    """Turns expected faults into two lines on stderr; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit 1 on an expected fault, 130 on Ctrl-C."""
        try:
            return super().invoke(ctx)
        except LabelfixError as error:
            _say("error", str(error), typer.colors.RED)
            if error.hint:
                _say("hint", error.hint, typer.colors.CYAN)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            is_audit = ctx.invoked_subcommand == "audit"
            hint = "; the same command with --resume goes on where it stopped" if is_audit else ""
            _say("interrupted", f"nothing half-written is left{hint}", typer.colors.YELLOW)
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=Door,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # half the start time of rich's boxes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(benchmark, name="benchmark")


def main() -> None:
    """Run the command line as a process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(
            stream, "reconfigure"
        ):  # a name must not break a terminal that lacks its letters
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            app(prog_name="labelfix")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `labelfix show RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _say(what: str, text: str, colour: str) -> None:
    from labelfix.cli_text import plain

    typer.secho(f"{what}: ", err=True, fg=colour, bold=True, nl=False)
    typer.echo(plain(" ".join(text.splitlines())), err=True)


def _print_json(values: dict[str, Any]) -> None:
    typer.echo(json.dumps(values, indent=2))  # ASCII only, so that no name can command a terminal


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"labelfix {version('labelfix')}")
        raise typer.Exit


@app.callback()
def door(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Find the wrong labels of an image data set, and write clean ones.

    Begin with: labelfix audit DATA --out RUN
    """
    warnings.filterwarnings("ignore", module="PIL")  # the report says what ails an image


Run: TypeAlias = Annotated[
    Path, typer.Argument(metavar="RUN", help="The folder of a finished audit, or the report in it.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors, and JSON if asked for.")
]
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="The one source of random choices.")]


@app.command()
def audit(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder of class folders, a manifest (.csv .tsv .jsonl .parquet), or Parquet "
            "with the images inside (a file or a folder of shards).",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The folder to write the report to.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that RUN holds.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that RUN holds.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    backbone: Annotated[
        str,
        typer.Option(metavar="NAME", help="Any timm model. The default needs no network."),
    ] = EMBEDDED_BACKBONE,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The backbone's weights, as safetensors."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="A side, as the backbone sees it. Chosen from the data if left out.",
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the backbone runs.")] = "auto",
    tune: Annotated[
        Tune,
        typer.Option(
            help="head: heads on frozen features; full: the whole network; "
            "auto: the whole network where there is a GPU."
        ),
    ] = "auto",
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="F", help="Each sample is judged by models that saw the other folds only."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where features are kept for the next audit. The user's cache if left out.",
        ),
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Column of paths or bytes; found by its name if left out."
        ),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of labels; as above.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of unique sample names; as above.")
    ] = None,
    split_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of splits; as above.")
    ] = None,
) -> None:
    """Find the labels of DATA that are probably wrong, and write a report to RUN."""
    if overwrite and resume:
        raise typer.BadParameter("--overwrite and --resume exclude each other")
    from labelfix.cli_progress import shown_progress
    from labelfix.cli_tables import print_audit, stdout_console
    from labelfix.summary import summarise

    with shown_progress(quiet=quiet, first="loading libraries") as on_progress:
        from labelfix.api import audit as run_audit  # takes seconds

        result = run_audit(
            data,
            out,
            backbone=backbone,
            weights=weights,
            image_size=image_size,
            device=device,
            tune=tune,
            folds=folds,
            seed=seed,
            cache=cache,
            image_column=image_column,
            label_column=label_column,
            id_column=id_column,
            split_column=split_column,
            overwrite=overwrite,
            resume=resume,
            on_progress=on_progress,
        )
    summary = summarise(result.report)
    if as_json:
        _print_json({**_places(result.run), **summary.to_json()})
    elif not quiet:
        print_audit(stdout_console(), summary, result.run, list(_files(result.run).values()))


@app.command()
def show(
    run: Run,
    of_class: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME",
            help="Only samples that came with this label, or should have it.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Rows of each table.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what an audit found."""
    from labelfix.cli_tables import print_classes, print_figures, print_findings, stdout_console
    from labelfix.report import read_report_table
    from labelfix.summary import summarise

    summary = summarise(read_report_table(run, pred_probs=False), class_name=of_class, top=top)
    if as_json:
        _print_json({**_places(run if run.is_dir() else run.parent), **summary.to_json()})
        return
    console = stdout_console()
    print_figures(console, summary)
    print_findings(console, summary, of_class=of_class, pairs=top)
    print_classes(console, summary.by_class, top)


@app.command()
def export(
    run: Run,
    to: Annotated[
        Path,
        typer.Argument(metavar="TO", help="A manifest (.csv, .parquet) or a folder to write."),
    ],
    min_probability: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="P",
            help="Change a label only if it is wrong, and the suggested one right, with at least "
            "this probability each.",
        ),
    ] = 0.95,
    drop: Annotated[
        bool,
        typer.Option(
            "--drop",
            help="Leave out rows that are as surely wrong without a sure suggestion, and images "
            "that cannot be read.",
        ),
    ] = False,
    link: Annotated[
        bool, typer.Option("--link", help="Link the files of a folder instead of copying them.")
    ] = False,
    form: Annotated[
        Literal["csv", "parquet", "folder"] | None,
        typer.Option(help="What to write. Taken from the ending of TO if left out."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the manifest TO if it is there.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the audited data set with the labels that the audit is sure of."""
    from labelfix.cli_progress import shown_progress
    from labelfix.cli_tables import print_export, stdout_console
    from labelfix.exporting import export as run_export

    with shown_progress(quiet=quiet) as on_progress:
        result = run_export(
            run,
            to,
            min_probability=min_probability,
            drop=drop,
            link=link,
            form=form,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if as_json:
        _print_json(result.to_json())
    elif not quiet:
        print_export(stdout_console(), result)


@app.command()
def diagnose(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a finished audit --tune full.")
    ],
    samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="Training images to take the losses on.")
    ] = 1000,
    draws: Annotated[
        int, typer.Option(min=2, metavar="N", help="How many times noise is drawn, for each size.")
    ] = 20,
    seed: Seed = 0,
    device: Annotated[Device, typer.Option(help="Where the network runs.")] = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say how far each layer was trained, how stable the network is, and what that promises."""
    from labelfix.cli_progress import shown_progress

    with shown_progress(quiet=quiet, first="loading libraries") as on_progress:
        from labelfix.diagnosis_run import PLOT_NAME, RECORD_NAME
        from labelfix.diagnosis_run import diagnose as run_diagnosis  # takes seconds

        diagnosis = run_diagnosis(
            run, samples=samples, draws=draws, seed=seed, device=device, on_progress=on_progress
        )
    if as_json:
        _print_json(diagnosis.to_json())
    elif not quiet:
        from labelfix.cli_diagnosis import print_diagnosis
        from labelfix.cli_tables import stdout_console

        print_diagnosis(stdout_console(), diagnosis, [run / RECORD_NAME, run / PLOT_NAME])


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder to write, or to score a run of.")
    ],
    seed: Seed = 0,
    score: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Write nothing; say how much of the known truth RUN has found."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a small data set with known mistakes, to try an audit on."""
    if score is not None:
        _score_demo(folder, score, as_json=as_json)
        return
    from labelfix.demo import write_demo

    made = write_demo(folder, seed=seed)
    if as_json:
        _print_json({"data": str(made.data), "truth": str(made.truth), "planted": made.planted})
        return
    typer.echo(f"wrote {made.images:,} images, {made.planted} of them with a planted wrong label")
    typer.echo(f"data: {made.data}")
    typer.echo(f"truth, which an audit never reads: {made.truth}")


def _score_demo(folder: Path, run: Path, *, as_json: bool) -> None:
    from labelfix.cli_tables import print_demo_score, stdout_console
    from labelfix.demo_score import TRUTH_NAME, score_demo
    from labelfix.report import read_report_table, report_file

    score = score_demo(read_report_table(run, pred_probs=False), folder / TRUTH_NAME)
    if as_json:
        _print_json(score.to_json())
    else:
        print_demo_score(stdout_console(), score, report_file(run))


def _files(run: Path) -> dict[str, Path]:
    """Return the files of a run that a person may open."""
    files = {"report": run / "report.parquet", "run_info": run / "run.json"}
    return {name: path for name, path in files.items() if path.is_file()}


def _places(run: Path) -> dict[str, Any]:
    return {"run": str(run), "files": {name: str(path) for name, path in _files(run).items()}}
