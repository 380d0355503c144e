"""The head of the page: how many labels are clean, surely wrong and doubtful; before, and now.

Letters: N samples.
"""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from labelfix.config import MIN_PROBABILITY
from labelfix.report.checks import expected_errors
from labelfix.report.summary import Summary
from labelfix.report.view import ReportView

BAR_WIDTH, BAR_HEIGHT, LEAST_WIDTH = 1000.0, 26, 4.0
"""Of the bar, and of a part of it that holds a sample, in units of its drawing."""


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """What the labels of N samples are taken for; each sample counts once.

    Args:
        clean: Scored and not flagged, or decided by people.
        sure: Flagged, and an export would change them without a person.
        doubtful: Flagged otherwise.
        unscored: Nobody scored them.
        dropped: People left them out.
    """

    clean: int
    sure: int
    doubtful: int
    unscored: int
    dropped: int = 0

    @property
    def parts(self) -> list[tuple[str, int]]:
        """Return the name and the count of each part that holds a sample."""
        parts = {
            "clean": self.clean,
            "sure": self.sure,
            "doubtful": self.doubtful,
            "not scored": self.unscored,
            "dropped": self.dropped,
        }
        return [(name, count) for name, count in parts.items() if count]


@dataclass(frozen=True, slots=True)
class Hero:
    """What the head of the page says.

    Args:
        counts: Of the given labels.
        now: With what people decided; ``None`` where they decided nothing.
        really: How many flags are expected to be right; ``None`` without flags.
        rate: The estimated share of wrong labels before a review; ``None`` if not scored.
        rate_now: The share that an export leaves now; ``None`` likewise, or without decisions.
    """

    counts: LabelCounts
    now: LabelCounts | None
    really: int | None
    rate: float | None
    rate_now: float | None


def find_hero(view: ReportView, summary: Summary) -> Hero:
    """Return the head of the page of a report.

    Args:
        view: N samples, and what people decided.
        summary: Its figures.
    """
    precision = summary.expected_precision
    is_reviewed = view.decided.has("keep", "relabel", "drop", "unsure").any()
    return Hero(
        counts=_count(view, np.zeros(len(view), np.bool_), np.zeros(len(view), np.bool_)),
        now=_count(view, view.decided.has("keep", "relabel"), view.decided.has("drop"))
        if is_reviewed
        else None,
        really=None if precision is None else round(precision * summary.flagged),
        rate=view.report.run.noise_rate,
        rate_now=_rate_of_export(view) if is_reviewed else None,
    )


def _rate_of_export(view: ReportView) -> float | None:
    """Return the share of wrong labels that an export leaves, as the end of a review says it.

    A label that somebody kept or chose is right, one that an export changes is wrong with 1 - the
    probability of the suggestion, and the others are wrong as the report estimates.
    """
    decided = view.decided
    is_settled = decided.has("keep", "relabel") & decided.has_final_label
    is_in = ~decided.has("drop")
    is_changed = view.is_surely_wrong(MIN_PROBABILITY) & ~view.is_test & ~decided.is_decided
    scored = int(np.count_nonzero((view.is_scored | is_settled) & is_in))
    rate = view.report.run.noise_rate
    if not scored or rate is None:
        return None
    is_open = view.is_scored & is_in & ~is_settled & ~is_changed
    changed = float((1 - view.suggested_probability[is_changed]).sum(dtype=np.float64))
    return min(1.0, (changed + expected_errors(view, is_open, rate)) / scored)


def _count(
    view: ReportView, is_settled: NDArray[np.bool_], is_dropped: NDArray[np.bool_]
) -> LabelCounts:
    is_open = ~is_settled & ~is_dropped
    is_flagged = view.is_flagged & is_open
    is_sure = view.is_surely_wrong(MIN_PROBABILITY) & is_open
    is_unscored = ~view.is_scored & is_open
    counts = [is_sure, is_flagged & ~is_sure, is_unscored, is_dropped]
    sure, doubtful, unscored, dropped = (int(np.count_nonzero(is_it)) for is_it in counts)
    clean = len(view) - sure - doubtful - unscored - dropped
    return LabelCounts(clean, sure, doubtful, unscored, dropped)


def stacked_bar(counts: LabelCounts) -> Markup:
    """Return the counts as one bar; its colors come from the style sheet, by the parts' names."""
    parts = counts.parts
    total = sum(count for _, count in parts) or 1
    widths = [max(LEAST_WIDTH, BAR_WIDTH * count / total) for _, count in parts]
    scale = BAR_WIDTH / (sum(widths) or 1)
    drawn, left = [], 0.0
    for (name, count), width in zip(parts, widths, strict=True):
        drawn.append(
            Markup(
                '<rect class="part {look}" x="{x:.1f}" width="{w:.1f}" height="{h}">'
                "<title>{name}: {count:,}</title></rect>"
            ).format(
                look=name.replace(" ", "-"),
                x=left,
                w=max(0.0, scale * width - 2),
                h=BAR_HEIGHT,
                name=name,
                count=count,
            )
        )
        left += scale * width
    told = ", ".join(f"{name} {count:,}" for name, count in parts)
    return Markup(
        '<svg class="stack" viewBox="0 0 {w:.0f} {h}" preserveAspectRatio="none" role="img">'
        "<title>{told}</title>{drawn}</svg>"
    ).format(w=BAR_WIDTH, h=BAR_HEIGHT, told=told, drawn=Markup("").join(drawn))
