"""``certificate.html``: the certificate as a page to read and to cite.

It shows what `labelfix.certificate.certificate` has written as JSON, and loads nothing.
"""

from functools import cache
from pathlib import Path

from jinja2 import Template
from markupsafe import Markup

from labelfix.certificate.certificate import (
    CERTIFICATE_NAME,
    PAGE_NAME,
    PROBABILITIES_NAME,
    Certificate,
    shares_of,
)
from labelfix.certificate.inference import Share, Shares
from labelfix.report.html.charts import Axis, Chart, Line, Whisker
from labelfix.report.html.render import content_policy, page_environment, shared_style
from labelfix.utils.files import atomic_path
from labelfix.utils.text import percent, version_of

HERE = Path(__file__).parent


def write_page(certificate: Certificate, run: Path) -> Path:
    """Write the page into a RUN folder, and return where it is.

    Raises:
        RunError: It cannot be written, or the certificate says nothing yet.
    """
    path, text = run / PAGE_NAME, _render(certificate, shares_of(certificate))
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def _render(certificate: Certificate, shares: Shares) -> str:
    style = shared_style() + (HERE / "page.css").read_text(encoding="utf-8")
    return _template().render(
        certificate=certificate,
        name=Path(certificate.source).name or "data set",
        json_name=CERTIFICATE_NAME,
        probabilities_name=PROBABILITIES_NAME,
        version=version_of("labelfix"),
        policy=content_policy(style),
        style=style,
        of=lambda share: f"{percent(share.estimate)} ({_interval(share)})",
        cells=_cells,
        chart=_chart(shares),
    )


@cache
def _template() -> Template:
    return page_environment(HERE).get_template("page.html.jinja")


def _interval(share: Share) -> str:
    return f"{percent(share.low)} to {percent(share.high)}"


def _cells(share: Share) -> Markup:
    cells = '<td class="number">{}</td><td class="number">{}</td>'
    return Markup(cells).format(percent(share.estimate), _interval(share))


def _chart(shares: Shares) -> Markup:
    """Return what was found wrong against what the model gave, stratum by stratum."""
    whiskers = [
        Whisker(
            stratum.probability,
            stratum.share.estimate,
            stratum.share.low,
            stratum.share.high,
            f"{percent(stratum.probability)} by the model, {percent(stratum.share.estimate)} found "
            f"({_interval(stratum.share)}), {stratum.looked_at:,} looked at",
        )
        for stratum in shares.strata
    ]
    lines = [
        Line("as the model gave", "ideal", [(0, 0), (1, 1)]),
        Line("recalibrated", "two", shares.calibration),
    ]
    return (
        Chart(
            "Share of labels found wrong, against the probability that the model gave",
            Axis("probability that the label is wrong", 0, 1, "share"),
            Axis("", 0, 1, "share"),
        )
        .with_lines(lines)
        .with_whiskers(whiskers)
        .drawn()
    )
