"""Diagnose the network that a finished run left behind.

Letters: N samples of the data set, B images of a batch, K classes, S pixels a side.
"""

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from labelfix.arguments import checks_arguments
from labelfix.config import BackboneConfig, Device
from labelfix.errors import ConfigError, DatasetError, RunError, UnreadableSample
from labelfix.modalities.base import wording_of
from labelfix.modalities.image.backbone import Network, load_network, normalize
from labelfix.modalities.image.decode import Decoding, decode_image
from labelfix.modalities.image.transforms import Preprocessing
from labelfix.report.html.charts import diagnosis_svg
from labelfix.report.io import RUN_NAME, UNFINISHED_NAME, read_report_table
from labelfix.report.reopen import open_audited
from labelfix.report.run_folder import (
    LAYERS_NAME,
    LOG_NAME,
    MODEL_NAME,
    PLOT_NAME,
    RECORD_NAME,
)
from labelfix.report.run_locks import locked
from labelfix.report.training_log import (
    Diagnosis,
    LayerDistance,
    NoiseStability,
    PacBayesBound,
    boundary_share,
    read_json,
    read_layers,
    read_log,
    summarize_log,
    with_limits,
)
from labelfix.report.types import Report
from labelfix.report.view import ReportView
from labelfix.types import MISSING, SampleStore
from labelfix.utils.files import atomic_path
from labelfix.utils.progress import OnProgress, Progress, no_progress
from labelfix.utils.torch_utils import choose_device
from labelfix.utils.weights_file import read_weights

SIGMAS = (1e-2, 1e-3, 1e-4)
"""The standard deviations of the paper's table."""

DRAWS = 20
DELTA = 0.05


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of more than one dimension, by name; they share memory with it."""
    return {name: value for name, value in model.named_parameters() if value.ndim > 1}


def layer_distances(
    state: Mapping[str, Tensor], pretrained: Mapping[str, Tensor]
) -> tuple[LayerDistance, ...]:
    """Return how far each weight of ``state`` lies from where it started.

    Args:
        state: Parameters by name; those of one dimension or none are passed over.
        pretrained: Where they started. A weight that it lacks was not pretrained: its center is 0.

    Raises:
        ConfigError: A weight has another shape than its start.
    """
    records = []
    for name, value in state.items():
        if value.ndim < 2 or not value.is_floating_point():
            continue
        start = pretrained.get(name)
        if start is not None and start.shape != value.shape:
            raise ConfigError(
                f"{name} is {tuple(value.shape)}, but was {tuple(start.shape)} when it started",
                hint="compare a network with the pretrained weights that it was tuned from",
            )
        records.append(_layer_distance(name, value, start))
    return tuple(records)


def _layer_distance(name: str, value: Tensor, start: Tensor | None) -> LayerDistance:
    now = value.detach().cpu().double()
    center = torch.zeros_like(now) if start is None else start.detach().cpu().double()
    distance, norm = float((now - center).norm()), float(center.norm())
    return LayerDistance(
        name=name,
        size=value.numel(),
        distance=distance,
        start_norm=norm,
        relative=distance / norm if norm > 0 else None,
    )


@torch.no_grad()
def noise_stability(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss_bound: float,
    sigmas: Sequence[float] = SIGMAS,
    draws: int = DRAWS,
    seed: int = 0,
    on_draw: Callable[[int], None] = lambda done: None,
) -> tuple[NoiseStability, ...]:
    """Return what noise N(0, sigma^2) on every weight does to the loss, for each sigma.

    The network is in eval mode meanwhile; afterwards its weights are, bit for bit, and its modes
    what they were, also if the block is left by an error. The noise depends on the seed, the place
    of sigma, the draw and the weight's name and shape alone: two networks get the same.

    Args:
        model: In float32 (bfloat16 would swallow a sigma of 1e-4), on any device.
        batches: Inputs and ``(B,)`` labels on the model's device; gone through many times.
        loss_bound: C, to which each sample's loss is clipped for ``clipped_loss``.
        sigmas: Standard deviations, each >= 0.
        draws: How many times noise is drawn, at least 1.
        seed: Of the noise.
        on_draw: Told how many draws are done, over all sigmas.
    """
    if draws < 1:
        raise ConfigError(f"{draws} draws tell nothing", hint="take 20 or more")
    records = []
    with _eval_mode(model):
        calm, _ = _mean_losses(model, batches, loss_bound)
        for place, sigma in enumerate(sigmas):
            losses, clipped = [], []
            for draw in range(draws):
                with _perturbed(model, sigma, f"{seed}/{place}/{draw}"):
                    loss, clipped_loss = _mean_losses(model, batches, loss_bound)
                losses.append(loss)
                clipped.append(clipped_loss)
                on_draw(place * draws + draw + 1)
            mean = _mean(losses)
            records.append(
                NoiseStability(
                    sigma=sigma,
                    loss=mean,
                    increase=mean - calm,
                    std=_std(losses),
                    unperturbed_loss=calm,
                    clipped_loss=_mean(clipped),
                    draws=tuple(losses),
                )
            )
    return tuple(records)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


@contextmanager
def _perturbed(model: nn.Module, sigma: float, draw: str) -> Iterator[None]:
    """Add noise to every weight; put copies back at the end, which subtracting would not do."""
    weights = weights_of(model)
    originals = {name: value.detach().clone() for name, value in weights.items()}
    try:
        for name, value in weights.items():
            noise = _standard_noise(f"{draw}/{name}", value.shape)
            value.add_(noise.to(device=value.device, dtype=value.dtype), alpha=sigma)
        yield
    finally:
        for name, value in weights.items():
            value.copy_(originals[name])


def _standard_noise(key: str, shape: torch.Size) -> Tensor:
    """Return N(0, 1) noise that is the same wherever the key and the shape are; drawn on the CPU.

    A generator for each weight, because one for all would shift the noise of every weight behind
    one that another network has not got.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
    return torch.randn(shape, generator=generator)


