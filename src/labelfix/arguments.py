"""Arguments as callers give them: checked before any work, with paths as their user means them.

The same words tell a fault in Python and on the command line; only the name of the argument is
spelled as the caller writes it: ``train_batch_size`` or ``--train-batch-size``.
"""

import errno
import functools
import inspect
import numbers
import os
import re
import types
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from pathlib import Path
from typing import (
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from labelfix.errors import ConfigError, system_faults_told

P = ParamSpec("P")
R = TypeVar("R")

_IS_COMMAND = ContextVar("is_command", default=False)

_AS_TYPED = {"data": "DATA", "run": "RUN", "to": "TO", "folder": "DIR"}
"""How the command line calls its arguments without a name; the others are options."""

_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([^{}]*)\})")
_LONGEST_VALUE = 60

_HINTS = {
    "neither true nor false": "give True or False",
    "no whole number": "give a whole number, such as 10",
    "no number": "give a number, such as 0.5",
    "no text": "give text",
    "no list": "give a list",
    "no mapping": "give a dict",
    "no path": "give text or a pathlib.Path",
}


@contextmanager
def spelled_as_options() -> Iterator[None]:
    """Name arguments as the command line does while the block runs."""
    token = _IS_COMMAND.set(True)
    try:
        yield
    finally:
        _IS_COMMAND.reset(token)


@contextmanager
def spelled_as_python() -> Iterator[None]:
    """Name arguments as Python does while the block runs: in a file of settings, say."""
    token = _IS_COMMAND.set(False)
    try:
        yield
    finally:
        _IS_COMMAND.reset(token)


def named(argument: str, *, value: str | bool | None = None) -> str:
    """Return the name of an argument, with a value if one is given, as the caller spells it."""
    if not _IS_COMMAND.get():
        shown = "" if value is None else f'="{value}"' if isinstance(value, str) else f"={value}"
        return argument + shown
    option = argument.replace("_", "-")
    if value is False:
        return f"--no-{option}"
    text = f" {value}" if isinstance(value, str) else ""
    return _AS_TYPED.get(argument, f"--{option}") + text


def checks_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of each call by the annotations: a wrong one is a ConfigError.

    Paths are expanded (see `expand_path`), and numbers of numpy become Python's. What the system
    refuses while the function runs is a LabelfixError.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        hints = _hints_of(function)
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            bound.arguments[name] = checked_value(name, value, hints.get(name, Any))
        with system_faults_told():
            return function(*bound.args, **bound.kwargs)

    return call


def check_fields(config: Any, spelled: Mapping[str, str] = types.MappingProxyType({})) -> None:
    """Check the fields of a frozen dataclass in its ``__post_init__``, as `checks_arguments` does.

    Args:
        config: The dataclass; values that are taken as another type are put in their place.
        spelled: Field to argument, where callers know it by another name.

    Raises:
        ConfigError: A value is of the wrong type, or none of those that can be chosen.
    """
    hints = _hints_of(cast("Hashable", type(config)))
    for field in fields(config):
        value = getattr(config, field.name)
        name = spelled.get(field.name, field.name)
        object.__setattr__(config, field.name, checked_value(name, value, hints[field.name]))


@functools.cache
def _hints_of(annotated: Any) -> dict[str, Any]:
    return get_type_hints(annotated)


def checked_value(name: str, value: Any, hint: Any) -> Any:
    """Return a value as its annotation says.

    Args:
        name: Of the argument, as Python spells it.
        value: What was given.
        hint: The annotation.

    Raises:
        ConfigError: The value is of another type, or none of those that can be chosen.
    """
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(name, value, get_args(hint))
    if origin is Literal:
        return _choice(name, value, get_args(hint))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(name, value, get_args(hint))
    if origin is not None and issubclass(origin, Sequence):
        return _sequence(name, value, origin, get_args(hint))
    if hint in _PLAIN:
        return _PLAIN[hint](name, value)
    if getattr(hint, "_is_protocol", False) and not callable(value):
        raise _wrong(name, value, "nothing that can be called")
    if isinstance(hint, type) and not getattr(hint, "_is_protocol", False):
        return _instance(name, value, hint)
    return value


def _one_of(name: str, value: Any, hints: tuple[Any, ...]) -> Any:
    if value is None and type(None) in hints:
        return None
    hints = tuple(hint for hint in hints if hint is not type(None))
    if Path in hints and isinstance(value, str | os.PathLike):
        return expand_path(value, name)
    hints = tuple(hint for hint in hints if hint not in (str, Path) or Path not in hints)
    if not hints:
        raise _wrong(name, value, "no path")
    faults = []
    for hint in hints:
        try:
            return checked_value(name, value, hint)
        except ConfigError as fault:
            faults.append(fault)
    raise faults[-1]


