"""Sizes of memory as text."""

import pytest

from labelfix.config import AuditConfig
from labelfix.config.sizes import bytes_of, told_bytes
from labelfix.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 << 30),
        ("800MB", 800_000_000),
        (" 1.5 gib ", 3 << 29),
        ("2g", 2_000_000_000),
        ("2097152", 2 << 20),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(text, size):
    assert bytes_of(text, "memory") == size


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        *((text, "no size") for text in ("", "four", "4 gigs", "-4GiB", "4iB4", "GiB", "1e9")),
        ("12KiB", "less than 1 MiB"),
        ("10", "less than 1 MiB, as it has no unit"),
    ],
)
def test_what_is_no_size_is_refused(text, fault):
    with pytest.raises(ConfigError, match=f"memory '{text}' is {fault}$") as told:
        AuditConfig(memory=text)
    assert "such as 4GiB" in told.value.hint


def test_sizes_for_people():
    assert [told_bytes(size) for size in (3.21e9, 5 << 20, 1)] == ["2.99 GiB", "5 MiB", "1 MiB"]