def _mean_losses(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], loss_bound: float
) -> tuple[float, float]:
    """Return the mean loss over all samples, as it is and clipped."""
    sums, count = torch.zeros(2, dtype=torch.float64), 0
    for inputs, labels in batches:
        losses = cross_entropy(model(inputs).float(), labels, reduction="none").cpu().double()
        clipped = losses.nan_to_num(nan=loss_bound).clamp(0, loss_bound)
        sums += torch.stack([losses.sum(), clipped.sum()])
        count += len(labels)
    if count == 0:
        raise ConfigError("there is no image to take the loss of", hint="name at least one")
    loss, clipped_loss = (sums / count).tolist()
    return loss, clipped_loss


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


def _std(values: Sequence[float]) -> float:
    """Return the sample standard deviation, 0 for one value."""
    if not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values) if len(values) > 1 else 0.0


def pac_bayes_bound(
    distances: Iterable[LayerDistance],
    *,
    perturbed_loss: float,
    sigma: float,
    samples: int,
    loss_bound: float,
    delta: float = DELTA,
) -> PacBayesBound:
    """Return McAllester's bound on the perturbed loss: prior at the start, posterior at the end.

    ``E_U L <= E_U L_emp + C * sqrt((KL + log(2n / delta)) / (2 (n - 1)))`` with
    ``KL = sum ||W_i - W0_i||_F^2 / (2 sigma^2)``. It bounds the loss *with* noise on the weights;
    a bound without noise needs more (products of spectral norms). What the noise leaves alone
    (biases, norms) it takes as given. sigma has to be chosen before the data are seen: of several
    sigmas the best may be taken only at delta divided by their number.

    Args:
        distances: Of every weight that the noise perturbs; a new head's center is zero.
        perturbed_loss: E_U L_emp on the training samples, each loss clipped to ``[0, C]``.
        sigma: Of the noise, above 0.
        samples: n, how many the network was trained on, at least 2.
        loss_bound: C, above 0.
        delta: The bound may fail with this probability, above 0 and below 1.

    Raises:
        ConfigError: A number is out of its range.
    """
    if not (sigma > 0 and loss_bound > 0 and 0 < delta < 1 and samples > 1):
        raise ConfigError(
            f"no bound for sigma={sigma}, delta={delta}, C={loss_bound} and {samples} samples",
            hint="sigma and C lie above 0, delta between 0 and 1, and 2 samples are needed",
        )
    squared = math.fsum(layer.distance**2 for layer in distances)
    kl = squared / (2 * sigma**2)
    log_term = math.log(2 * samples / delta)
    complexity = loss_bound * math.sqrt((kl + log_term) / (2 * (samples - 1)))
    bound = perturbed_loss + complexity
    return PacBayesBound(
        sigma=sigma,
        clipped_loss=perturbed_loss,
        squared_distance=squared,
        kl=kl,
        log_term=log_term,
        samples=samples,
        delta=delta,
        loss_bound=loss_bound,
        complexity=complexity,
        bound=bound,
        is_vacuous=not bound < loss_bound,
    )


