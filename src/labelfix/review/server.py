"""Serve the review page of a run: to this machine alone, or to a network if that is asked for."""

import errno
import gc
import os
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from labelfix.data.decisions import folder_of_run, read_decisions
from labelfix.errors import ConfigError
from labelfix.modalities.base import Renderer
from labelfix.report.io import read_report_table
from labelfix.report.reopen import find_renderer
from labelfix.report.run_locks import under_review
from labelfix.review.hosts import LOOPBACK, Place, refuse_address
from labelfix.review.retraining import Retraining
from labelfix.review.security import Keys
from labelfix.review.session import Session
from labelfix.utils.interrupts import ended_by_interrupt
from labelfix.utils.progress import OnProgress, no_progress

try:
    import uvicorn

    from labelfix.review.app import build_app
    from labelfix.review.finish import write_page_again
except ModuleNotFoundError as error:
    if error.name not in {"starlette", "uvicorn"}:
        raise
    raise ConfigError(
        f"the review page needs {error.name}, which is not installed",
        hint="pip install 'labelfix[review]'",
    ) from error

USUAL_PORT = 8722
"""Taken where no port is asked for, if it is free, so that a page stays where it was."""


@dataclass(frozen=True, slots=True)
class Review:
    """A review that is ready to be served.

    Args:
        session: What was found and decided.
        renderer: Who shows samples.
        retraining: Trains again on the decisions.
    """

    session: Session
    renderer: Renderer
    retraining: Retraining


def open_review(
    run: Path,
    *,
    reviewer: str | None = None,
    looks: int | None = None,
    hides_labels: bool = False,
    follow_links: bool = False,
    renderer: Renderer | None = None,
    on_progress: OnProgress = no_progress,
) -> Review:
    """Read a report, the decisions on it so far, and where its samples are.

    Args:
        run: The RUN folder, or the report in it.
        reviewer: Who decides, kept with each decision.
        looks: How many samples are drawn for a certificate, to be decided first; ``None`` for none.
        hides_labels: Whether their given labels are hidden too.
        follow_links: Whether samples are shown that links outside the data set lead to.
        renderer: Shows the samples; ``None`` opens the data set for that.
        on_progress: Told about files while the data set is opened.

    Raises:
        DatasetError: The samples are gone or have changed.
        DecisionsError: The decisions so far cannot be read.
        ReportError: ``run`` holds no report.
    """
    report = read_report_table(run, pred_probs=False)
    session = Session(report, run, reviewer, looks, hides_labels=hides_labels)
    if renderer is None:
        renderer = find_renderer(report, on_progress, follow_links=follow_links)
    return Review(session, renderer, Retraining(session))


def serve(
    review: Review,
    *,
    port: int | None = None,
    place: Place = LOOPBACK,
    open_browser: bool = True,
    on_open: Callable[[str], None],
) -> Path | None:
    """Serve the page of a review until it is interrupted.

    If anything was decided, the page of the run is then written again; returns where it is.

    Args:
        review: What to serve.
        port: Where to listen; ``None`` is the usual port, or any if that is taken.
        place: To whom to serve it: this machine, or others too.
        open_browser: Whether to open the page.
        on_open: Told the address, with the key in it, once it answers.

    Raises:
        ConfigError: The port is taken, or the place is no address of this machine.
    """
    run = review.session.run
    before = read_decisions(run)
    with under_review(folder_of_run(run)):
        with _listen(place, port) as listener:
            taken = listener.getsockname()[1]
            keys = Keys(taken, place)
            address = place.link(taken, keys.key)
            config = uvicorn.Config(
                build_app(review.session, review.renderer, keys, review.retraining),
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=2,
            )
            gc.collect()
            gc.freeze()  # else a collection walks the whole report, in the middle of an answer
            try:
                with ended_by_interrupt():
                    on_open(address)
                    if open_browser:
                        Timer(0.3, webbrowser.open, [address]).start()
                    uvicorn.Server(config).run(sockets=[listener])
            finally:
                review.retraining.stop()
        if read_decisions(run) == before:
            return None
        return write_page_again(review.session, review.renderer)


def _listen(place: Place, port: int | None) -> socket.socket:
    for wanted in (USUAL_PORT, 0) if port is None else (port,):
        try:
            return _bind(place, wanted)
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno == errno.EADDRNOTAVAIL:
                raise refuse_address(place, reason) from error
    raise ConfigError(
        f"cannot listen on port {wanted}: {reason}", hint="choose another --port, or leave it out"
    )


def _bind(place: Place, port: int) -> socket.socket:
    # the protocol is named for asyncio's sake, which else lets small answers wait 40 ms (Nagle)
    listener = socket.socket(place.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let others take the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if place.family == socket.AF_INET6:  # all addresses are those of either kind
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((place.address, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
