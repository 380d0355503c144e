"""What there is to say of samples besides their labels, from what was seen of them.

Letters: N samples, n different readable samples, k neighbors.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from labelfix.config import IssueConfig
from labelfix.data.duplicates import conflicting
from labelfix.issues.near_duplicates import Similarity, find_near_duplicates
from labelfix.issues.neighbors import NEIGHBORS, embed, find_neighbors, outlier_score
from labelfix.issues.projection import project
from labelfix.issues.types import COMMON_KINDS, IssueKinds, Neighbors
from labelfix.modalities.base import Modality
from labelfix.types import MISSING, Duplicates, Features

T = TypeVar("T", np.int64, np.float32)


def find_issue_kinds(
    features: Features,
    given_label: NDArray[np.int64],
    duplicates: Duplicates,
    config: IssueConfig,
    modality: Modality,
    *,
    closely: Similarity | None = None,
) -> IssueKinds:
    """Find near-duplicates, outliers, and what the checks of the modality find.

    Of byte-identical samples one is compared with the rest; the others share what is found.

    Args:
        features: Of N samples.
        given_label: ``(N,)`` codes.
        duplicates: Which samples are byte-identical.
        config: The thresholds.
        modality: Has the checks, and says how much alike two samples are.
        closely: Says of rows of the samples themselves how much alike they are; ``None`` leaves it
            at what the statistics say.
    """
    image, rows = _different(features, duplicates)
    statistics = None if features.statistics is None else features.statistics.of(rows)
    embedding = embed(features.values, rows)
    neighbors = find_neighbors(embedding.vectors)
    near = find_near_duplicates(
        lambda first, second: modality.confirm_duplicates(statistics, first, second),
        neighbors,
        threshold=config.near_duplicate,
        closely=None if closely is None else lambda one, two: closely(rows[one], rows[two]),
    )
    checks = modality.checks()
    limits = {kind: getattr(config, kind) for kind in COMMON_KINDS}
    limits |= {check.name: getattr(config, check.name, check.threshold) for check in checks}
    limits["near_duplicate"] = near.limit
    found = {
        "near_duplicate": near.score,
        "outlier": outlier_score(neighbors, embedding.lengths),
        **{check.name: check.score(statistics) for check in checks},
    }
    scores = {kind: _of_samples(values, image, np.nan) for kind, values in found.items()}
    scores["near_duplicate"][duplicates.exact_duplicate_set != MISSING] = 0
    sets = _all_sets(_of_samples(near.sets, image, MISSING), image, near.limit)
    is_issue = {kind: scores[kind] < limits[kind] for kind in scores}
    return IssueKinds(
        near_duplicate_set=sets,
        is_conflicting=conflicting(sets, given_label),
        scores=scores,
        is_issue={**is_issue, "near_duplicate": sets != MISSING},
        limits=limits,
        neighbors=_with_copies(neighbors, image, rows),
        places=_of_samples(project(embedding, given_label[rows]), image, np.nan),
    )


def _different(
    features: Features, duplicates: Duplicates
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ``(N,)`` the number of each sample's image and ``(n,)`` the first row of each image.

    The number is ``MISSING`` where the image cannot be read.
    """
    size = len(features.content)
    first = np.arange(size)
    copies = np.flatnonzero(duplicates.exact_duplicate_set != MISSING)
    _, leader, group = np.unique(
        duplicates.exact_duplicate_set[copies], return_index=True, return_inverse=True
    )
    first[copies] = copies[leader][group]
    first[list(features.unreadable)] = MISSING
    rows, image = np.unique(first[first != MISSING], return_inverse=True)
    return _scatter(image, first != MISSING), rows


def _scatter(values: NDArray[np.int64], is_there: NDArray[np.bool_]) -> NDArray[np.int64]:
    spread = np.full(len(is_there), MISSING, np.int64)
    spread[is_there] = values
    return spread


def _of_samples(values: NDArray[T], image: NDArray[np.int64], missing: float) -> NDArray[T]:
    """Return ``(N, ...)`` what ``(n, ...)`` values say of each sample's image."""
    spread = np.full((len(image), *values.shape[1:]), missing, values.dtype)
    is_there = image != MISSING
    spread[is_there] = values[image[is_there]]
    return spread


def _all_sets(sets: NDArray[np.int64], image: NDArray[np.int64], limit: float) -> NDArray[np.int64]:
    """Return ``(N,)`` sets that hold byte-identical images too, numbered by first appearance.

    Args:
        sets: ``(N,)`` the number of an image that stands for the set, ``MISSING`` if it is alone.
        image: ``(N,)`` the number of each sample's image.
        limit: Nothing is a near-duplicate if it is 0.
    """
    joined = np.where(sets == MISSING, image, sets)
    _, first, group, size = np.unique(
        joined, return_index=True, return_inverse=True, return_counts=True
    )
    is_set = (joined[first] != MISSING) & (size > 1) & (limit > 0)
    number = np.full(len(first), MISSING, np.int64)
    found = np.flatnonzero(is_set)
    number[found[np.argsort(first[found])]] = np.arange(len(found))
    return number[group]


def _with_copies(
    neighbors: Neighbors, image: NDArray[np.int64], rows: NDArray[np.int64]
) -> Neighbors:
    """Return the neighbors of all samples: its own copies first, those of others beside them.

    Args:
        neighbors: ``(n, k)`` of the different images.
        image: ``(N,)`` the number of each sample's image.
        rows: ``(n,)`` the first row of each image.
    """
    found = np.full((len(image), NEIGHBORS), MISSING, np.int64)
    similarities = np.zeros((len(image), NEIGHBORS), np.float32)
    seen = np.flatnonzero(image != MISSING)
    count = neighbors.rows.shape[1]
    found[seen, :count] = rows[neighbors.rows[image[seen]]]
    similarities[seen, :count] = neighbors.similarities[image[seen]]
    by_image = seen[np.argsort(image[seen], kind="stable")]
    starts = np.searchsorted(image[by_image], np.arange(len(rows) + 1))
    has_copy = np.diff(starts) > 1
    concerned = has_copy[image[seen]] | has_copy[neighbors.rows[image[seen]]].any(axis=1)
    for row in seen[concerned].tolist():
        near = np.append(image[row], neighbors.rows[image[row]])
        alike = np.append(np.float32(1), neighbors.similarities[image[row]])
        groups = [by_image[starts[number] : starts[number + 1]] for number in near.tolist()]
        everything, cosines = np.concatenate(groups), np.repeat(alike, list(map(len, groups)))
        others = np.flatnonzero(everything != row)[:NEIGHBORS]
        found[row, : len(others)] = everything[others]
        similarities[row, : len(others)] = cosines[others]
    return Neighbors(found, similarities)