KEPT_FOLD = 0
"""A run trains a network a fold and keeps the first, which never saw the samples of this fold."""

BATCH_ON_CPU, BATCH_ON_GPU = 32, 256


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """Images ``(R, S, S, 3)`` uint8 and labels ``(R,)``, normalized batch by batch when gone over.

    Kept as bytes: as floats they would be four times as large.
    """

    images: Tensor
    labels: Tensor
    preprocessing: Preprocessing
    device: torch.device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        size = BATCH_ON_CPU if self.device.type == "cpu" else BATCH_ON_GPU
        for start in range(0, len(self.labels), size):
            images = self.images[start : start + size].to(self.device)
            labels = self.labels[start : start + size].to(self.device)
            yield normalize(images, self.preprocessing, torch.float32), labels


@checks_arguments
def diagnose(
    run: Path,
    *,
    samples: int = 1000,
    draws: int = DRAWS,
    seed: int = 0,
    device: Device = "auto",
    on_progress: OnProgress = no_progress,
) -> Diagnosis:
    """Measure what decides how the network of a run generalises; write it to the RUN folder.

    The losses are taken on evenly spread samples that it was trained on, against the labels as
    they were given, wrong ones included, without augmentation. The weights are those that the run
    kept: the averaged ones of its first network. The bound's C is ``ln K``, the loss of a guess:
    a vacuous bound is one that a guess keeps.

    Args:
        run: The RUN folder of a finished audit that tuned the whole network.
        samples: At most so many images.
        draws: Of the noise, for each sigma.
        seed: Of the noise.
        device: Where the network runs.
        on_progress: Told about images and draws.

    Raises:
        RunError: The folder holds no fine-tuned network, or files of it are damaged.
        ReportError: The folder holds no report.
        BackboneError: The pretrained weights cannot be had again.
        DatasetError: The data are gone, have changed, or cannot be read.
    """
    run = Path(run)
    if samples < 1:
        raise ConfigError(f"{samples} samples are too few", hint="take 1,000")
    _refuse_other_runs(run)
    with locked(run):
        return _diagnose(run, samples, draws, seed, device, on_progress)


def _diagnose(
    run: Path, samples: int, draws: int, seed: int, device: Device, on_progress: OnProgress
) -> Diagnosis:
    limits = read_layers(run / LAYERS_NAME)
    entries = read_log(run / LOG_NAME)
    report = read_report_table(run, pred_probs=False)
    wording = wording_of(report.run.modality)
    if not wording.are_pictures:
        raise RunError(
            f"the network of {run} reads {wording.plural}, and those of images alone can be "
            "diagnosed",
            hint=f"{LAYERS_NAME} and {LOG_NAME} in the same folder tell how it was trained",
        )
    view = ReportView(report)
    where = choose_device(device)
    on_progress(Progress("loading the networks", 0, None, "steps"))
    network = _pretrained(run, report)
    pretrained = {name: value.detach().clone() for name, value in weights_of(network.model).items()}
    model = _tuned(run / MODEL_NAME, network.model, len(report.class_names)).to(where)
    trained = len(_trained_rows(view))
    held = _samples(view, network.preprocessing, samples, where, on_progress)
    distances = layer_distances(weights_of(model), pretrained)
    loss_bound = math.log(len(report.class_names))
    noise = noise_stability(
        model,
        held,
        loss_bound=loss_bound,
        draws=draws,
        seed=seed,
        on_draw=lambda done: on_progress(
            Progress("perturbing the weights", done, len(SIGMAS) * draws, "draws")
        ),
    )
    diagnosis = Diagnosis(
        backbone=str(report.run.backbone),
        images=len(held.labels),
        seed=seed,
        layers=with_limits(distances, limits),
        noise=noise,
        bounds=tuple(
            pac_bayes_bound(
                distances,
                perturbed_loss=record.clipped_loss,
                sigma=record.sigma,
                samples=trained,
                loss_bound=loss_bound,
            )
            for record in noise
        ),
        epochs=summarize_log(entries),
        boundary_share=boundary_share(limits),
    )
    _write(diagnosis, run)
    return diagnosis


