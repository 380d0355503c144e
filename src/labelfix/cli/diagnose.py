"""What ``labelfix diagnose`` prints as text."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from labelfix.cli.console import cell, make_table, print_heading, print_line
from labelfix.report.training_log import Diagnosis, EpochSummary, LayerDistance, NoiseStability
from labelfix.report.training_log import PacBayesBound as Bound
from labelfix.utils.text import percent

UNKNOWN = "-"
"""A cell of what is not known, or does not exist."""

LAYER_COLUMNS = ("layer", "role", "depth", "distance", "relative", "radius", "at boundary")
NOISE_COLUMNS = ("sigma", "loss", "+- over draws", "increase", "draws")
EPOCH_COLUMNS = (
    "epoch", "networks", "loss", "corrected", "weight kept",
    "weight corrected", "at boundary",
)  # fmt: skip


def print_diagnosis(console: Console, diagnosis: Diagnosis, files: Sequence[Path]) -> None:
    """Print a diagnosis as tables, what they mean, and where they are kept."""
    print_heading(console, "Distance travelled by each layer (Frobenius norm)")
    _print_table(console, LAYER_COLUMNS, [_layer_row(layer) for layer in diagnosis.layers], left=2)
    if diagnosis.boundary_share is not None:
        share = percent(diagnosis.boundary_share, 0)
        print_line(console, f"{share} of the tensors that a ball holds lie on its boundary")
    print_heading(console, "Noise stability: the loss with noise of size sigma on every weight")
    _print_table(console, NOISE_COLUMNS, [_noise_row(record) for record in diagnosis.noise])
    calm = diagnosis.noise[0].unperturbed_loss
    print_line(
        console,
        f"{calm:.4g} without noise, on {diagnosis.images:,} training images against the labels as "
        "they were given",
    )
    print_heading(console, "PAC-Bayes bound on the perturbed loss, each sigma for itself")
    sigmas = [f"sigma {bound.sigma:g}" for bound in diagnosis.bounds]
    _print_table(console, ("term", *sigmas), _bound_rows(diagnosis.bounds), left=1)
    print_line(console, _assessment(diagnosis.bounds))
    print_line(
        console,
        f"the loss in it is an estimate, from {diagnosis.images:,} of the training images and "
        f"{len(diagnosis.noise[0].draws)} draws; biases and norms are taken as given",
    )
    print_heading(console, "The course of training, on average over the networks")
    _print_table(console, EPOCH_COLUMNS, [_epoch_row(epoch) for epoch in diagnosis.epochs])
    print_heading(console, "Files")
    for file in files:
        print_line(console, str(file))


def _assessment(bounds: Sequence[Bound]) -> str:
    if all(bound.is_vacuous for bound in bounds):
        return "every bound is vacuous: it is no better than C, the loss of a guess"
    best = min(bounds, key=lambda bound: bound.bound)
    return f"the least one, {best.bound:.4g} at sigma {best.sigma:g}, lies below a guess's loss"


def _layer_row(layer: LayerDistance) -> tuple[str, ...]:
    is_at = {None: UNKNOWN, True: "yes", False: "no"}[layer.at_boundary]
    depth = UNKNOWN if layer.depth is None else str(layer.depth)
    relative = "new" if layer.relative is None else f"{layer.relative:.4f}"
    return (
        layer.name, layer.role or UNKNOWN, depth, _figure(layer.distance), relative,
        _figure(layer.radius), is_at,
    )  # fmt: skip


def _noise_row(noise: NoiseStability) -> tuple[str, ...]:
    return (
        f"{noise.sigma:g}", _figure(noise.loss), _figure(noise.std), _figure(noise.increase),
        str(len(noise.draws)),
    )  # fmt: skip


def _bound_rows(bounds: Sequence[Bound]) -> list[tuple[str, ...]]:
    """Return a row for each term and a column for each sigma: so it fits a terminal."""
    terms: tuple[tuple[str, Callable[[Bound], str]], ...] = (
        ("perturbed loss, clipped to [0, C]", lambda bound: _figure(bound.clipped_loss)),
        ("D2: sum of squared distances", lambda bound: _figure(bound.squared_distance)),
        ("KL = D2 / (2 sigma^2)", lambda bound: _figure(bound.kl)),
        ("ln(2 n / delta)", lambda bound: _figure(bound.log_term)),
        ("n, training samples", lambda bound: f"{bound.samples:,}"),
        ("delta", lambda bound: f"{bound.delta:g}"),
        ("C, the loss of a guess", lambda bound: _figure(bound.loss_bound)),
        ("C sqrt((KL + ln) / (2 (n - 1)))", lambda bound: _figure(bound.complexity)),
        ("bound: loss + that", lambda bound: _figure(bound.bound)),
        ("vacuous: not below C", lambda bound: "yes" if bound.is_vacuous else "no"),
    )
    return [(name, *map(told, bounds)) for name, told in terms]


def _epoch_row(epoch: EpochSummary) -> tuple[str, ...]:
    return (
        str(epoch.epoch), str(epoch.networks), _figure(epoch.loss), _figure(epoch.corrected),
        _figure(epoch.mean_weight_kept), _figure(epoch.mean_weight_corrected),
        _share(epoch.boundary_share),
    )  # fmt: skip


def _figure(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else percent(value)


def _print_table(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 0
) -> None:
    """Print rows of text; the first ``left`` columns are names, the rest figures."""
    table = make_table(*columns[:left], *((name, "right") for name in columns[left:]))
    for row in rows:
        table.add_row(*map(cell, row))
    console.print(table)
