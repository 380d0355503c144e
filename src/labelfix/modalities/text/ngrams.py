"""Features of texts from the texts of the data set alone: which words and letters they share.

Hashed n-grams of words and of characters are weighted by how rare they are (TF-IDF) and reduced to
their principal directions (latent semantic analysis, Deerwester et al. 1990). No label is looked
at. The other texts decide the directions, so that features are not kept in a cache.

Letters: N texts, n of them from which directions are learned, V n-grams, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

Unit = Literal["word", "character"]


@dataclass(frozen=True, slots=True)
class NgramConfig:
    """How n-grams become features.

    Args:
        unit: What an n-gram is made of.
        lengths: The shortest and the longest n-gram.
        directions: D.
        buckets: How many different n-grams are told apart.
        least_texts: In how many texts an n-gram has to be.
        fitted_texts: n, at most.
        longest: Characters of a text that are looked at.
    """

    unit: Unit
    lengths: tuple[int, int]
    directions: int = 512
    buckets: int = 1 << 18
    least_texts: int = 2
    fitted_texts: int = 20_000
    longest: int = 20_000


WORDS = NgramConfig("word", (1, 2))
CHARACTERS = NgramConfig("character", (3, 5))


def ngram_features(texts: Sequence[str], config: NgramConfig) -> NDArray[np.float32]:
    """Return ``(N, D)`` features of texts; zeros where nothing is shared with another text.

    Args:
        texts: N of them.
        config: Which n-grams, and how many features.
    """
    values = np.zeros((len(texts), config.directions), np.float32)
    if not texts:
        return values
    counts = _hashed(texts, config)
    fitted = slice(None, None, max(1, -(-len(texts) // config.fitted_texts)))
    is_shared = np.bincount(counts[fitted].indices, minlength=config.buckets) >= config.least_texts
    counts = counts[:, np.flatnonzero(is_shared)]
    some = counts[fitted]
    directions = min(config.directions, some.shape[0], some.shape[1])
    if not directions:
        return values
    weights = TfidfTransformer(sublinear_tf=True).fit(some)
    with threadpool_limits(1, user_api="blas"):  # sums in another order give other digits
        axes = randomized_svd(
            weights.transform(some).astype(np.float32), directions, n_iter=2, random_state=0
        )[2]
        values[:, :directions] = weights.transform(counts).astype(np.float32) @ axes.T
    return values


def _hashed(texts: Sequence[str], config: NgramConfig) -> Any:
    """Return ``(N, V)`` sparse counts of n-grams."""
    hashing = HashingVectorizer(
        analyzer="word" if config.unit == "word" else "char_wb",
        ngram_range=config.lengths,
        token_pattern=r"(?u)\b\w+\b",
        n_features=config.buckets,
        norm=None,
        alternate_sign=False,
        dtype=np.float32,
    )
    return hashing.transform([text[: config.longest] for text in texts])
