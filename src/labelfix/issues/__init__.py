"""Find what else is wrong with samples: near-duplicates, outliers, poor images.

In: `Features` of all samples.
Out: `IssueKinds` and `Neighbors`.
"""
