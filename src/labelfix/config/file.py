"""Settings from a file: TOML or the record of a run, checked so that all faults are told at once.

Sections of a file are the configs that `AuditConfig` holds, keys are their fields.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from labelfix.arguments import checked_value, spelled_as_python
from labelfix.config.options import OPTIONS, SECTIONS
from labelfix.config.settings import AuditConfig, SelfLabelingConfig, SelfLabelingRules
from labelfix.errors import ConfigError

Settings = dict[str, Any]
"""Values of `AuditConfig` by name; those of a section in a dict, or the section's config."""

PAGE = "docs/options.md"


@dataclass(frozen=True, slots=True)
class _Faults:
    """What is wrong with a file, each with how to mend it."""

    found: list[ConfigError] = field(default_factory=list)

    def add(self, message: str, hint: str | None = None) -> None:
        self.found.append(ConfigError(message, hint=hint))

    def refuse(self, path: Path) -> None:
        """Raise one ConfigError for all that was found."""
        if not self.found:
            return
        if len(self.found) == 1:
            raise ConfigError(f"{path}: {self.found[0]}", hint=self.found[0].hint)
        told = "; ".join(f"{one} ({one.hint})" if one.hint else str(one) for one in self.found)
        raise ConfigError(
            f"{path} has {len(self.found)} settings that cannot be used: {told}",
            hint=f"{PAGE} lists all settings",
        )


def read_settings(path: Path, *, sections: Collection[str] = tuple(SECTIONS)) -> Settings:
    """Return what a file sets, each value of the type of its setting.

    Args:
        path: TOML, or ``run.json`` of a run, whose ``config`` counts; told apart by their content.
        sections: Those that are of use; others are refused, and so is what is in no section
            unless all are.

    Raises:
        ConfigError: The file cannot be read, or something in it cannot be used; all faults of its
            settings are told at once.
    """
    given, is_json = _parsed(path)
    faults = _Faults()
    top: Settings = {}
    settings: Settings = {}
    with spelled_as_python():
        for name, value in given.items():
            if name not in _TOP and name not in SECTIONS:
                faults.add(*_unknown(name))
            elif name not in sections and (name in SECTIONS or len(sections) < len(SECTIONS)):
                faults.add(f"{name} has no use here", f"leave out all but {' and '.join(sections)}")
            elif name in _TOP:
                top[name] = value
            elif name == "self_labeling" and isinstance(value, str):
                settings[name] = _preset(value, faults)
            elif isinstance(value, Mapping):
                settings[name] = _checked(SECTIONS[name], name, value, faults, is_json=is_json)
            else:
                faults.add(f"{name} is {value!r}, which is not a section", f"begin with [{name}]")
        settings |= _checked(AuditConfig, "", top, faults, is_json=is_json)
    faults.refuse(path)
    return settings


