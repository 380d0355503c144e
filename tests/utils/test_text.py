"""Text: what is told of libraries."""

import numpy as np

from labelfix.utils.text import version_of, versions_of


def test_version_of_an_installed_library_is_its_own() -> None:
    assert version_of("numpy") == np.__version__


def test_a_library_without_metadata_stops_nothing() -> None:
    assert version_of("no-such-library-anywhere") == "unknown"


def test_versions_are_those_of_what_is_installed() -> None:
    assert versions_of(["numpy", "no-such-library-anywhere"]) == {"numpy": np.__version__}