def _write(diagnosis: Diagnosis, run: Path) -> None:
    title = f"{run.resolve().name}: {diagnosis.backbone}"
    texts = {
        RECORD_NAME: json.dumps(diagnosis.to_json(), indent=2, allow_nan=False) + "\n",
        PLOT_NAME: diagnosis_svg(diagnosis, title=title),
    }
    for name, text in texts.items():
        with atomic_path(run / name) as draft:
            draft.write_text(text, encoding="utf-8")


def _refuse_other_runs(run: Path) -> None:
    if not run.is_dir():
        raise RunError(
            f"{run} is not a folder",
            hint="name the RUN folder of `labelfix audit --tune top` or `--tune full`",
        )
    if (run / UNFINISHED_NAME).exists() or not (run / RUN_NAME).is_file():
        raise RunError(
            f"{run} holds no finished run",
            hint="finish it: the same `labelfix audit` command with --resume",
        )
    if not (run / MODEL_NAME).is_file():
        raise RunError(
            f"{run} holds no {MODEL_NAME}: its run trained heads on a frozen network",
            hint="there is one to diagnose after `labelfix audit --tune top` or `--tune full`",
        )


def _pretrained(run: Path, report: Report) -> Network:
    """Load the network as it was before training, without a classifier."""
    content = read_json(run / RUN_NAME)
    try:
        asked = content["config"]["backbone"]
        size = int(report.run.settings["image_size"])
        weights = asked["weights"]
        config = BackboneConfig(
            name=asked["name"],
            weights=weights and Path(weights),
            pretrained=asked.get("pretrained", True),
            image_size=size,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run / RUN_NAME} does not say where the pretrained weights came from",
            hint="audit again with this version of labelfix",
        ) from error
    network = load_network(config, size, seed=report.run.seed or 0)
    if report.run.settings.get("weights_digest", network.weights_digest) != network.weights_digest:
        raise RunError(
            f"the pretrained weights of {config.name!r} are not those that {run} started from",
            hint="distances need the same start: put the weights file back, or audit again",
        )
    return network


def _tuned(path: Path, model: Any, classes: int) -> nn.Module:
    """Load fine-tuned weights into the network, with a classifier of K classes."""
    model.reset_classifier(classes)
    try:
        model.load_state_dict(read_weights(path), strict=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        raise RunError(
            f"{path} does not fit the network of its run: {why}",
            hint="audit again with --overwrite",
        ) from error
    tuned: nn.Module = model.eval()
    return tuned


def _trained_rows(view: ReportView) -> NDArray[np.int64]:
    """Return the rows that the network of the run was trained on: those of the other folds."""
    return np.flatnonzero((view.fold != MISSING) & (view.fold != KEPT_FOLD))


def _samples(
    view: ReportView,
    preprocessing: Preprocessing,
    count: int,
    device: torch.device,
    on_progress: OnProgress,
) -> _Samples:
    report = view.report
    images = _images(report, on_progress)
    decoding = Decoding.from_json(report.run.settings.get("decoding"))
    trained = _trained_rows(view)
    places = np.linspace(0, len(trained) - 1, min(count, len(trained))).round().astype(np.int64)
    pixels, rows = [], []
    for done, row in enumerate(trained[places].tolist(), start=1):
        try:
            image = decode_image(images.read(row), at_least=preprocessing.size, decoding=decoding)
        except UnreadableSample:
            continue
        pixels.append(torch.from_numpy(preprocessing.pixels(image)))
        rows.append(row)
        on_progress(Progress("reading images", done, len(places), "images"))
    if not rows:
        raise DatasetError(
            f"no image of {report.run.source.path} can be read any more", hint="put the data back"
        )
    return _Samples(
        images=torch.stack(pixels),
        labels=torch.from_numpy(view.given[rows].astype(np.int64)),
        preprocessing=preprocessing,
        device=device,
    )


def _images(report: Report, on_progress: OnProgress) -> SampleStore:
    """Open the audited data again.

    Raises:
        DatasetError: They are gone, or are not those that were audited.
    """
    dataset = open_audited(report, on_progress)
    if dataset is None:
        raise DatasetError(
            f"{report.run.source.path} holds probabilities, and no images",
            hint="diagnose a run of images, not of --pred-probs",
        )
    return dataset.store
