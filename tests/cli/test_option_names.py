"""The names of options, which releases of typer derive in different ways."""

from collections.abc import Iterator

import click
import pytest
from typer.main import get_command

from labelfix.cli.main import app


def commands(command: click.Command, name: str = "labelfix") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    for sub_name, sub in getattr(command, "commands", {}).items():
        yield from commands(sub, f"{name} {sub_name}")


ALL = dict(commands(get_command(app)))


@pytest.mark.parametrize("name", ALL)
def test_options_are_lowercase(name: str) -> None:
    # typer 0.27 takes a placeholder that spells the name for the name: --DEVICE
    options = [option for param in ALL[name].params for option in param.opts if option[0] == "-"]
    assert [option for option in options if option[:2] == "--" and not option.islower()] == []
