"""Runs to review, for several tests."""

from review_visitor import made, run  # noqa: F401 - fixtures
