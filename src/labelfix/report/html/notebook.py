"""What a notebook shows of a result: three lines of text, or the first suspects as pictures.

The HTML stands alone in a page of others: its styles are its own, and its colors fit light and
dark. Letters: N samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from labelfix.modalities.base import Renderer, Snippet, ThumbnailRequest
from labelfix.report.view import ReportView
from labelfix.utils.text import percent, plain

SHOWN, SIDE = 8, 120
"""Suspects that are shown, and the longest side of their pictures in pixels."""

_LONGEST = 40


@dataclass(frozen=True, slots=True)
class Told:
    """A result in figures.

    Args:
        name: What the object is called.
        flagged: How many labels are probably wrong.
        samples: N.
        noise_rate: The estimated share of wrong labels; ``None`` where nothing was scored.
        interval: Between which shares it lies with a probability of 90 %.
        next: What to do next.
        unscored: How many labels were not scored.
    """

    name: str
    flagged: int
    samples: int
    noise_rate: float | None
    interval: tuple[float, float] | None
    next: str
    unscored: int = 0

    @property
    def headline(self) -> str:
        """Return how many labels are probably wrong."""
        unscored = f" ({self.unscored:,} not scored)" if self.unscored else ""
        what = "is" if self.flagged == 1 else "are"
        return f"{self.flagged:,} of {self.samples:,} labels {what} probably wrong{unscored}"

    @property
    def share(self) -> str:
        """Return the estimated share of wrong labels."""
        if self.noise_rate is None or self.interval is None:
            return "estimated share of wrong labels: unknown"
        low, high = self.interval
        interval = f"{percent(low)} to {percent(high)}"
        return f"estimated share of wrong labels: {percent(self.noise_rate)} ({interval})"

    def as_text(self) -> str:
        """Return three lines."""
        return f"{self.name}: {self.headline}\n{self.share}\nnext: {self.next}"


@dataclass(frozen=True, slots=True)
class _Card:
    """One suspect; ``picture`` is the address of one, text, or nothing."""

    sample_id: str
    given: str
    suggested: str
    error: str
    picture: str | Snippet | None


def as_html(told: Told, view: ReportView, renderer: Renderer | None) -> str:
    """Return what a notebook shows: the figures, a bar of the share, and the first suspects.

    Args:
        told: The figures.
        view: The report.
        renderer: Draws samples; ``None`` names them only.
    """
    low, high = told.interval or (0.0, 0.0)
    return _template().render(
        headline=told.headline,
        share=told.share,
        bar_title=told.share,
        rate=f"{100 * (told.noise_rate or 0):.2f}",
        low=f"{100 * low:.2f}",
        wide=f"{100 * (high - low):.2f}",
        cards=_cards(view, renderer),
        next=told.next,
    )


def _cards(view: ReportView, renderer: Renderer | None) -> list[_Card]:
    rows = view.suspects[:SHOWN].tolist()
    requests = [ThumbnailRequest(row, SIDE) for row in rows]
    pictures: Mapping[ThumbnailRequest, str | Snippet] = {}
    if renderer is not None:
        pictures = renderer.draw(requests)
    names = ["sample_id", "given_label", "suggested_label", "label_error_probability"]
    return [
        _Card(
            sample_id=_short(cells["sample_id"]),
            given=_short(cells["given_label"]),
            suggested=_short(cells["suggested_label"]),
            error=percent(cells["label_error_probability"]),
            picture=pictures.get(request),
        )
        for request, cells in zip(requests, view.cells(rows, names), strict=True)
    ]


def _short(value: object) -> str:
    text = plain(str(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("notebook.html.jinja")
