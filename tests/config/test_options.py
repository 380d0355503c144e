"""The table of options: the help, the docstrings and the page are made from it."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import labelfix
from labelfix.cli.main import app
from labelfix.config import AuditConfig, HeadConfig, ScoringConfig
from labelfix.config.options import OPTIONS, SECTIONS, descriptions, option_help, options_page

ROOT = Path(__file__).parents[2]
PRINTS = {"as_json", "quiet", "ctx"}


def test_the_page_is_that_of_the_code():
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert text == options_page(), "run: python docs/generate.py"


def test_every_option_of_the_command_is_in_the_table_and_tells_its_help():
    [audit] = [c for c in app.registered_commands if c.callback and c.callback.__name__ == "audit"]
    hints = inspect.get_annotations(audit.callback)
    assert set(hints) - PRINTS - {"return"} == set(OPTIONS)
    for name in OPTIONS:
        assert hints[name].__metadata__[0].help == option_help(name)


@pytest.mark.parametrize("name", ["audit", "audit_pred_probs"])
def test_the_docstring_tells_every_parameter(name):
    function = getattr(labelfix, name)
    told = descriptions(function)
    assert set(inspect.signature(function).parameters) <= set(told)
    assert all(told.values())
    assert "--" not in function.__doc__
    assert "Raises:" in function.__doc__


def test_help_and_docstring_spell_other_options_as_their_reader_does():
    assert option_help("epochs") == (
        "With --tune top or --tune full: passes over the data. Default: 5 for top, 10 for full."
    )
    told = descriptions(labelfix.audit)["epochs"]
    assert told == (
        'With ``tune="top"`` or ``tune="full"``: passes over the data. '
        "``None`` takes 5 for top, 10 for full."
    )


def test_every_setting_is_described():
    for config in (AuditConfig, *SECTIONS.values()):
        assert set(descriptions(config)) == {one.name for one in fields(config)}, config


def test_the_page_lists_every_setting():
    page = options_page()
    for config in (ScoringConfig, HeadConfig):
        assert all(f"| `{one.name}` |" in page for one in fields(config))
