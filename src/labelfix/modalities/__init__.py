"""What depends on the kind of a sample; each modality is a package of its own.

In: The encoded samples of a `LabeledDataset`.
Out: `Features`, training inputs, thumbnails.
"""
