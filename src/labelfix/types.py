"""The records that flow between the packages.

Letters: N samples, K classes, D features, F folds. Every ``(N,)`` array of a run is in the order of
``LabeledDataset.sample_id``, which is the order of the input. Arrays are read-only once a record
holds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Label = str | int
"""A label as it came: text or an integer."""

MISSING = -1
"""The code of a label that is missing, and the fold of a sample that no fold trains on."""

Codes: TypeAlias = NDArray[np.signedinteger[Any]]
"""Codes, numbers of sets, rows or folds, ``MISSING`` for none, in the smallest type that holds
them, by `code_type`: widen them before you multiply."""


def code_type(size: int) -> type[np.signedinteger[Any]]:
    """Return the smallest signed type that holds so many codes from 0, and ``MISSING``."""
    small: tuple[type[np.signedinteger[Any]], ...] = (np.int8, np.int16, np.int32)
    return next((kind for kind in small if size <= np.iinfo(kind).max + 1), np.int64)


PRED_PROBS_KIND = "pred_probs"
"""The kind of a source that holds probabilities, and no images."""

TOP_CLASSES, TOP_PROBS = "top_classes", "top_probs"
"""The columns of lists, in a report or a table that is given, where a sample has its likeliest
classes and no others."""

CLASSES_KEY = b"labelfix.class_names"
"""Where the metadata of a Parquet file hold a JSON list of class names, in the order of codes."""

MEMORY_KIND = "memory"
"""The kind of a source that a program held: nobody else can read it again."""


def _freeze_arrays(record: Any) -> None:
    """Hold a read-only view of every array, so that no package can write into another's record."""
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, np.ndarray):
            view = value.view()
            view.flags.writeable = False
            object.__setattr__(record, field.name, view)


AssumptionTopic = Literal["splits", "columns", "labels", "values", "files", "probabilities", "tune"]


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something that an audit took for granted because nobody told it.

    All of them are kept in ``run.json`` and in the report; a summary prints the first three.

    Args:
        topic: What it is about.
        text: One sentence without a full stop, that names the option which decides otherwise.
    """

    topic: AssumptionTopic
    text: str


class SampleStore(Protocol):
    """The encoded samples of a data set, by row; safe to pickle into another process.

    Files, cells of Parquet or Arrow, members of an archive. A store may say ``random_access =
    True`` where any order is as fast as a rising one and several threads may read at once.
    """

    def __len__(self) -> int:
        """Return N."""
        ...

    def read(self, index: int) -> bytes:
        """Return the encoded sample of one row; rising order is fast for every store.

        Raises:
            UnreadableSample: There is nothing to read (missing file, empty cell, outside the root).
        """
        ...

    def location(self, index: int) -> str:
        """Return where the sample of one row lies, for a person and for an export."""
        ...


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Where a data set came from: enough to write it again in its own form.

    Args:
        kind: ``"folder"``, ``"manifest"``, ``"parquet"``, ``"arrow"``, ``"archive"``,
            ``"pred_probs"`` or ``"memory"``.
        path: The DATA that the user named, absolute; of an object in memory, what it is called.
        columns: What each role's column is called (``image`` or ``text``, ``label``, ``id``,
            ``split``); empty for a folder.
        follow_links: Whether images outside DATA, that links or paths lead to, are read as well.
    """

    kind: str
    path: Path
    columns: Mapping[str, str]
    follow_links: bool = False

    @property
    def has_files(self) -> bool:
        """Return whether the samples are files of their own on this machine, to link to."""
        if not isinstance(self.path, Path):  # an address
            return False
        return self.kind == "folder" or (self.kind == "manifest" and "image" in self.columns)

    @property
    def root(self) -> Path:
        """Return the folder that paths of images are relative to."""
        return self.path if self.kind == "folder" or self.path.is_dir() else self.path.parent


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Samples:
    """N samples with the labels they came with; nothing is said of what the samples are.

    Args:
        sample_id: ``(N,)`` Arrow strings, unique and stable between runs (not a row number).
        split: ``(N,)`` Arrow strings, null where the input names none.
        given_label: ``(N,)`` codes in ``[0, K)``, ``MISSING`` where the input has no label; int64
            of samples that can be read. Nothing in labelfix writes to it.
        class_names: K names, sorted: all text or all integers, as they came.
        source: Where the data came from.
        fingerprint: A digest of the names, sizes and times of the files (not of the labels): other
            fingerprints mean that the data have changed. Equal ones are no proof that they have
            not: what is kept of samples is found by their content.
        assumptions: What was taken for granted on the way here, the most important first.
        test_splits: Splits that the user named as test splits, beside those that are called so;
            see `labelfix.data.splits.rows_for_testing`.
        label_missing: Values that the user named as no label.
    """

    sample_id: pa.StringArray
    split: pa.StringArray
    given_label: Codes
    class_names: tuple[Label, ...]
    source: DatasetSource
    fingerprint: str
    assumptions: tuple[Assumption, ...] = ()
    test_splits: tuple[str, ...] = ()
    label_missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)

    def __len__(self) -> int:
        """Return N."""
        return len(self.sample_id)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabeledDataset(Samples):
    """Samples that can be read.

    Args:
        store: The encoded samples, N rows.
        modality: The kind of the samples, by the name of its modality.
    """

    store: SampleStore
    modality: str = "image"


