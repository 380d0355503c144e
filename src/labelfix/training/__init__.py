"""Train heads or whole networks so that no sample is scored by a model that saw it.

In: `Features` or training inputs, given labels, folds.
Out: `Evidence`: out-of-sample probabilities, margins, corrected labels.
"""
