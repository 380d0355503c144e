"""The report of an audit: its schema, how it is written, read and summed up.

In: What training, scoring and issues found.
Out: `report.parquet`, `run.json` and their readers: `Report`, `Summary`, checks.
"""