@dataclass(frozen=True, slots=True, eq=False)
class Reviewed:
    """What people decided about the samples.

    Args:
        label: ``(N,)`` int64, the label that a person chose or kept; ``MISSING`` where nobody
            decided, was sure, or had a label to keep.
        is_dropped: ``(N,)`` bool: the sample is to be left out.
        not_found: How many decisions are on samples that the data do not hold.
    """

    label: NDArray[np.int64]
    is_dropped: NDArray[np.bool_]
    not_found: int = 0

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)

    @property
    def is_settled(self) -> NDArray[np.bool_]:
        """Return ``(N,)`` bool: a person has had the last word on the sample."""
        return np.asarray((self.label != MISSING) | self.is_dropped)

    @classmethod
    def nothing(cls, count: int) -> "Reviewed":
        """Return that nobody decided anything about N samples."""
        # one cell that all N rows share
        label, is_dropped = np.int64(MISSING), np.False_
        return cls(np.broadcast_to(label, count), np.broadcast_to(is_dropped, count))


class EncodedSamples(Protocol):
    """What is known of N samples once each was read, whatever was made of them."""

    @property
    def content(self) -> NDArray[np.bytes_]:
        """``(N,)`` 16-byte digests of the encoded samples; equal means byte-identical."""
        ...

    @property
    def unreadable(self) -> Mapping[int, str]:
        """Row to reason, for the samples that could not be read."""
        ...

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """What was taken for granted when the samples were read."""
        ...


class SampleStatistics(Protocol):
    """What is known of each of N samples besides its features."""

    def of(self, rows: NDArray[np.int64]) -> "SampleStatistics":
        """Return that of some rows, in that order."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ImageStatistics:
    """What each image looks like as a whole; zeros where it cannot be read.

    Args:
        side: ``(N,)`` float32, pixels: the square root of the area that it is stored with.
        bright_end: ``(N,)`` float32, 0 to 1: the luminance that 99 % of the pixels do not exceed.
        dark_end: ``(N,)`` float32: that which 5 % do not exceed.
        laplacian_variance: ``(N,)`` float32, of luminances 0 to 255: how much edge there is.
        thumbnails: ``(N, T, T)`` uint8 luminances of the whole image, whatever its shape.
    """

    side: NDArray[np.float32]
    bright_end: NDArray[np.float32]
    dark_end: NDArray[np.float32]
    laplacian_variance: NDArray[np.float32]
    thumbnails: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)

    def of(self, rows: NDArray[np.int64]) -> "ImageStatistics":
        """Return those of some rows, in that order."""
        return ImageStatistics(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What an encoder makes of each sample.

    Args:
        values: ``(N, D)`` float16; a row of zeros where the sample cannot be read.
        content: ``(N,)`` 16-byte digests of the encoded samples; equal means byte-identical.
        unreadable: Row to reason, for the samples that could not be read.
        statistics: What else is known of each, for the checks of the modality.
        assumptions: What was taken for granted on the way here.
    """

    values: NDArray[np.float16]
    content: NDArray[np.bytes_]
    unreadable: Mapping[int, str]
    statistics: SampleStatistics | None = None
    assumptions: tuple[Assumption, ...] = ()

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)


