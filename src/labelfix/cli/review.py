"""``labelfix review``: open the page to decide in."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

import labelfix.cli.options as opt
from labelfix.errors import ConfigError, RunError

if TYPE_CHECKING:
    from labelfix.review.retraining import Retraining


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
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Let others review too, on a network that you trust: the address or the name of "
            "this machine that they reach, or 0.0.0.0 for all of them. Left out: this machine "
            "alone.",
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
    from labelfix.review.hosts import place_of
    from labelfix.review.server import open_review, serve
    from labelfix.utils.progress_bars import shown_progress
    from labelfix.utils.text import counted, plain

    if hide_labels and certify is None:
        raise ConfigError(
            "--hide-labels hides the labels of samples drawn by --certify",
            hint="add --certify 100, or leave it out",
        )
    place = place_of(host)
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

    def tell_address(address: str) -> None:
        typer.echo(f"open {address}")
        if place.is_shared:
            typer.echo(_warning(address, opened.session.view.wording.plural))
        typer.echo("end with Ctrl-C")
        sys.stdout.flush()

    page = serve(opened, port=port, place=place, open_browser=browser, on_open=tell_address)
    counts = opened.session.counts()
    decided = "is decided" if counts.suspects_decided == 1 else "are decided"
    suspects = counted(counts.suspects, "suspect")
    typer.echo(f"\n{counts.suspects_decided:,} of {suspects} {decided}")
    if page is not None:
        typer.echo("what was decided: " + plain(str(page)))
    if certify is not None:
        command = ["labelfix", "certify", str(run), "--looks", str(certify)]
        typer.echo("how many labels are wrong: " + plain(shlex.join(command)))
    for line in _more_suspects(opened.retraining):
        typer.echo(line)
    typer.echo("the corrected labels: " + plain(shlex.join(["labelfix", "export", str(run), "TO"])))


def _more_suspects(retraining: "Retraining") -> Iterator[str]:
    """Say how to go on with what a training on the decisions finds, or has found already."""
    from labelfix.utils.text import counted, plain

    found = retraining.found
    if found is not None:
        new = counted(found.new, "new suspect")
        yield f"{new} when trained with your decisions: {plain(found.command)}"
        return
    with suppress(RunError):  # nothing is decided, or there is nothing to train
        yield "more suspects, by training on your decisions: " + plain(retraining.plan().command)


def _warning(address: str, plural: str) -> str:
    """Return what others can do, and how to go without that."""
    where = urlsplit(address)
    tunnel = f"ssh -L {where.port}:127.0.0.1:{where.port} {where.hostname}"
    return (
        f"anyone on the network who has this link can see the {plural} and decide on them, and "
        "nothing is encrypted; to have it encrypted, leave out --host and let each reviewer run "
        f"{tunnel}"
    )
