"""The wing that measures: it may use every room, and the door alone uses it."""
