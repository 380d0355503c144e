"""Where samples lie on a plane on which the classes lie apart, for people to look at.

Letters: n samples, P components, K classes.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from labelfix.issues.neighbors import Embedding
from labelfix.types import MISSING
from labelfix.utils.threads import one_blas_thread

MOST = 20_000
"""Samples that the axes are found by."""

COMPONENTS = 32
"""Principal components that the axes are made of: of many more, some part the labels by chance."""

LEAST = 1e-6
"""Of the largest variance: no direction varies less."""

DIGITS = 4
"""So many say all that a picture shows, and no more than is the same on every number of threads."""


def project(embedding: Embedding, label: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return ``(n, 2)`` places, 0 to 1 along each axis.

    The axes are the first two of a linear discriminant analysis of the first principal components,
    with shrinkage (Ledoit and Wolf 2004): the plane on which the given labels lie furthest apart,
    in units of the spread within them. Two classes have one such axis; the other then is the first
    principal component.

    Args:
        embedding: Of n samples, principal components first.
        label: ``(n,)`` given labels as codes; ``MISSING`` is placed by the others.
    """
    vectors, lengths = embedding.vectors, embedding.lengths[:, None]
    with one_blas_thread():
        axes = lengths * (vectors[:, :COMPONENTS] @ _discriminants(embedding, label))
    places = np.column_stack([axes, lengths * vectors[:, :2], np.zeros((len(label), 2))])[:, :2]
    low, high = places.min(axis=0, initial=np.inf), places.max(axis=0, initial=-np.inf)
    extent = np.where(high > low, high - low, 1.0)
    scaled: NDArray[np.float32] = ((places - low) / extent).round(DIGITS).astype(np.float32)
    return scaled


def _discriminants(embedding: Embedding, label: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return ``(COMPONENTS, 0 to 2)`` axes that part the classes, fewer where P is less."""
    size = min(COMPONENTS, embedding.vectors.shape[1])
    rows = np.flatnonzero(label != MISSING)
    if len(rows) > MOST:
        rows = rows[np.linspace(0, len(rows) - 1, MOST).astype(np.int64)]
    _, group, counts = np.unique(label[rows], return_inverse=True, return_counts=True)
    if not 1 < len(counts) < len(rows):
        return np.empty((size, 0), np.float32)
    values = embedding.vectors[rows, :size].astype(np.float64) * embedding.lengths[rows, None]
    values -= values.mean(axis=0)
    means = np.zeros((len(counts), size))
    np.add.at(means, group, values)
    means /= counts[:, None]
    # scikit-learn's analysis shrinks the spread of all samples too, and so what parts the classes
    within, _ = ledoit_wolf(values - means[group], assume_centered=True)
    variance, directions = np.linalg.eigh(within)
    if not variance[-1] > 0:
        return np.empty((size, 0), np.float32)
    whitened = directions / np.sqrt(variance.clip(LEAST * variance[-1]))
    between = means * np.sqrt(counts[:, None]) @ whitened
    axes = whitened @ np.linalg.svd(between, full_matrices=False)[2][: min(2, len(counts) - 1)].T
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    found: NDArray[np.float32] = (axes * signs).astype(np.float32)
    return found
