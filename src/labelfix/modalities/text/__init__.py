"""Texts as a modality: read, encode, check and show them.

In: The texts of a `LabeledDataset`, UTF-8 or another encoding.
Out: `Features` with `TextStatistics`, snippets for pages.
"""
