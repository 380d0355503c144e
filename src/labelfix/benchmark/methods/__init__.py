"""The methods that a benchmark runs, each in a process of its own.

In: A `Problem` without true labels.
Out: `MethodResult`: label scores, flags, suggestions.
"""
