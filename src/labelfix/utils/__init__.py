"""Helpers that know nothing of labels: files, caches, threads, progress, text.

In: Paths, arrays and callables.
Out: Whole files (written beside their place, then renamed), cached arrays, ordered results.
"""