def _choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    if isinstance(value, str) and value in choices:
        return str(value)
    raise ConfigError(
        f"{named(name)} is {_shown(value)}, and there is no such choice",
        hint=f"choose one of {', '.join(map(str, choices))}",
    )


def _mapping(name: str, value: Any, hints: tuple[Any, ...]) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(name, value, "no mapping")
    return {
        checked_value(name, key, hints[0]): checked_value(
            f"{name} of {_shown(key)}", item, hints[1]
        )
        for key, item in value.items()
    }


def _sequence(name: str, value: Any, origin: Any, hints: tuple[Any, ...]) -> Sequence[Any]:
    given = _items(name, value)
    if origin is tuple and hints[-1] is not Ellipsis and len(given) != len(hints):
        raise _wrong(name, value, f"not {len(hints)} values")
    items = [checked_value(name, item, hints[0]) for item in given]
    return tuple(items) if origin is tuple else items


def _items(name: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _wrong(name, value, "no list")
    try:
        return list(value)
    except TypeError:  # an array of no dimension calls itself iterable
        raise _wrong(name, value, "no list") from None


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):  # numpy's own
        return bool(value)
    raise _wrong(name, value, "neither true nor false")


def _integer(name: str, value: Any) -> int:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    raise _wrong(name, value, "no whole number")


def _number(name: str, value: Any) -> float:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            return float(value)  # NaN too: no range holds it
        except OverflowError:
            pass
    raise _wrong(name, value, "no number")


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    raise _wrong(name, value, "no text")


def _instance(name: str, value: Any, hint: type) -> Any:
    if isinstance(value, hint):
        return value
    raise _wrong(name, value, f"no {hint.__name__}")


def _wrong(name: str, value: Any, what: str) -> ConfigError:
    return ConfigError(f"{named(name)} is {_shown(value)}, which is {what}", hint=_HINTS.get(what))


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # anybody's own class
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def expand_path(path: Any, argument: str) -> Path:
    """Return a path as its user means it: with ``~``, ``~user`` and ``$NAME`` filled in.

    What exists as it is written is taken so: a file may be called ``~`` and have ``$`` in its name.

    Args:
        path: Text or a path.
        argument: What it is given for, as Python spells it.

    Raises:
        ConfigError: It is empty or cannot be a path, a variable is not set, or nobody knows the
            home folder that is meant.
    """
    if not isinstance(path, str | os.PathLike):
        raise _wrong(argument, path, "no path")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise _wrong(argument, path, "no path of text")
    if not text.strip():
        raise ConfigError(
            f"{named(argument)} is empty", hint="name a path; . is the folder you are in"
        )
    if _exists(text, argument):
        return _rooted(text)
    kept = _written_so(text)
    expanded = text[: len(kept)] + _with_variables(text[len(kept) :], argument)
    return _rooted(_with_home(expanded, argument) if text.startswith("~") else expanded)


def _exists(text: str, argument: str) -> bool:
    try:
        os.lstat(text)
    except ValueError as error:  # a null, or half of a character
        raise _wrong(argument, text, "no path") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _wrong(argument, text, "too long for a path") from error
        return False
    return True


def _written_so(text: str) -> str:
    """Return the part of a path up to the last folder with a ``$`` in its name that is there."""
    parents = [str(parent) for parent in Path(text).parents if "$" in parent.name]
    return next((p for p in parents if text.startswith(p) and os.path.lexists(p)), "")


def _with_variables(text: str, argument: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2] or ""
        if name not in os.environ:
            raise ConfigError(
                f"{named(argument)} is {_shown(text)}, and the environment variable {name!r} is "
                "not set",
                hint="set it, or write the path out",
            )
        return os.environ[name]

    return _VARIABLE.sub(value, text)


def _with_home(text: str, argument: str) -> str:
    home = os.path.expanduser(text)  # noqa: PTH111 - Path's own raises, and gives no reason
    if home.startswith("~"):
        user = text.partition("/")[0]
        raise ConfigError(
            f"{named(argument)} is {_shown(text)}, and nobody knows the home folder {user!r}",
            hint="write the path out; ./~ is a file of that name in the folder you are in",
        )
    return home


def _rooted(text: str) -> Path:
    """Return a path that stays what it is if it is expanded once more."""
    path = Path(text)
    return path.absolute() if str(path).startswith("~") else path


_PLAIN: dict[Any, Callable[[str, Any], Any]] = {
    bool: _boolean,
    int: _integer,
    float: _number,
    str: _text,
    Path: lambda name, value: expand_path(value, name),
}
