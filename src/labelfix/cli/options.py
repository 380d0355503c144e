"""The options that several commands share, and all of ``labelfix audit``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from labelfix.arguments import expand_path
from labelfix.config import (
    Device,
    FineTuningConfig,
    HeadConfig,
    RegularizationConfig,
    SelfLabelingRules,
    Tune,
    refuse_unknown_device,
)
from labelfix.errors import ConfigError

_FULL = FineTuningConfig()


def path_of(argument: str) -> Callable[[str], Path]:
    """Return what reads a path as its user means it, for ``typer``'s ``parser``.

    Args:
        argument: What the path is given for, as Python spells it.
    """

    def path(text: str) -> Path:
        return expand_path(text, argument)

    return path


def _device(text: str) -> Device:
    """Return the name of a device; another one is wrong usage."""
    try:
        refuse_unknown_device(text)
    except ConfigError as error:
        raise typer.BadParameter(f"{error}: {error.hint}") from error
    return text


Run: TypeAlias = Annotated[
    Path,
    typer.Argument(
        parser=path_of("run"),
        metavar="RUN",
        help="The folder of a finished audit, or the report in it.",
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
FollowLinks: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--follow-links",
        help="Show images on the page that links outside DATA lead to, though the audit was not "
        "told to read them.",
    ),
]
MaxPixels: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Larger images are not read. 178,956,970 if left out; more also reads images that a "
        "few bytes blow up.",
    ),
]
ValueRange: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH",
        help="What becomes black and what white in images of more than 8 bits. If left out, the "
        "range that the data use.",
    ),
]
FollowLinksOut: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--follow-links",
        help="Read images outside DATA, too, where links in it or paths of a manifest lead; "
        "exports copy them and pages show them.",
    ),
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors, and JSON if asked for.")
]
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="The one source of random choices.")]

Data: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        parser=path_of("data"),
        metavar="DATA",
        help="A folder of class folders or with metadata.csv, a manifest (.csv .tsv .jsonl .json "
        ".parquet), Parquet with the images inside (a file or a folder of shards), a folder of "
        "save_to_disk, a .zip, or .tar files (class folders, WebDataset).",
    ),
]
Out: TypeAlias = Annotated[
    Path,
    typer.Option(parser=path_of("out"), metavar="RUN", help="The folder to write the report to."),
]
PredProbs: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        parser=path_of("pred_probs"),
        metavar="FILE",
        help="Instead of DATA: given labels and out-of-sample probabilities (.csv .parquet .npz). "
        "Given once a model, the mean is taken.",
    ),
]
Force: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--force",
        help="With --pred-probs: go on where labels and probabilities look as if they did not "
        "belong together (columns or rows in another order).",
    ),
]
Precision: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE", help="Flag so many labels that this share of the flags is right."
    ),
]
Budget: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help="Flag this many labels instead.")
]
IssueThresholds: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--issue-threshold",
        metavar="KIND=SCORE",
        help="Report images whose score of a kind is below: near_duplicate, outlier, dark, bright, "
        "blurry, odd_size; 0 looks for none. May be repeated.",
    ),
]
Overwrite: TypeAlias = Annotated[
    bool, typer.Option("--overwrite", help="Replace the run that RUN holds.")
]
Resume: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Go on with the run that RUN holds.")
]
Decisions: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        parser=path_of("decisions"),
        metavar="RUN",
        help="A run whose suspects were decided on, perhaps the RUN that is replaced: what people "
        "said counts as right, in training and in the scores.",
    ),
]
HalfRate: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--half-rate",
        help="With --resume: halve the learning rate from here on, after training has diverged.",
    ),
]
Backbone: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME", help="Any timm model. The default needs no network.")
]
Weights: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        parser=path_of("weights"), metavar="FILE", help="The backbone's weights, as safetensors."
    ),
]
Pretrained: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--pretrained/--no-pretrained",
        show_default=False,
        help="Start from pretrained weights (as usual), or train the whole network from random "
        "ones, with only its head regularized.",
    ),
]
ImageSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS", help="A side, as the backbone sees it. Chosen from the data if left out."
    ),
]
WhereItRuns: TypeAlias = Annotated[
    Device,
    typer.Option(
        parser=_device,
        metavar="DEVICE",
        help="Where the network runs: auto, cpu, cuda, cuda:N or mps.",
    ),
]
WhatIsTuned: TypeAlias = Annotated[
    Tune,
    typer.Option(
        help="head: heads on frozen features; full: the whole network; "
        "auto: the whole network where there is a GPU."
    ),
]
Folds: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="F",
        help="Each sample is judged by models that saw the other folds only. If left out, "
        f"{HeadConfig().folds} for heads, {_FULL.folds} for whole networks.",
    ),
]
Epochs: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help=f"With --tune full: passes over the data. {_FULL.epochs} if left out.",
    ),
]
LearningRate: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="RATE",
        help="With --tune full: of the backbone, at its peak. "
        f"{_FULL.learning_rate:g} if left out.",
    ),
]
TrainBatchSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help=f"With --tune full: images a step, over all GPUs. {_FULL.batch_size} if left out. "
        "Where they do not fit into memory, a step takes them in portions by itself.",
    ),
]
Distance: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="D",
        help="With --tune full: how far training may take each weight, as a share of the norm it "
        f"was pretrained to. {RegularizationConfig().distance:g} if left out; 0 freezes the "
        "weights of all stages, inf holds none but the head.",
    ),
]
SelfLabeling: TypeAlias = Annotated[
    SelfLabelingRules,
    typer.Option(
        metavar="RULES",
        help="With --tune full: how labels are corrected and samples weighted. safe: by the "
        "average over epochs, and taken back if in doubt; paper: by the authors' rules, made for "
        "30 epochs; off: not at all.",
    ),
]
Cache: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        parser=path_of("cache"),
        metavar="FOLDER",
        help="Where features are kept for the next audit. The user's cache if left out.",
    ),
]
ImageColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column of paths or bytes; found by its name if left out."),
]
LabelColumn: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Column of labels; as above.")
]
IdColumn: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Column of unique sample names; as above.")
]
SplitColumn: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Column of splits; as above.")
]
TestSplit: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A split that is for testing, beside those called test, eval or holdout: its labels "
        "are judged, but never trained on nor changed. May be repeated.",
    ),
]
LabelMissing: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VALUE",
        help="A value that means that there is no label, such as unknown. May be repeated. Among "
        "numbers from 0 on, -1 means so by itself; an empty VALUE ('') makes -1 a class.",
    ),
]


def thresholds_of(texts: list[str] | None) -> dict[str, float]:
    """Return kind to score of texts such as ``dark=0.2``.

    Raises:
        typer.BadParameter: A text is not of that form.
    """
    thresholds = {}
    for text in texts or []:
        kind, _, score = text.partition("=")
        try:
            thresholds[kind.strip().replace("-", "_")] = float(score)
        except ValueError:
            raise typer.BadParameter(
                f"{text!r} is not of the form KIND=SCORE, such as dark=0.2"
            ) from None
    return thresholds


def range_of(text: str | None) -> tuple[float, float] | None:
    """Return the two ends of a text such as ``0,4095``.

    Raises:
        typer.BadParameter: The text is not of that form.
    """
    if text is None:
        return None
    low, _, high = text.partition(",")
    try:
        return float(low), float(high)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not of the form LOW,HIGH, such as 0,4095") from None
