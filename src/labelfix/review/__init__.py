"""The review page: a server on this machine where people decide about suspects.

In: A finished RUN.
Out: `decisions.jsonl`, one line a decision.
"""