def overridden(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return settings with changes, of which those in a dict leave the rest of a section alone."""
    merged = dict(settings)
    for name, value in changes.items():
        before = merged.get(name)
        is_part = isinstance(value, Mapping) and isinstance(before, Mapping)
        merged[name] = {**before, **value} if is_part and before is not None else value
    return merged


def flag_changes(precision: float | None, budget: int | None) -> Settings:
    """Return what options say of the flags: one of the two takes the place of the other."""
    if precision is None and budget is None:
        return {}
    return {"precision": precision, "budget": budget}


def config_of(settings: Settings) -> AuditConfig:
    """Return the configuration that settings make, defaults where they say nothing.

    Raises:
        ConfigError: Settings do not go together.
    """
    return AuditConfig(
        **{
            name: SECTIONS[name](**value) if isinstance(value, Mapping) else value
            for name, value in settings.items()
        }
    )


_TOP = {one.name for one in fields(AuditConfig)} - set(SECTIONS)


def _parsed(path: Path) -> tuple[Mapping[str, Any], bool]:
    """Return the settings as they are written, and whether that is JSON."""
    import tomllib  # noqa: PLC0415 - --help needs none of it

    if not path.is_file():
        is_there = "is not a file" if path.exists() else "is not there"
        raise ConfigError(
            f"{path} {is_there}", hint="name a TOML file of settings, or RUN/run.json"
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8", hint=f"see {PAGE}") from error
    is_json = text.lstrip().startswith("{")
    try:
        content = json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if is_json else "TOML"
        raise ConfigError(f"{path} is not {kind}: {error}", hint=f"see {PAGE}") from error
    if not is_json:
        return content, False
    config = content.get("config")
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"{path} has no settings under config, as run.json of an audit has",
            hint="write settings of your own as TOML",
        )
    return config, True


def _preset(value: str, faults: _Faults) -> SelfLabelingConfig | None:
    try:
        return SelfLabelingConfig.named(checked_value("self_labeling", value, SelfLabelingRules))
    except ConfigError as fault:
        faults.found.append(fault)
        return None


def _checked(
    config: type[Any], section: str, given: Mapping[str, Any], faults: _Faults, *, is_json: bool
) -> Settings:
    """Return the values of a section, or of no section, that can be used."""
    hints, values = get_type_hints(config), {}
    known = {one.name for one in fields(config)}
    for key, value in given.items():
        if key not in known:
            faults.add(*_unknown(key, section))
            continue
        written = _with_endless(value, hints[key]) if is_json else value
        try:
            values[key] = checked_value(_dotted(section, key), written, hints[key])
        except ConfigError as fault:
            faults.found.append(fault)
    _collect_misfits(config, section, values, faults)
    return values


def _collect_misfits(
    config: type[Any], section: str, values: Mapping[str, Any], faults: _Faults
) -> None:
    """Add every fault that the config itself finds in values of the right types.

    A config tells its first fault. So what that one is about is left out, and the config is asked
    again: it is about the value without which another fault is told, or none.
    """
    left = dict(values)
    fault = _misfit(config, left)
    while fault is not None:
        where = f"[{section}] " if section else ""
        faults.add(f"{where}{fault}", fault.hint)
        for key in left:
            rest = {other: left[other] for other in left if other != key}
            other_fault = _misfit(config, rest)
            if str(other_fault) != str(fault):
                left, fault = rest, other_fault
                break
        else:
            return


def _misfit(config: type[Any], values: Mapping[str, Any]) -> ConfigError | None:
    try:
        config(**values)
    except ConfigError as fault:
        return fault
    return None


def _unknown(key: str, section: str = "") -> tuple[str, str | None]:
    """Return what is said of a key that is no setting: the most similar one that there is."""
    from difflib import get_close_matches  # noqa: PLC0415 - only where something is wrong

    places: dict[str, list[str]] = {}
    for name, config in SECTIONS.items():
        for one in fields(config):
            places.setdefault(one.name, []).append(f"{name}.{one.name}")
    for name in [*_TOP, *SECTIONS]:
        places.setdefault(name, []).append(name)
    for option in OPTIONS.values():
        if option.setting and option.setting not in places.setdefault(option.name, []):
            places[option.name].append(option.setting)
    here = {one.name for one in fields(SECTIONS[section] if section else AuditConfig)}
    if key in places:
        meant = places[key]
    elif near := get_close_matches(key, here, 1):
        meant = [_dotted(section, near[0])]
    elif near := get_close_matches(key, places, 1, 0.75):
        meant = places[near[0]]
    else:
        meant = []
    either = " or ".join([*([", ".join(meant[:-1])] if meant[1:] else []), *meant[-1:]])
    hint = f"did you mean {either}?" if meant else f"{PAGE} lists all settings"
    return f"there is no setting {_dotted(section, key)}", hint


def _dotted(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key


def _with_endless(value: Any, hint: Any) -> Any:
    """Return a value of JSON with numbers for infinities, which are text there."""
    if isinstance(value, list):
        return [_with_endless(item, hint) for item in value]
    is_endless = isinstance(value, str) and value in ("inf", "-inf", "nan")
    return float(value) if is_endless and _takes_numbers(hint) else value


def _takes_numbers(hint: Any) -> bool:
    return hint is float or any(_takes_numbers(one) for one in get_args(hint))