@dataclass(frozen=True, slots=True, eq=False)
class FoldAssignment:
    """Which samples are trained on and scored, and in which fold.

    Args:
        is_scored: ``(N,)`` bool: readable, labeled, and of a class that is large enough.
        fold: ``(N,)`` int16 in ``[0, F)``: the fold that holds the sample out; ``MISSING`` for a
            sample that no fold trains on. Byte-identical images share a fold.
        exclusion_reason: Row to reason, for the samples that are not scored.
    """

    is_scored: NDArray[np.bool_]
    fold: NDArray[np.int16]
    exclusion_reason: Mapping[int, str]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What training saw of each sample.

    Args:
        pred_probs: ``(N, K)`` float32, rows sum to 1, **out-of-sample**: row i comes from models
            that never trained on sample i. NaN where the sample is not scored.
        fold: ``(N,)`` int16, the fold that held sample i out.
        margin: ``(N,)`` float32, logit units: the given label's logit minus the largest other one,
            in-sample, averaged over epochs and models (AUM, Pleiss et al. 2020). High is clean.
        self_label: ``(N,)`` int64, the label that self-labeling trained on last, by majority of
            the models; ``MISSING`` where the sample is not scored.
    """

    pred_probs: NDArray[np.float32]
    fold: NDArray[np.int16]
    margin: NDArray[np.float32]
    self_label: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingEvidence:
    """What one training run saw of each sample, in-sample. NaN where it never saw one.

    Args:
        margin: ``(N,)`` float32, logit units: the given label's logit minus the largest other one,
            averaged over updates (AUM, Pleiss et al. 2020). High is clean.
        given_probability: ``(N,)`` float32: the given label's probability, averaged likewise.
        mean_probs: ``(N, K)`` float32: every class's, or ``None`` if they were not kept.
        epoch_margin: ``(E, N)`` float16: the margin in each epoch, or ``None``.
        num_updates: ``(N,)`` int32: how often the sample was seen.
        wrong_predictions: ``(N,)`` int32: how often another class than the given label was
            predicted then. High is probably wrong.
    """

    margin: NDArray[np.float32]
    given_probability: NDArray[np.float32]
    mean_probs: NDArray[np.float32] | None
    epoch_margin: NDArray[np.float16] | None
    num_updates: NDArray[np.int32]
    wrong_predictions: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)

    @property
    def forgetting_events(self) -> NDArray[np.int64] | None:
        """Return ``(N,)`` after how many epochs the label was right and in the next one wrong.

        The forgetting events of Toneva et al. (ICLR 2019), by the mean margin of each epoch; of the
        epochs that saw the sample. ``None`` without margins of every epoch.
        """
        if self.epoch_margin is None:
            return None
        events = np.zeros(self.epoch_margin.shape[1], np.int64)
        was_right = np.zeros(self.epoch_margin.shape[1], np.bool_)
        for margin in self.epoch_margin:
            events += was_right & (margin < 0)
            was_right = np.where(np.isnan(margin), was_right, margin >= 0)
        return events


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfLabelingStatistics:
    """What self-labeling does at one time, over the samples trained on so far.

    A weight of 1 is that of a sample in a plain mean over its batch. A mean over no sample is NaN;
    what needs the truth is ``None`` without it.

    Args:
        trained: How many samples were trained on.
        corrected: How many of them on another label than the given one.
        kept_weight: The mean weight of samples with their given label.
        corrected_weight: The mean weight of corrected samples.
        right_labels: How many samples are trained on their true label.
    """

    trained: int
    corrected: int
    kept_weight: float
    corrected_weight: float
    right_labels: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class NoiseCells:
    """P(given = k | true = j) of P pairs of classes, ordered by true and then by given label.

    Of few classes they are all K * K pairs; of many (`labelfix.scoring.many_classes`) those that
    are not negligible.

    Args:
        classes: K.
        true_label: ``(P,)`` int64, j.
        given_label: ``(P,)`` int64, k.
        probability: ``(P,)`` float64.
        low: ``(P,)`` float64: with a probability of 90 % it lies between this
        high: ``(P,)`` float64: and this.
    """

    classes: int
    true_label: NDArray[np.int64]
    given_label: NDArray[np.int64]
    probability: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)

    @classmethod
    def of_matrix(cls, matrix: NDArray[np.float64], interval: NDArray[np.float64]) -> "NoiseCells":
        """Return all cells of a ``(K, K)`` matrix, and the ``(2, K, K)`` bounds of each."""
        classes = len(matrix)
        every = np.arange(classes)
        low, high = interval
        return cls(
            classes,
            np.repeat(every, classes),
            np.tile(every, classes),
            matrix.ravel(),
            low.ravel(),
            high.ravel(),
        )

    def among(self, known: NDArray[np.int64], classes: int, *, whole: bool) -> "NoiseCells":
        """Return the same in the codes of more classes, of whose other ones nothing is known.

        Those are taken to be never mistaken, and with a probability of 90 % from 0 to 1 anything.

        Args:
            known: ``(K,)`` the code that each class has among them.
            classes: How many there are.
            whole: Whether every pair of classes has a cell.
        """
        others = np.setdiff1d(np.arange(classes), known)
        true = np.concatenate([known[self.true_label], others])
        given = np.concatenate([known[self.given_label], others])
        own = np.ones(len(others))
        values = [
            np.concatenate(pair)
            for pair in ((self.probability, own), (self.low, 0 * own), (self.high, own))
        ]
        if whole:
            matrices = np.zeros((3, classes, classes))
            matrices[2, others] = 1
            matrices[:, true, given] = values
            return NoiseCells.of_matrix(matrices[0], matrices[1:])
        order = np.lexsort((given, true))
        return NoiseCells(classes, true[order], given[order], *(one[order] for one in values))

    def whole(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(K, K)`` of ``(P,)`` values; 0 for pairs that are left out."""
        matrix = np.zeros((self.classes, self.classes))
        matrix[self.true_label, self.given_label] = values
        return matrix


