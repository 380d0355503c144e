"""The command ``certify``: how many labels are wrong, from samples drawn at random."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import labelfix.cli.options as opt
from labelfix.cli.console import print_json
from labelfix.utils.text import about, counted, percent, plain

if TYPE_CHECKING:
    from labelfix.certificate import Certificate, Share

SECONDS_A_LOOK = 6
"""What it takes to look at a sample without a suggestion, about."""


def certify(
    run: opt.Run,
    looks: Annotated[
        int,
        typer.Option(min=20, metavar="N", help="How many samples are drawn. Default: 100."),
    ] = 100,
    as_json: opt.AsJson = False,
) -> None:
    """Say how many labels are wrong, and how many flags are right, from a random sample.

    The samples are drawn by strata of the report's probabilities; the intervals hold whether or
    not these are right. Without decisions on them, the command says how wide the interval would be
    and how to decide. Once all are decided, the certificate is written into RUN:
    certificate.json and certificate.html to cite, and recalibrated.parquet, the probabilities of
    all samples as the looks correct them.
    """
    from labelfix.certificate import certify as certified
    from labelfix.certificate import write_page, write_probabilities
    from labelfix.data.decisions import folder_of_run, read_decisions
    from labelfix.report.io import read_report_table
    from labelfix.report.view import ReportView

    report = read_report_table(run, pred_probs=False)
    view = ReportView(report, read_decisions(run))
    certificate, written = certified(view, looks), []
    if certificate.is_complete:
        folder = folder_of_run(run)
        written = [
            certificate.write(folder),
            write_page(certificate, folder),
            write_probabilities(certificate, view, folder),
        ]
    if as_json:
        print_json(certificate.to_json())
        return
    for line in _lines(certificate, run):
        typer.echo(plain(line))
    for path in written:
        typer.echo(plain(f"written: {path}"))


def _lines(certificate: "Certificate", run: Path) -> list[str]:
    """Return what a certificate says, a sentence a line."""
    undecided = certificate.undecided
    lines = [
        f"{certificate.drawn:,} of {certificate.samples:,} scored samples are drawn, by strata; "
        f"{certificate.drawn - undecided:,} of them are decided"
    ]
    shares = certificate.shares
    if shares is not None:
        lines += [f"wrong labels: {_of(shares.noise_rate)}{_estimated(certificate)}"]
        if shares.precision is not None:
            lines += [
                f"right flags: {_of(shares.precision)} of {certificate.flagged:,} flagged labels"
            ]
        if shares.recall is not None:
            lines += [f"found by the flags: {_of(shares.recall)} of the wrong labels"]
    if certificate.left_out:
        some = counted(certificate.left_out, "sample is", "samples are")
        lines += [f"{some} left out: nobody was sure, or it is a copy that was dropped"]
    if not undecided and shares is None:
        lines += ["too few of the labels were decided to be right or wrong: draw more with --looks"]
    if undecided:
        command = ["labelfix", "review", str(run), "--certify", str(certificate.looks)]
        lines += [
            f"{undecided:,} more ({about(undecided * SECONDS_A_LOOK)}) would give the share of "
            f"wrong labels to within about {100 * certificate.half_width:.1f} percentage points, "
            "9 times out of 10:",
            f"  {shlex.join(command)}",
        ]
    return lines


def _of(share: "Share") -> str:
    return (
        f"{percent(share.estimate)} (90 % interval {percent(share.low)} to {percent(share.high)})"
    )


def _estimated(certificate: "Certificate") -> str:
    rate = certificate.model_noise_rate
    return "" if rate is None else f"; the audit had estimated {percent(rate)}"
