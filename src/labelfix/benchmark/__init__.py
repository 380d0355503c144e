"""Measure labelfix, cleanlab and baselines on tasks whose true labels are known.

In: Public data sets and planted label noise.
Out: Result rows (JSONL), tables and plots.
"""