@dataclass(frozen=True, slots=True, eq=False)
class LabelScores:
    """How far each given label can be believed. NaN or ``MISSING`` where a sample is not scored.

    Args:
        label_error_probability: ``(N,)`` float32 in [0, 1]: 1 means surely wrong.
        under_hypotheses: ``(H, N)`` float32: the same under each of H hypotheses that are equally
            likely; ``label_error_probability`` is their mean.
        predicted_label: ``(N,)`` codes, the argmax of ``pred_probs`` over the classes that scored
            samples were given.
        alternative_label: ``(N,)`` codes, the most probable of these classes other than the given
            one; of byte-identical images the most probable one of all their labels, where that is
            another than the given one. ``MISSING`` where there is but one class.
        alternative_probability: ``(N,)`` float32, the probability that it is the true class.
        noise: How often each class is given each label.
        noise_rate: The estimated share of wrong labels among the scored samples.
        noise_rate_interval: Between which shares it lies with a probability of 90 %.
        is_best_of_copies: ``(N,)`` bool: the given label is the most probable one of byte-identical
            images whose labels differ; ``None`` for none.
    """

    label_error_probability: NDArray[np.float32]
    under_hypotheses: NDArray[np.float32]
    predicted_label: Codes
    alternative_label: Codes
    alternative_probability: NDArray[np.float32]
    noise: NoiseCells
    noise_rate: float
    noise_rate_interval: tuple[float, float]
    is_best_of_copies: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)

    @property
    def noise_matrix(self) -> NDArray[np.float64]:
        """Return ``(K, K)``, row j: P(given = k | true = j)."""
        return self.noise.whole(self.noise.probability)


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """What labelfix advises.

    Args:
        is_label_issue: ``(N,)`` bool.
        suggested_label: ``(N,)`` codes; ``MISSING`` where no issue is flagged.
        sample_weight: ``(N,)`` float32, at least 0, mean 1 over the data set: how much the sample
            *with its given label* should count in later training; 0 where it cannot be used.
    """

    is_label_issue: NDArray[np.bool_]
    suggested_label: Codes
    sample_weight: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)


@dataclass(frozen=True, slots=True, eq=False)
class Duplicates:
    """Byte-identical images.

    Args:
        exact_duplicate_set: ``(N,)`` int64: the same number for identical images, counted from 0
            in order of first appearance; ``MISSING`` for an image that has no copy.
        is_conflicting: ``(N,)`` bool: the sample is in a set whose given labels differ.
    """

    exact_duplicate_set: NDArray[np.int64]
    is_conflicting: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        _freeze_arrays(self)

    @classmethod
    def nothing(cls, count: int) -> "Duplicates":
        """Return that none of N samples has a copy, or that nobody looked."""
        number, is_it = np.int64(MISSING), np.False_
        return cls(np.broadcast_to(number, count), np.broadcast_to(is_it, count))
