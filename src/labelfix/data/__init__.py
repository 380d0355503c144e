"""Open labeled data: sample sets, given probabilities and people's decisions.

In: The DATA that a user names: folders, tables, Parquet, probability files.
Out: `LabeledDataset`, `GivenPredProbs`, `Reviewed`: codes and names, no decoded samples.
"""
