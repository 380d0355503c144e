"""``labelfix review``: open the page to decide in."""

import shlex
import sys
from typing import Annotated

import typer

import labelfix.cli.options as opt
from labelfix.errors import ConfigError


def review(
    run: opt.Run,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="N",
            help="Where to listen on this machine; 0 takes any port. Left out: 8722 if it is free.",
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    reviewer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Kept with each decision.")
    ] = None,
    certify: Annotated[
        int | None,
        typer.Option(
            min=20,
            metavar="LOOKS",
            help="Show so many samples drawn at random first, without what the model says of "
            "them: see `labelfix certify`.",
        ),
    ] = None,
    hide_labels: Annotated[
        bool,
        typer.Option(
            "--hide-labels",
            help="With --certify: hide the given labels of these samples and their names too; "
            "you name the class.",
        ),
    ] = False,
    outside_files: opt.OutsideFiles = False,
) -> None:
    """Open a page on this machine to decide about the suspects one by one."""
    from labelfix.review.server import open_review, serve
    from labelfix.utils.progress_bars import shown_progress
    from labelfix.utils.text import counted, plain

    if hide_labels and certify is None:
        raise ConfigError(
            "--hide-labels hides the labels of samples drawn by --certify",
            hint="add --certify 100, or leave it out",
        )
    with shown_progress() as on_progress:
        opened = open_review(
            run,
            reviewer=reviewer,
            looks=certify,
            hides_labels=hide_labels,
            follow_links=outside_files,
            on_progress=on_progress,
        )
    counts = opened.session.counts()
    typer.echo(
        f"{counted(counts.suspects, 'suspect')}, {counts.suspects_decided:,} decided; "
        "every decision is kept at once"
    )
    page = serve(opened, port=port, open_browser=browser, on_open=_tell_address)
    counts = opened.session.counts()
    decided = "is decided" if counts.suspects_decided == 1 else "are decided"
    suspects = counted(counts.suspects, "suspect")
    typer.echo(f"\n{counts.suspects_decided:,} of {suspects} {decided}")
    if page is not None:
        typer.echo("what was decided: " + plain(str(page)))
    if certify is not None:
        command = ["labelfix", "certify", str(run), "--looks", str(certify)]
        typer.echo("how many labels are wrong: " + plain(shlex.join(command)))
    typer.echo("the corrected labels: " + plain(shlex.join(["labelfix", "export", str(run), "TO"])))


def _tell_address(address: str) -> None:
    typer.echo(f"open {address}")
    typer.echo("end with Ctrl-C")
    sys.stdout.flush()
