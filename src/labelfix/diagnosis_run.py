"""Diagnose the network that a finished run left behind.

Letters: N samples of the data set, B images of a batch, K classes, S pixels a side.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from labelfix.arguments import checks_arguments
from labelfix.audited_data import config_of
from labelfix.backbone import Network, choose_device, load_network, normalise
from labelfix.config import BackboneConfig, Device
from labelfix.dataset import open_dataset
from labelfix.diagnosis import (
    DRAWS,
    SIGMAS,
    layer_distances,
    noise_stability,
    pac_bayes_bound,
    weights_of,
)
from labelfix.diagnosis_log import (
    boundary_share,
    read_json,
    read_layers,
    read_log,
    summarise_log,
    with_limits,
)
from labelfix.diagnosis_plot import diagnosis_svg
from labelfix.diagnosis_records import Diagnosis
from labelfix.errors import ConfigError, DatasetError, RunError, UnreadableImage
from labelfix.files import atomic_path
from labelfix.images import Decoding, decode_image
from labelfix.preprocessing import Preprocessing
from labelfix.records import ImageStore, OnProgress, Progress, no_progress
from labelfix.report import RUN_NAME, UNFINISHED_NAME, Report, read_report_table
from labelfix.run_folder import (
    LAYERS_NAME,
    LOG_NAME,
    MODEL_NAME,
    PLOT_NAME,
    RECORD_NAME,
    locked,
)

KEPT_FOLD = 0
"""A run trains a network a fold and keeps the first, which never saw the samples of this fold."""

BATCH_ON_CPU, BATCH_ON_GPU = 32, 256


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """Images ``(R, S, S, 3)`` uint8 and labels ``(R,)``, normalised batch by batch when gone over.

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
            yield normalise(images, self.preprocessing, torch.float32), labels


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
    where = choose_device(device)
    on_progress(Progress("loading the networks", 0, None, "steps"))
    network = _pretrained(run, report)
    pretrained = {name: value.detach().clone() for name, value in weights_of(network.model).items()}
    model = _tuned(run / MODEL_NAME, network.model, len(report.class_names)).to(where)
    held = _samples(report, network.preprocessing, samples, where, on_progress)
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
                samples=len(_trained_rows(report)),
                loss_bound=loss_bound,
            )
            for record in noise
        ),
        epochs=summarise_log(entries),
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
            f"{run} is not a folder", hint="name the RUN folder of `labelfix audit --tune full`"
        )
    if (run / UNFINISHED_NAME).exists() or not (run / RUN_NAME).is_file():
        raise RunError(
            f"{run} holds no finished run",
            hint="finish it: the same `labelfix audit` command with --resume",
        )
    if not (run / MODEL_NAME).is_file():
        raise RunError(
            f"{run} holds no {MODEL_NAME}: its run trained heads on a frozen network",
            hint="there is a network to diagnose after `labelfix audit --tune full`",
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
        model.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, OSError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        raise RunError(
            f"{path} does not fit the network of its run: {why}",
            hint="audit again with --overwrite",
        ) from error
    tuned: nn.Module = model.eval()
    return tuned


def _trained_rows(report: Report) -> NDArray[np.int64]:
    """Return the rows that the network of the run was trained on: those of the other folds."""
    fold = report.table["fold"].to_numpy(zero_copy_only=False)  # NaN where a row has none
    return np.flatnonzero(np.isfinite(fold) & (fold != KEPT_FOLD))


def _samples(
    report: Report,
    preprocessing: Preprocessing,
    count: int,
    device: torch.device,
    on_progress: OnProgress,
) -> _Samples:
    images = _images(report, on_progress)
    decoding = Decoding.from_json(report.run.settings.get("decoding"))
    names = pa.array(report.class_names, report.table["given_label"].type)
    labels = pc.index_in(report.table["given_label"], names)
    trained = _trained_rows(report)
    places = np.linspace(0, len(trained) - 1, min(count, len(trained))).round().astype(np.int64)
    pixels, rows = [], []
    for done, row in enumerate(trained[places].tolist(), start=1):
        try:
            image = decode_image(images.read(row), at_least=preprocessing.size, decoding=decoding)
        except UnreadableImage:
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
        labels=torch.tensor(labels.take(rows).to_pylist()),
        preprocessing=preprocessing,
        device=device,
    )


def _images(report: Report, on_progress: OnProgress) -> ImageStore:
    """Open the audited data again.

    Raises:
        DatasetError: They are gone, or are not those that were audited.
    """
    source = report.run.source
    hint = "put the audited data back, or audit again"
    if not source.path.exists():
        raise DatasetError(f"{source.path}, the audited data set, is gone", hint=hint)
    config = config_of(report)
    dataset = open_dataset(source.path, config, on_progress)
    ids = pa.chunked_array([dataset.sample_id])
    is_same = dataset.fingerprint == report.run.fingerprint
    if not is_same or not ids.equals(report.table["sample_id"]):
        raise DatasetError(f"{source.path} has changed since the audit", hint=hint)
    return dataset.images
