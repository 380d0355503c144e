"""The commands that write, compare and check labels: ``export``, ``diff`` and ``check``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

import labelfix.cli.options as opt
from labelfix.cli.console import print_json, stdout_console
from labelfix.config import MIN_PROBABILITY
from labelfix.utils.text import plain

FAILED = 3
"""How ``labelfix check`` ends if a check fails: 1 and 2 say that nothing could be checked."""

MinProbability = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        metavar="P",
        help="Where nobody decided: change a label only if it is wrong, and the suggested one "
        "right, with at least this probability each.",
    ),
]
Drop = Annotated[
    bool,
    typer.Option(
        "--drop",
        help="Where nobody decided: leave out rows that are as surely wrong without a sure "
        "suggestion, and images that cannot be read.",
    ),
]


def add_export_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for command, short_help in (
        (diff, "Show what an export would change."),
        (export, "Write the data with the labels that are decided or sure."),
        (check, "Check the labels, for continuous integration."),
    ):
        app.command(short_help=short_help)(command)


def export(
    run: opt.Run,
    to: Annotated[
        Path,
        typer.Argument(
            parser=opt.path_of("to"), metavar="TO", help="The file or the folder to write."
        ),
    ],
    min_probability: MinProbability = MIN_PROBABILITY,
    drop: Drop = False,
    link: Annotated[
        bool, typer.Option("--link", help="Link the files of a folder instead of copying them.")
    ] = False,
    soft_labels: Annotated[
        bool,
        typer.Option(
            "--soft-labels",
            help="Add a column soft_label to a table in Parquet: how probable each class is, as a "
            "target to train on.",
        ),
    ] = False,
    format: Annotated[
        Literal[
            "own", "folder", "csv", "parquet", "jsonl", "huggingface", "cleanlab", "label-studio",
            "fiftyone", "argilla",
        ]
        | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="What to write: own (the form that the data came in), folder, csv, parquet, "
            "jsonl, huggingface, cleanlab, label-studio, fiftyone or argilla. Taken from the "
            "ending of TO if left out: .csv, .parquet, .jsonl, or none for a folder.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file TO if it is there.")
    ] = False,
    decisions: Annotated[
        Path | None,
        typer.Option(
            parser=opt.path_of("decisions"),
            metavar="FILE",
            help="Decisions that the page report.html has saved as decisions.jsonl: they are added "
            "to RUN first.",
        ),
    ] = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:  # fmt: skip
    """Write the data set with the labels that were decided or that the audit is sure of."""
    from labelfix.cli.export_tables import print_export
    from labelfix.exports.export import export as run_export
    from labelfix.utils.progress_bars import shown_progress

    with shown_progress(quiet=quiet) as on_progress:
        result = run_export(
            run,
            to,
            min_probability=min_probability,
            drop=drop,
            link=link,
            soft_labels=soft_labels,
            format=format,
            overwrite=overwrite,
            decisions=decisions,
            on_progress=on_progress,
        )
    if as_json:
        print_json(result.to_json())
    elif not quiet:
        print_export(stdout_console(), result)


def diff(
    run: opt.Run,
    min_probability: MinProbability = MIN_PROBABILITY,
    drop: Drop = False,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Rows of each table.")] = 20,
    csv: Annotated[
        Path | None,
        typer.Option(
            parser=opt.path_of("csv"), metavar="FILE", help="Write all changes to this file."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace FILE if it is there.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Show what an export would change, and write nothing but the FILE asked for."""
    from labelfix.cli.export_tables import print_diff
    from labelfix.exports.diff import diff_run

    result = diff_run(run, min_probability=min_probability, drop=drop, csv=csv, overwrite=overwrite)
    if as_json:
        print_json(result.to_json())
    else:
        print_diff(stdout_console(), result, top=top, csv=csv)


def check(
    run: opt.Run,
    max_error_rate: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Fail if a larger share of the labels is wrong."
        ),
    ] = None,
    upper_bound: Annotated[
        bool,
        typer.Option(
            "--upper-bound", help="Compare the upper end of the estimate's interval with SHARE."
        ),
    ] = False,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Fail if there is an issue of this kind, such as conflicting-duplicates or "
            "leakage. May be given more than once.",
        ),
    ] = None,
    exported: Annotated[
        bool,
        typer.Option(
            "--exported", help="Check the labels that `labelfix export` gives, not the given ones."
        ),
    ] = False,
    min_probability: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="P",
            help="With --exported: of an export with this --min-probability. Default: "
            f"{MIN_PROBABILITY:g}.",
        ),
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="With --exported: of an export with --drop.")
    ] = False,
    junit: Annotated[
        Path | None,
        typer.Option(
            parser=opt.path_of("junit"), metavar="FILE", help="Write JUnit XML, replacing FILE."
        ),
    ] = None,
    sarif: Annotated[
        Path | None,
        typer.Option(
            parser=opt.path_of("sarif"), metavar="FILE", help="Write SARIF 2.1.0, replacing FILE."
        ),
    ] = None,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
) -> None:
    """Check the given labels, or those of an export, for continuous integration.

    Ends with 0 if all checks pass, 3 if one fails, 1 or 2 if nothing could be checked.
    """
    if max_error_rate is None and not fail_on:
        raise typer.BadParameter("say what to check: --max-error-rate SHARE or --fail-on KIND")
    if upper_bound and max_error_rate is None:
        raise typer.BadParameter("--upper-bound has no use without --max-error-rate")
    if not exported and (min_probability is not None or drop):
        raise typer.BadParameter("--min-probability and --drop have no use without --exported")
    from functools import partial

    from labelfix.exports.exported import exported_view
    from labelfix.report.checks import check_run, write_junit, write_sarif

    least = MIN_PROBABILITY if min_probability is None else min_probability
    as_exported = partial(exported_view, min_probability=least, drop=drop)
    result = check_run(
        run,
        max_error_rate=max_error_rate,
        upper_bound=upper_bound,
        fail_on=fail_on or [],
        as_exported=as_exported if exported else None,
        outputs=[file for file in (junit, sarif) if file is not None],
    )
    if junit is not None:
        write_junit(result, run, junit)
    if sarif is not None:
        write_sarif(result, sarif)
    if as_json:
        print_json(result.to_json())
    elif not quiet:
        typer.echo(plain(f"{'passed' if result.passed else 'failed'}: {result.reason}"))
    if not result.passed:
        raise typer.Exit(FAILED)
