"""The options that several commands share, and all of ``labelfix audit``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand

from labelfix.arguments import expand_path
from labelfix.config import (
    Device,
    EngineName,
    SelfLabelingRules,
    Tune,
    refuse_unknown_device,
)
from labelfix.config.options import GROUPS, OPTIONS, option_help
from labelfix.errors import ConfigError


def path_of(argument: str) -> Callable[[str], Path]:
    """Return what reads a path as its user means it, for ``typer``'s ``parser``.

    Args:
        argument: What the path is given for, as Python spells it.
    """

    def path(text: str) -> Path:
        return expand_path(text, argument)

    return path


def _data(text: str) -> Path:
    """Return DATA: a path, or an address."""
    if "://" not in text:
        return expand_path(text, "data")
    from labelfix.data.remote import data_path

    return data_path(text)


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
OutsideFiles: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--outside-files",
        help="Show images on the page that links outside DATA lead to, though the audit was not "
        "told to read them.",
    ),
]
MaxPixels: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help=option_help("max_pixels"),
    ),
]
ValueRange: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH",
        help=option_help("value_range"),
    ),
]
OutsideFilesRead: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--outside-files/--no-outside-files",
        help=option_help("outside_files"),
    ),
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors, and JSON if asked for.")
]
Seed: TypeAlias = Annotated[int, typer.Option(min=0, help="The one source of random choices.")]

Data: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        parser=_data,
        metavar="DATA",
        help=option_help("data"),
    ),
]
Out: TypeAlias = Annotated[
    Path | None,
    typer.Option(parser=path_of("out"), metavar="RUN", help=option_help("out")),
]
PredProbs: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        parser=path_of("pred_probs"),
        metavar="FILE",
        help=option_help("pred_probs"),
    ),
]
Images: TypeAlias = Annotated[
    Path | None,
    typer.Option(parser=path_of("images"), metavar="DIR", help=option_help("images")),
]
Force: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--force",
        help=option_help("force"),
    ),
]
Precision: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help=option_help("precision")),
]
Budget: TypeAlias = Annotated[int | None, typer.Option(metavar="N", help=option_help("budget"))]
IssueThresholds: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--issue-threshold",
        metavar="KIND=SCORE",
        help=option_help("issue_threshold"),
    ),
]
Overwrite: TypeAlias = Annotated[bool, typer.Option("--overwrite", help=option_help("overwrite"))]
Resume: TypeAlias = Annotated[bool, typer.Option("--resume", help=option_help("resume"))]
Decisions: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        parser=path_of("decisions"),
        metavar="RUN",
        help=option_help("decisions"),
    ),
]
HalveLearningRate: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--halve-learning-rate",
        help=option_help("halve_learning_rate"),
    ),
]
Backbone: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help=option_help("backbone"))
]
Weights: TypeAlias = Annotated[
    Path | None,
    typer.Option(parser=path_of("weights"), metavar="FILE", help=option_help("weights")),
]
Pretrained: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--pretrained/--no-pretrained",
        show_default=False,
        help=option_help("pretrained"),
    ),
]
ImageSize: TypeAlias = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", help=option_help("image_size")),
]
WhereItRuns: TypeAlias = Annotated[
    Device,
    typer.Option(
        "--device",
        parser=_device,
        metavar="DEVICE",
        show_default=False,  # its help says so
        help=option_help("device"),
    ),
]
AuditDevice: TypeAlias = Annotated[
    Device | None,
    typer.Option("--device", parser=_device, metavar="DEVICE", help=option_help("device")),
]
AuditSeed: TypeAlias = Annotated[int | None, typer.Option(min=0, help=option_help("seed"))]
ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", parser=path_of("config"), metavar="FILE", help=option_help("config")),
]
WhatIsTuned: TypeAlias = Annotated[
    Tune | None,
    typer.Option(help=option_help("tune")),
]
TimeLimit: TypeAlias = Annotated[
    str | None,
    typer.Option("--time", metavar="DURATION", help=option_help("time")),
]
Folds: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="F",
        help=option_help("folds"),
    ),
]
Epochs: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help=option_help("epochs"),
    ),
]
LearningRate: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="RATE",
        help=option_help("learning_rate"),
    ),
]
TrainBatchSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help=option_help("train_batch_size"),
    ),
]
MaxWeightChange: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="D",
        help=option_help("max_weight_change"),
    ),
]
SelfLabeling: TypeAlias = Annotated[
    SelfLabelingRules | None,
    typer.Option(
        metavar="RULES",
        help=option_help("self_labeling"),
    ),
]
Cache: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        parser=path_of("cache"),
        metavar="FOLDER",
        help=option_help("cache"),
    ),
]
Memory: TypeAlias = Annotated[str | None, typer.Option(metavar="SIZE", help=option_help("memory"))]
TopClasses: TypeAlias = Annotated[
    int | None, typer.Option(metavar="T", help=option_help("top_classes"))
]
Engine: TypeAlias = Annotated[EngineName | None, typer.Option(help=option_help("engine"))]
RayAddress: TypeAlias = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help=option_help("ray_address"))
]
Workers: TypeAlias = Annotated[int | None, typer.Option(metavar="N", help=option_help("workers"))]
CpusPerWorker: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help=option_help("cpus_per_worker"))
]
GpusPerWorker: TypeAlias = Annotated[
    float | None, typer.Option(metavar="N", help=option_help("gpus_per_worker"))
]
ImageColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=option_help("image_column")),
]
TextColumn: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help=option_help("text_column")),
]
FeaturesColumn: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help=option_help("features_column"))
]
FeaturesFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(parser=path_of("features"), metavar="FILE", help=option_help("features")),
]
LabelColumn: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help=option_help("label_column"))
]
IdColumn: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help=option_help("id_column"))
]
SplitColumn: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help=option_help("split_column"))
]
TestSplit: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help=option_help("test_split"),
    ),
]
LabelMissing: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VALUE",
        help=option_help("label_missing"),
    ),
]


class GroupedCommand(TyperCommand):
    """A command whose help lists its options under the headings of `GROUPS`, and the rest last."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options."""
        lines: dict[str, list[tuple[str, str]]] = {
            heading: [] for heading in ("Arguments", *GROUPS, "Other")
        }
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            heading = "Arguments"
            if parameter.param_type_name == "option":
                known = OPTIONS.get(parameter.name or "")
                heading = "Other" if known is None else known.group
            lines[heading].append(record)
        for heading, records in lines.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


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
