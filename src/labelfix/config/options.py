"""The one table of the options of an audit: name, type, default, help and group.

The help of the command line, the docstrings of `labelfix.audit` and of `labelfix.audit_pred_probs`,
and docs/options.md come from here; what an option sets is described where the setting is, in the
docstring of its config.

A text names another option as ``{tune}`` and a value of it as ``{tune=full}``, which the command
line spells ``--tune full`` and Python ``tune="full"``.
"""

import inspect
import re
import types
from collections.abc import Callable, Hashable
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, fields
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from labelfix.arguments import named, spelled_as_options, spelled_as_python
from labelfix.config.settings import (
    AuditConfig,
    FineTuningConfig,
    HeadConfig,
    RegularizationConfig,
    TopConfig,
    TopRegularizationConfig,
)

F = TypeVar("F", bound=Callable[..., Any])

SECTIONS: dict[str, type[Any]] = {
    field.name: type(field.default)
    for field in fields(AuditConfig)
    if hasattr(type(field.default), "__dataclass_fields__")
}
"""The configs that an `AuditConfig` holds, by the name of the field."""

_ARGUMENT = re.compile(r"    (\w+): (.*)")
_MENTION = re.compile(r"\{(\w+)(?:=(\w+))?\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of an audit.

    Args:
        name: As Python spells it.
        group: Under which heading the page lists it.
        setting: What it sets, such as ``"backbone.name"``; its type, default and description are
            the option's.
        text: What it does, where it sets nothing, or more than one setting, or more is to be said.
        type: What it takes, where it sets nothing.
        default: What is taken without it, where no setting says so.
        needs: The option without which it is refused, as a mention: ``"{tune=full}"``.
        repeats: Whether the command line takes it several times.
    """

    name: str
    group: str
    setting: str = ""
    text: str = ""
    type: str = ""
    default: str = ""
    needs: str = ""
    repeats: bool = False


GROUPS = ("Output", "Columns", "Flags", "Model", "Whole-network training", "Engine")
"""The headings that the help and the page list options under, in this order."""

_RUN, _READING, _FLAGS, _NETWORK, _TRAINING, _ENGINE = GROUPS
_WHOLE = "{tune=top} or {tune=full}"


def _by_mode(setting: str) -> str:
    """Return the defaults of a setting that upper stages and whole networks have in common."""
    top, full = getattr(TopConfig(), setting), getattr(FineTuningConfig(), setting)
    return f"{top:g} for top, {full:g} for full"


OPTIONS = {
    option.name: option
    for option in (
        Option(
            name="data",
            group=_RUN,
            type="path",
            text="A folder of class folders or with metadata.csv, a manifest (.csv .tsv .jsonl "
            ".json .parquet), Parquet with the images inside (a file or a folder of shards), a "
            "folder of save_to_disk, a .zip, or .tar files (class folders, WebDataset). The first "
            "three may lie at s3://, gs://, az:// or hf:// (docs/scale.md).",
        ),
        Option(
            name="pred_probs",
            group=_RUN,
            type="path or several",
            repeats=True,
            text="Instead of {data}: given labels and out-of-sample probabilities, from models "
            "that never trained on the sample: CSV or Parquet with the columns ``sample_id``, "
            "``given_label`` and ``prob:<class>``, or .npz with ``pred_probs``, ``labels`` and "
            "``class_names``; Parquet may list the likeliest classes of each sample instead, in "
            "``top_classes`` and ``top_probs`` (docs/scale.md). Several files, one for each model, "
            "are averaged.",
        ),
        Option(
            name="out",
            group=_RUN,
            type="path",
            text="The folder to write the report to. The command line may leave it out: it then "
            "is named after the data, DATA-labelfix, in the current folder.",
        ),
        Option(
            name="config",
            group=_RUN,
            type="path",
            text="A TOML file of settings (docs/options.md), or the run.json of an earlier run, "
            "to use its settings. Options of the command override the file.",
        ),
        Option(
            name="overwrite",
            group=_RUN,
            type="true or false",
            default="false",
            text="Replace the run that the folder holds.",
        ),
        Option(
            name="resume",
            group=_RUN,
            type="true or false",
            default="false",
            text="Continue the run that the folder holds; a finished run is left as it is.",
        ),
        Option(
            name="halve_learning_rate",
            group=_RUN,
            type="true or false",
            default="false",
            needs="{resume}",
            text="Halve the learning rate after the training of a whole network has diverged. "
            "Each use halves it again.",
        ),
        Option(
            name="decisions",
            group=_RUN,
            type="path",
            text="A run whose suspects were reviewed, perhaps the one that is replaced, or the "
            "decisions.jsonl that its page has saved: the decisions count as right, in training "
            "and in the scores. They are copied to {out}.",
        ),
        Option(
            name="force",
            group=_RUN,
            type="true or false",
            default="false",
            needs="{pred_probs}",
            text="Continue although labels and probabilities do not seem to belong together "
            "(columns or rows in another order).",
        ),
        Option(
            name="images",
            group=_RUN,
            type="path",
            needs="{pred_probs}",
            text="The folder of the images that the probabilities are of, to show them in "
            "report.html and in a review: each ``sample_id``, or what {image_column} names, is a "
            "path in it. With {text_column} the table holds texts to be shown.",
        ),
        Option(name="seed", group=_RUN, setting="seed"),
        Option(name="cache", group=_RUN, setting="cache"),
        Option(name="memory", group=_RUN, setting="memory", type="size"),
        Option(name="top_classes", group=_RUN, setting="report.top_classes"),
        Option(name="image_column", group=_READING, setting="dataset.image_column"),
        Option(name="text_column", group=_READING, setting="dataset.text_column", repeats=True),
        Option(name="features_column", group=_READING, setting="dataset.features_column"),
        Option(name="features", group=_READING, setting="dataset.features"),
        Option(name="label_column", group=_READING, setting="dataset.label_column"),
        Option(name="id_column", group=_READING, setting="dataset.id_column"),
        Option(name="split_column", group=_READING, setting="dataset.split_column"),
        Option(name="test_split", group=_READING, setting="dataset.test_split", repeats=True),
        Option(name="label_missing", group=_READING, setting="dataset.label_missing", repeats=True),
        Option(name="outside_files", group=_READING, setting="dataset.outside_files"),
        Option(name="max_pixels", group=_READING, setting="images.max_pixels"),
        Option(name="value_range", group=_READING, setting="images.value_range"),
        Option(name="backbone", group=_NETWORK, setting="backbone.name"),
        Option(name="weights", group=_NETWORK, setting="backbone.weights"),
        Option(name="pretrained", group=_NETWORK, setting="backbone.pretrained"),
        Option(name="image_size", group=_NETWORK, setting="backbone.image_size"),
        Option(name="device", group=_NETWORK, setting="backbone.device"),
        Option(name="tune", group=_NETWORK, setting="tune"),
        Option(
            name="time",
            group=_NETWORK,
            type="duration",
            default="10m on a CPU, no limit on a GPU",
            text="How long the whole audit may take, such as ``90s``, ``10m`` or ``1h30m``. "
            "{tune=auto} takes the most thorough training that fits, as far as a few batches tell; "
            "any other {tune} is kept, and it is said beforehand if the time will not do.",
        ),
        Option(
            name="folds",
            group=_NETWORK,
            type="integer",
            text="Each sample is scored by models that were trained on the other folds only.",
            default=f"{HeadConfig().folds} for heads, {FineTuningConfig().folds} for networks",
        ),
        Option(
            name="epochs",
            group=_TRAINING,
            type="integer",
            text="Passes over the data.",
            default=_by_mode("epochs"),
            needs=_WHOLE,
        ),
        Option(
            name="learning_rate",
            group=_TRAINING,
            type="number",
            text="Of the backbone, at its peak.",
            default=_by_mode("learning_rate"),
            needs=_WHOLE,
        ),
        Option(
            name="train_batch_size", group=_TRAINING, setting="fine_tuning.batch_size", needs=_WHOLE
        ),
        Option(
            name="max_weight_change",
            group=_TRAINING,
            type="number",
            default=f"{TopRegularizationConfig().distance:g} for top, "
            f"{RegularizationConfig().distance:g} for full",
            needs=_WHOLE,
            text="How far training may move each weight, relative to its pretrained norm: 0 "
            "freezes the weights of all stages, infinity limits only the head.",
        ),
        Option(
            name="self_labeling",
            group=_TRAINING,
            type="``safe``, ``paper`` or ``off``",
            default="safe",
            needs=_WHOLE,
            text="How labels are corrected and samples weighted. ``safe``: by the average over "
            "epochs, and taken back if in doubt; ``paper``: by the authors' rules, made for 30 "
            "epochs; ``off``: not at all.",
        ),
        Option(name="engine", group=_ENGINE, setting="engine.name"),
        Option(
            name="ray_address", group=_ENGINE, setting="engine.ray_address", needs="{engine=ray}"
        ),
        Option(name="workers", group=_ENGINE, setting="engine.workers", needs="{engine=ray}"),
        Option(
            name="cpus_per_worker",
            group=_ENGINE,
            setting="engine.cpus_per_worker",
            needs="{engine=ray}",
        ),
        Option(
            name="gpus_per_worker",
            group=_ENGINE,
            setting="engine.gpus_per_worker",
            needs="{engine=ray}",
        ),
        Option(name="precision", group=_FLAGS, setting="flags.precision"),
        Option(name="budget", group=_FLAGS, setting="flags.budget"),
        Option(
            name="issue_threshold",
            group=_FLAGS,
            type="kind and score",
            repeats=True,
            text="Report samples whose score is below this threshold, for one kind of issue: "
            "near_duplicate, outlier; of images dark, bright, blurry, odd_size; of texts "
            "too_short, too_long, broken_encoding, other_script, other_language, boilerplate. 0 "
            "reports none; the other kinds keep their thresholds.",
        ),
    )
}
"""Every option by its name, in the order of the page."""


def option_help(name: str) -> str:
    """Return the help of an option as the command line prints it."""
    option = OPTIONS[name]
    with spelled_as_options():
        text = _told(option)
    default = _default(option)
    if default and default != "false":
        text += f" Default: {default}."
    if option.repeats:
        text += " May be repeated."
    return text.replace("``None``", "leaving it out").replace("``", "")


_OF_PROGRAMS = {
    "progress": "Whether bars show it on a terminal and in Jupyter; not beside ``on_progress``.",
    "on_progress": "Told how far each stage is.",
}
"""Parameters of Python that are no options of the command."""


def documents_options(function: F) -> F:
    """Put what the table says of each parameter of a function into its docstring, as ``Args``."""
    lines = ["Args:"]
    with spelled_as_python():
        for name, parameter in inspect.signature(function).parameters.items():
            if name in _OF_PROGRAMS:
                lines.append(f"    {name}: {_OF_PROGRAMS[name]}")
                continue
            option = OPTIONS[name]
            default = _default(option)
            told = _told(option)
            if default and parameter.default is None:
                told += f" ``None`` takes {default}."
            lines += wrap(f"    {name}: {told}", 100, subsequent_indent=" " * 8)
    before, mark, after = (inspect.getdoc(function) or "").partition("Raises:")
    function.__doc__ = before + "\n".join(lines) + "\n\n" + mark + after
    return function


def options_page() -> str:
    """Return docs/options.md: every option, and every setting of a file, as Markdown."""
    with spelled_as_options():
        options = "\n".join(
            f"\n### {group}\n\n| option | in Python | takes | default | |\n|---|---|---|---|---|\n"
            + "\n".join(_row(option) for option in OPTIONS.values() if option.group == group)
            for group in GROUPS
        )
    settings = "\n".join(
        f"\n### [{section}]\n\n{_summary(config)}\n\n"
        "| setting | takes | default | |\n|---|---|---|---|\n" + "\n".join(_setting_rows(config))
        for section, config in SECTIONS.items()
    )
    top = "\n".join(row for row in _setting_rows(AuditConfig))
    return _PAGE.format(options=options, top=top, settings=settings)


_PAGE = """\
# Options and settings of an audit

Written by `python docs/generate.py` from `labelfix.config`; edit the texts there.

## Options

`labelfix audit` and `labelfix.audit` take the same options; `labelfix.audit_pred_probs` takes those
of `--pred-probs`.
{options}

## A file of settings

`labelfix audit DATA --out RUN --config FILE.toml` (in Python `config="FILE.toml"`) sets what no
option names, and what options name, too; an option that is given wins over the file.

```toml
seed = 1

[heads]
neighbor_share = 0.3

[scoring]
hypotheses = 3
```

The record of a run is such a file, too: `--config RUN/run.json` takes the settings of that run. The
content tells which it is, not the name. Relative paths begin at the folder that you are in. With
`--pred-probs` only `[scoring]`, `[flags]` and `[report]` are of use; others are refused. What
labelfix does not know or cannot use is refused before the data are read, all faults at once.
`self_labeling = "paper"` takes a whole set of rules by its name.

### Outside of any section

| setting | takes | default | |
|---|---|---|---|
{top}
{settings}
"""


def _row(option: Option) -> str:
    default = _default(option) or ("" if not option.setting else "none")
    return (
        f"| `{named(option.name)}` | `{option.name}` | {_takes(option)} | {default} | "
        f"{_cell(_told(option))} |"
    )


def _setting_rows(config: type[Any]) -> list[str]:
    hints, told = get_type_hints(config), descriptions(config)
    return [
        f"| `{field.name}` | {type_name(hints[field.name])} | {_shown(field.default) or 'none'} | "
        f"{_cell(told.get(field.name, ''))} |"
        for field in fields(config)
        if field.name not in SECTIONS or config is not AuditConfig
    ]


def _cell(text: str) -> str:
    return text.replace("``None``", "none").replace("``", "`").replace("|", "\\|")


def _summary(config: type[Any]) -> str:
    return (inspect.getdoc(config) or "").partition("\n\nArgs:")[0].replace("``", "`")


def _told(option: Option) -> str:
    """Return what an option does, with other options spelled as the caller writes them."""
    text = option.text
    if not text:
        section, _, name = option.setting.rpartition(".")
        text = descriptions(SECTIONS[section] if section else AuditConfig).get(name, "")
    if option.needs:
        first = text[:1].lower() if text[1:2].islower() else text[:1]
        text = f"With {option.needs}: {first}{text[1:]}"
    return _MENTION.sub(lambda match: f"``{named(match[1], value=match[2])}``", text)


def _default(option: Option) -> str:
    """Return what is taken without an option; empty where that is nothing."""
    if option.default or not option.setting:
        return option.default
    return _shown(_field(option.setting).default)


def _takes(option: Option) -> str:
    if option.type:
        return option.type.replace("``", "`")
    section, _, name = option.setting.rpartition(".")
    return type_name(get_type_hints(SECTIONS[section] if section else AuditConfig)[name])


def _field(setting: str) -> "Field[Any]":
    section, _, name = setting.rpartition(".")
    config = SECTIONS[section] if section else AuditConfig
    return next(field for field in fields(config) if field.name == name)


def _shown(value: Any) -> str:
    if value is None or value is NO_DEFAULT or value == ():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def type_name(hint: Any) -> str:
    """Return in words what a setting takes, from its annotation."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(one) for one in inner if one is not type(None))
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in inner)
    if origin is tuple:
        many = "list of" if inner[-1] is Ellipsis else f"list of {len(inner)}"
        return f"{many} {type_name(inner[0])}s"
    return {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}[hint]


def descriptions(described: Any) -> dict[str, str]:
    """Return what a docstring says of each of its ``Args``; nothing under ``python -OO``.

    A class that extends another has what is said there, too.
    """
    bases = [base for base in getattr(described, "__mro__", ()) if base is not object]
    found: dict[str, str] = {}
    for one in reversed(bases or [described]):
        found |= _descriptions(cast("Hashable", one))
    return found


@cache
def _descriptions(described: Hashable) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in (inspect.getdoc(described) or "").partition("Args:\n")[2].splitlines():
        if match := _ARGUMENT.fullmatch(line):
            name = match[1]
            found[name] = match[2]
        elif name and line.strip():
            found[name] += f" {line.strip()}"
    return found
