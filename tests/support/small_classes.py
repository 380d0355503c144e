"""Helpers of several tests, first written for conftest."""

CLASSES = ("0", "1", "7")
