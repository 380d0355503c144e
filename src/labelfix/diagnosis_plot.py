"""A diagnosis as one SVG picture, written by hand: no display, no plotting library.

Left: a bar for each layer, how far it travelled. Right: the course of training by epoch.
"""

from collections.abc import Callable, Sequence
from statistics import median

from labelfix.diagnosis_records import Diagnosis, EpochSummary, LayerDistance
from labelfix.svg import BLUE, GREY, ORANGE, framed, safe, text_at

ROW, TOP, NAMES, BARS = 14, 76, 250, 260
PANEL_WIDTH, PANEL_HEIGHT, PANEL_GAP = 340, 150, 66
PANELS_LEFT = NAMES + BARS + 150
LONGEST_NAME = 40
OUTLYING = 6
"""A bar of so many times the median is cut."""

Line = tuple[str, str, Callable[[EpochSummary], float | None]]

PANELS: tuple[tuple[str, float, tuple[Line, ...]], ...] = (
    (
        "Corrections: share that is right",
        1.0,
        (("precision", BLUE, lambda epoch: epoch.correction_precision),),
    ),
    (
        "Mean weight of a sample",
        0.0,
        (
            ("label kept", BLUE, lambda epoch: epoch.mean_weight_kept),
            ("label corrected", ORANGE, lambda epoch: epoch.mean_weight_corrected),
        ),
    ),
    (
        "Tensors at their boundary: share",
        1.0,
        (("at boundary", BLUE, lambda epoch: epoch.boundary_share),),
    ),
)
"""Heading, the least value that the top of the axis stands for, lines."""


def diagnosis_svg(diagnosis: Diagnosis, *, title: str) -> str:
    """Return the picture as the text of an SVG file; names are escaped.

    Args:
        diagnosis: What to draw.
        title: Its heading.
    """
    height = max(
        TOP + ROW * len(diagnosis.layers) + 30,
        TOP + len(PANELS) * (PANEL_HEIGHT + PANEL_GAP),
    )
    width = PANELS_LEFT + PANEL_WIDTH + 40
    parts = _bars(diagnosis.layers)
    for number, (heading, at_least, lines) in enumerate(PANELS):
        top = TOP + number * (PANEL_HEIGHT + PANEL_GAP)
        parts += _panel(heading, at_least, lines, diagnosis.epochs, top)
    return framed(parts, width, height, title=title)


def _bars(layers: Sequence[LayerDistance]) -> list[str]:
    heading = "Distance travelled, relative to the pretrained weight (orange: at its boundary)"
    parts = [text_at(16, TOP - 20, heading, size=12, weight="bold")]
    longest = _scale([layer.relative for layer in layers if layer.relative is not None])
    for number, layer in enumerate(layers):
        middle = TOP + ROW * number + ROW // 2
        figure = f"{layer.distance:.3g} from zero: not pretrained"
        length = 0.0
        if layer.relative is not None:
            is_off = layer.relative > longest
            figure = f"{layer.relative:.3f}{' (off the scale)' if is_off else ''}"
            length = BARS * min(layer.relative / longest, 1.0)
        colour = ORANGE if layer.at_boundary else BLUE
        parts += [
            f"<g><title>{safe(_told(layer))}</title>",
            text_at(NAMES - 6, middle + 4, _short(layer.name), size=10, anchor="end"),
            f"<rect x='{NAMES}' y='{middle - 5}' width='{length:.1f}' height='10' "
            f"fill='{colour}'/>",
            text_at(NAMES + length + 5, middle + 4, figure, size=10),
            "</g>",
        ]
    return parts


def _scale(relatives: Sequence[float]) -> float:
    """Return what a full bar stands for: a token that began near zero must not dwarf the rest."""
    if not any(relatives):
        return 1.0
    typical = median(relatives)
    return min(max(relatives), OUTLYING * typical) if typical > 0 else max(relatives)


def _told(layer: LayerDistance) -> str:
    radius = "no ball" if layer.radius is None else f"ball of radius {layer.radius:.4g}"
    return (
        f"{layer.name}: {layer.distance:.4g} from a weight of norm {layer.start_norm:.4g}, {radius}"
    )


def _panel(
    heading: str, at_least: float, lines: Sequence[Line], epochs: Sequence[EpochSummary], top: int
) -> list[str]:
    left, bottom = PANELS_LEFT, top + PANEL_HEIGHT
    known = {
        name: [(e.epoch, v) for e in epochs if (v := of(e)) is not None] for name, _, of in lines
    }
    values = [value for points in known.values() for _, value in points]
    parts = [
        text_at(left, top - 20, heading, size=12, weight="bold"),
        f"<path d='M{left} {top}V{bottom}H{left + PANEL_WIDTH}' fill='none' stroke='{GREY}'/>",
    ]
    if not values:
        return [
            *parts,
            text_at(left + 10, top + PANEL_HEIGHT / 2, "not known in this run", size=11),
        ]
    highest = max(at_least, *values) or 1.0
    first, last = epochs[0].epoch, epochs[-1].epoch

    def place(point: tuple[int, float]) -> tuple[float, float]:
        across = (point[0] - first) / (last - first) if last > first else 0.5
        return left + across * PANEL_WIDTH, bottom - point[1] / highest * PANEL_HEIGHT

    for number, (name, colour, _) in enumerate(lines):
        places = [place(point) for point in known[name]]
        parts += _line(places, colour)
        parts.append(text_at(left + 130 * number, top - 5, name, size=10, colour=colour))
    return [
        *parts,
        text_at(left - 6, top + 4, f"{highest:.3g}", size=10, anchor="end"),
        text_at(left - 6, bottom + 4, "0", size=10, anchor="end"),
        text_at(left, bottom + 14, f"epoch {first}", size=10),
        text_at(left + PANEL_WIDTH, bottom + 14, f"{last}", size=10, anchor="end"),
    ]


def _line(places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2' fill='{colour}'/>" for x, y in places]
    return [
        f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/>",
        *dots,
    ]


def _short(name: str) -> str:
    """Return a name that fits its column; the end says more than the middle."""
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[: half - 2]}...{name[-half:]}"
