"""Text: what is told of libraries."""

import numpy as np

from labelfix.utils.text import version_of


def test_version_of_an_installed_library_is_its_own() -> None:
    assert version_of("numpy") == np.__version__


def test_a_library_without_metadata_stops_nothing() -> None:
    assert version_of("no-such-library-anywhere") == "unknown"
