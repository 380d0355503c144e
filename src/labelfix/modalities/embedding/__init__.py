"""Embeddings: vectors that some network made elsewhere, taken as the features of the samples.

In: Vectors by row.
Out: `Features`, cosines of pairs, and whatever pictures or texts the data name.
"""
