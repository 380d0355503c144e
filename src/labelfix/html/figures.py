"""The charts of the page, each from one record."""

from collections.abc import Callable

from markupsafe import Markup

from labelfix.diagnosis_records import EpochSummary
from labelfix.html.charts import Axis, Bar, Chart, Line, Whisker
from labelfix.html.expectation import Expectation
from labelfix.html.reviewed import CheckedBin
from labelfix.html.training import Training


def review_chart(expectation: Expectation) -> Markup:
    """Return the expected precision and recall against the number of samples reviewed."""
    points = expectation.points
    chart = Chart(
        "Expected share of wrong labels among the first samples reviewed, and share of all wrong "
        "labels that is found among them",
        Axis("samples reviewed, most surely wrong first", 0, points[-1].reviewed),
        Axis("", 0, 1, "share"),
    ).with_lines(
        [
            Line("wrong among those reviewed", "one", [(p.reviewed, p.precision) for p in points]),
            Line("found of all wrong labels", "two", [(p.reviewed, p.recall) for p in points]),
        ]
    )
    if expectation.flagged:
        chart = chart.with_mark(expectation.flagged, f"{expectation.flagged:,} flagged")
    return chart.drawn()


def histogram(expectation: Expectation) -> Markup:
    """Return how many samples have which probability of a wrong label.

    The height of a bar is the root of its count: the few that are wrong must be seen beside the
    many that are right.
    """
    bins = expectation.bins
    top = max(bin.count for bin in bins) ** 0.5
    bars = [
        Bar(b.low, b.high, b.count**0.5, f"{b.low:.0%} to {b.high:.0%}: {b.count:,} samples")
        for b in bins
    ]
    chart = Chart(
        "How many samples have which probability of a wrong label",
        Axis("probability that the given label is wrong", 0, 1, "share"),
        RootAxis("", 0, top),
    )
    return chart.with_bars(bars).drawn()


class RootAxis(Axis):
    """An axis of roots of counts, written as the counts."""

    def ticks(self) -> list[float]:
        """Return the roots of a few round counts."""
        counts = [10**power for power in range(12) if 10**power <= self.high**2]
        return [0.0, *(count**0.5 for count in counts if count**0.5 > self.high / 12)]

    def written(self, value: float) -> str:
        """Return the count."""
        return f"{round(value**2):,}"


def calibration_chart(bins: tuple[CheckedBin, ...]) -> Markup:
    """Return what share was found wrong against what was promised, with intervals of 90 %."""
    whiskers = [
        Whisker(
            b.promised,
            b.wrong,
            b.low,
            b.high,
            f"promised {b.promised:.0%}, found {b.wrong:.0%} ({b.low:.0%} to {b.high:.0%}) "
            f"of {b.count:,}",
        )
        for b in bins
    ]
    return (
        Chart(
            "Share of reviewed labels found wrong, against the probability that was promised",
            Axis("probability that the label is wrong", 0, 1, "share"),
            Axis("", 0, 1, "share"),
        )
        .with_lines([Line("as promised", "ideal", [(0, 0), (1, 1)])])
        .with_whiskers(whiskers)
        .drawn()
    )


def training_charts(training: Training) -> list[tuple[str, Markup]]:
    """Return a heading and a chart for each course of training that is known."""
    courses: tuple[tuple[str, Axis, Callable[[EpochSummary], float | None]], ...] = (
        ("Training loss", Axis("epoch", 0, 0, "number"), lambda e: e.loss),
        ("Labels corrected in training", Axis("epoch", 0, 0), lambda e: e.corrected),
        (
            "Tensors at their boundary",
            Axis("epoch", 0, 1, "share"),
            lambda e: e.boundary_share,
        ),
    )
    known = (
        (heading, axis, [(e.epoch, value) for e in training.epochs if (value := of(e)) is not None])
        for heading, axis, of in courses
    )
    return [(heading, _course(heading, axis, points)) for heading, axis, points in known if points]


def _course(heading: str, axis: Axis, points: list[tuple[int, float]]) -> Markup:
    top = 1.05 * max(axis.high / 1.05, *(value for _, value in points)) or 1.0
    first, last = points[0][0], points[-1][0]
    return (
        Chart(
            f"{heading}, by epoch",
            Axis("epoch", first, max(last, first + 1)),
            Axis("", 0, top, axis.kind),
        )
        .with_lines([Line(heading, "plain", points)], dots=True)
        .drawn()
    )


def layer_chart(training: Training) -> Markup:
    """Return how far each layer has gone, from the first to the last."""
    layers = training.layers
    bars = [
        Bar(
            number,
            number + 1,
            way.relative_distance,
            f"{way.name}: {way.relative_distance:.3f}"
            + (", at its boundary" if way.at_boundary else ""),
            "bar held" if way.at_boundary else "bar",
        )
        for number, way in enumerate(layers)
    ]
    top = 1.05 * max(way.relative_distance for way in layers) or 1.0
    return (
        Chart(
            "Distance of each layer from its pretrained weight, as a share of that weight's norm",
            Axis("layer, from the first to the last", 0, len(layers)),
            Axis("", 0, top, "share"),
        )
        .with_bars(bars)
        .drawn()
    )
