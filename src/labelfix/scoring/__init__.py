"""Turn evidence into the probability that each given label is wrong.

In: `Evidence` or given probabilities, and given labels.
Out: `LabelScores` and `Corrections`: error probabilities, flags, suggestions, weights.
"""
