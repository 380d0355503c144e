"""Whether rows hold probabilities, what they hold otherwise, and whether labels belong to them.

Letters: N samples, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelfix.data.label_agreement import (
    Compared,
    GivenTrust,
    Move,
    compare_with_chance,
    moved_columns,
    moved_rows,
    row_lag,
)
from labelfix.data.probability_store import NormalizedStore, ProbabilityStore, blocks
from labelfix.errors import DatasetError
from labelfix.types import MISSING, Assumption, Label, code_type
from labelfix.utils.progress import OnProgress, Progress
from labelfix.utils.text import percent

SUM_TOLERANCE = 1e-3
"""How far from 1 the probabilities of a sample may add up: float16 is no finer."""

ROUNDING_TOLERANCE = 0.02
"""How far from 1 they may add up and be divided by their sum: bfloat16, sums in half precision."""

LEAST_SUM = 0.5
"""Numbers rounded to few decimals may lose so much of their sum and no more."""

BAD_SHARE = 0.05
"""With more bad rows than this, the file is another kind of file."""

SAMPLED_ROWS = 4096
"""So many rows are looked at to tell what a file holds instead of probabilities."""

FORCE = "--force goes on with them as they are"

_HOW_ROWS = "each row has to hold numbers from 0 to 1 that sum to 1"
_IsNear = Callable[[NDArray[np.float32], NDArray[np.float64]], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class CheckedRows:
    """The rows of a file of probabilities, checked.

    Args:
        store: The probabilities, summing to 1 in every row that is good.
        exclusion_reason: Row to reason, for those that are not.
        is_compared: ``(N,)`` bool: the good rows that have a label, n of them.
        compared: Their labels, and what the probabilities say.
        assumptions: What was taken for granted.
    """

    store: ProbabilityStore
    exclusion_reason: dict[int, str]
    is_compared: NDArray[np.bool_]
    compared: Compared
    assumptions: tuple[Assumption, ...]


@dataclass(slots=True)
class _Scan:
    """What one pass over the rows has found."""

    exclusion_reason: dict[int, str]
    bad: int = 0
    first_bad: int = 0
    mended: int = 0
    single: int = 0
    lowest: float = 1.0
    highest: float = 1.0


def are_many(bad: int, size: int) -> bool:
    """Return whether so many rows are bad that the file must be of another kind."""
    return bad > max(1, BAD_SHARE * size)


def check_rows(
    store: ProbabilityStore,
    class_names: Sequence[Label],
    given: NDArray[np.int64],
    path: Path,
    on_progress: OnProgress,
    is_listed: NDArray[np.bool_] | None = None,
) -> CheckedRows:
    """Check that each row holds probabilities; divide those by their sum that rounding put off.

    Args:
        store: ``(N, K)``.
        class_names: K names.
        given: ``(N,)`` codes, ``MISSING`` for no label.
        path: The file, for messages.
        on_progress: Told how far it is.
        is_listed: ``(N,)`` bool: the others came without probabilities, and are no sign of another
            kind of file; ``None`` if all have some.

    Raises:
        DatasetError: More than a few rows hold something else; the message says what it looks like.
    """

    def scanned(is_near: _IsNear) -> tuple[_Scan, NDArray[np.bool_], Compared]:
        return _scan(store, class_names, given, path, on_progress, is_near, is_listed)

    scan, is_compared, compared = scanned(_is_near)
    decimals = _decimals(store) if scan.bad else None
    if decimals is not None:
        scan, is_compared, compared = scanned(_within_rounding(0.5 * 10.0**-decimals))
    if are_many(scan.bad, len(store)):
        raise _no_probabilities(store, scan, class_names, path)
    return CheckedRows(
        store=NormalizedStore(store, SUM_TOLERANCE) if scan.mended else store,
        exclusion_reason=scan.exclusion_reason,
        is_compared=is_compared,
        compared=compared,
        assumptions=tuple(_assumptions(scan, len(store), path, decimals)),
    )


def _scan(
    store: ProbabilityStore,
    class_names: Sequence[Label],
    given: NDArray[np.int64],
    path: Path,
    on_progress: OnProgress,
    is_near: _IsNear,
    is_listed: NDArray[np.bool_] | None,
) -> tuple[_Scan, NDArray[np.bool_], Compared]:
    size, scan = len(store), _Scan({})
    is_compared = np.zeros(size, np.bool_)
    predicted = np.full(size, MISSING, code_type(store.classes))
    trust = GivenTrust(given, store.classes)
    for block in blocks(size, store.classes):
        probs = store.read(block)
        with np.errstate(invalid="ignore", over="ignore"):
            total = probs.sum(axis=1, dtype=np.float64)
            is_exact = np.abs(total - 1) <= SUM_TOLERANCE
            is_good = (is_exact | is_near(probs, total)) & (probs.min(axis=1) >= 0)
        is_mended = is_good & ~is_exact
        scan.mended += int(np.count_nonzero(is_mended))
        if is_mended.any():
            scan.lowest = min(scan.lowest, float(total[is_mended].min()))
            scan.highest = max(scan.highest, float(total[is_mended].max()))
        predicted[block] = probs.argmax(axis=1)
        at_most = probs[np.arange(len(probs)), predicted[block]]
        scan.single += int(np.count_nonzero(is_good & (total == 1) & (at_most == 1)))
        bad = np.flatnonzero(~is_good if is_listed is None else ~is_good & is_listed[block])
        if len(bad) and not scan.bad:
            scan.first_bad = block.start + int(bad[0])
        scan.bad += len(bad)
        if not are_many(
            len(scan.exclusion_reason), size
        ):  # else the run will end: one reason is enough
            for row in bad.tolist():
                fault = _fault_of(probs[row], class_names)
                scan.exclusion_reason[block.start + row] = f"not scored: {fault}"
        has_both = is_good & (given[block] != MISSING)
        is_compared[block] = has_both
        trust.add(probs[has_both], given[block][has_both])
        on_progress(Progress(f"checking {path.name}", block.stop, size, "rows"))
    if is_listed is not None:
        absent = np.flatnonzero(~is_listed).tolist()
        scan.exclusion_reason |= dict.fromkeys(absent, "not scored: it has no probabilities")
    codes = given[is_compared].astype(predicted.dtype)
    compared = Compared(codes, predicted[is_compared], store.classes, trust.value())
    return scan, is_compared, compared


def _is_near(probs: NDArray[np.float32], total: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(total - 1) <= ROUNDING_TOLERANCE)


def _within_rounding(half: float) -> _IsNear:
    """Return whether rounding by at most ``half`` explains a sum: what is 0 has only lost."""

    def is_near(probs: NDArray[np.float32], total: NDArray[np.float64]) -> NDArray[np.bool_]:
        gained = half * np.count_nonzero(probs, axis=1)
        is_explained = (total - gained <= 1.0001) & (total + half * probs.shape[1] >= 0.9999)
        return np.asarray((is_explained | _is_near(probs, total)) & (total >= LEAST_SUM))

    return is_near


def _sample(store: ProbabilityStore) -> NDArray[np.float32]:
    count = min(SAMPLED_ROWS, max(1, (1 << 22) // store.classes), len(store))
    return store.read(np.linspace(0, len(store) - 1, count).round().astype(np.int64))


def _decimals(store: ProbabilityStore) -> int | None:
    """Return to how many decimals all numbers are rounded, ``None`` if to four or more."""
    values = _sample(store).astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        return None
    for decimals, slack in ((1, 0.02), (2, 0.06), (3, 0.02)):  # as far as float16 is exact
        scaled = values * 10**decimals
        if np.abs(scaled - scaled.round()).max() < slack:
            return decimals if ((values > 0) & (values < 1)).any() else None
    return None


def _assumptions(scan: _Scan, size: int, path: Path, decimals: int | None) -> "list[Assumption]":
    said = []
    if scan.mended:
        why = "" if decimals is None else f", rounded to {decimals} decimals,"
        said.append(
            f"{scan.mended:,} of {size:,} rows of {path.name}{why} sum to {scan.lowest:.3g} to "
            f"{scan.highest:.3g} and were divided by their sum; write float32 with all digits for "
            "probabilities to be taken as they are"
        )
    if scan.single and scan.single >= (1 - BAD_SHARE) * (size - scan.bad):
        said.append(
            f"the rows of {path.name} hold a single 1 each: predicted classes, not probabilities, "
            "which rank no error above another; give the softmax outputs of the model instead"
        )
    return [Assumption("probabilities", text) for text in said]


def _fault_of(probs: NDArray[np.float32], class_names: Sequence[Label]) -> str:
    odd = np.flatnonzero(~(np.isfinite(probs) & (probs >= 0)))
    if len(odd):
        return f"the probability of {class_names[odd[0]]!r} is {probs[odd[0]]:.4g}"
    return f"its probabilities sum to {probs.sum(dtype=np.float64):.4g}, not 1"


def _no_probabilities(
    store: ProbabilityStore, scan: _Scan, class_names: Sequence[Label], path: Path
) -> DatasetError:
    what, remedy = _kind_of(_sample(store))
    fault = _fault_of(store.read(slice(scan.first_bad, scan.first_bad + 1))[0], class_names)
    return DatasetError(
        f"{scan.bad:,} of {len(store):,} rows of {path} hold no probabilities{what}; "
        f"row {scan.first_bad + 1:,} is not scored: {fault}",
        hint=f"{_HOW_ROWS}: {remedy}",
    )


def _kind_of(values: NDArray[np.float32]) -> tuple[str, str]:
    """Return what rows look like that hold no probabilities, and what to do with them."""
    finite = values[np.isfinite(values).all(axis=1)].astype(np.float64)
    is_log = (np.where(np.isneginf(values), -1e9, values) <= 1e-6).all() and len(values) > 0
    if is_log:
        total = np.exp(values.astype(np.float64)).sum(axis=1)
        if np.mean(np.abs(total - 1) < 0.05) > 0.9:
            return ", they look like log-probabilities", (
                "take numpy.exp of log-probabilities (or their softmax, which is the same)"
            )
    if len(finite) < len(values) / 2:
        return ", they hold numbers that are not finite", (
            "find out why the model gave them, and take such rows out"
        )
    return _kind_of_finite(finite)


def _kind_of_finite(values: NDArray[np.float64]) -> tuple[str, str]:
    softmax = "take the softmax of logits"
    if values.min() < 0:
        if np.abs(values).max() > 1:
            return ", they look like logits", softmax
        return ", they look like scores between -1 and 1, such as cosine similarities", (
            f"{softmax}, after multiplying similarities with the scale of the model"
        )
    total = values.sum(axis=1)
    usual = float(np.median(total))
    if usual > 0 and np.mean(np.abs(total / usual - 1) < 0.03) > 0.9:
        if abs(usual - 100) < 3:
            return ", they look like per cents", "divide per cents by 100"
        if abs(usual - 1) > ROUNDING_TOLERANCE:
            return f", their sum is {usual:.4g}", f"divide all of them by {usual:.4g}"
    if values.max() > 1 and np.array_equal(values, values.round()):
        return ", they look like counts or votes", "divide the votes of each row by their sum"
    if values.max() > 1:
        return ", they look like logits or other scores without an upper end", softmax
    return ", they look like scores of one class at a time (sigmoid)", (
        "such scores say whether each class is there, not which one it is: take the softmax of the "
        "logits, or divide each row by its sum if every sample has one class"
    )


@dataclass(frozen=True, slots=True)
class MixUp:
    """What speaks against given labels and probabilities belonging together.

    Args:
        what: What was found, as a sentence without a full stop.
        hint: How to mend it.
        is_sure: Whether it is more than worth a line.
    """

    what: str
    hint: str
    is_sure: bool


def find_mix_up(
    checked: CheckedRows, class_names: Sequence[Label], columns: Sequence[Label], where: str
) -> MixUp | None:
    """Return what was mixed up in a file: columns, or rows; ``None`` if all looks well.

    Args:
        checked: Its rows.
        class_names: K names, by code.
        columns: The same names in the order of the file.
        where: The file, as messages name it.
    """
    moves = moved_columns(checked.compared)
    if moves:
        return _of_columns(moves, class_names, columns, where)
    chance = compare_with_chance(checked.compared)
    if chance.is_unrelated:
        lag = row_lag(checked.compared)
        guess = (
            f"the labels look moved by {_many_rows(lag)}"
            if lag
            else "are the rows in another order?"
        )
        return MixUp(
            f"given labels and probabilities of {where} agree no better than chance ({chance}): "
            f"{guess}",
            "write labels and probabilities of the same sample into the same row, from a model "
            f"that knows these classes; {FORCE}",
            is_sure=True,
        )
    if not chance.is_related and chance.rows:
        return MixUp(
            f"given labels and probabilities of {where} may agree by chance alone ({chance}): "
            "too few rows to tell",
            "",
            is_sure=False,
        )
    return _of_stretch(checked, where)


def _many_rows(lag: int) -> str:
    return f"{abs(lag)} row{'s' * (abs(lag) > 1)} {'up' if lag > 0 else 'down'}"


def _of_stretch(checked: CheckedRows, where: str) -> MixUp | None:
    found = moved_rows(checked.compared)
    if found is None:
        return None
    rows = np.flatnonzero(checked.is_compared)
    first, last = rows[found.start] + 1, rows[found.stop - 1] + 1
    what = (
        f"rows {first:,} to {last:,} of {where} agree with their labels no better than chance, the "
        f"others in {percent(found.agreeing, 0)}: "
    )
    if found.lag:
        return MixUp(
            f"{what}the labels look moved by {_many_rows(found.lag)} there",
            f"look for a row too many or too few near row {first:,}; {FORCE}",
            is_sure=True,
        )
    return MixUp(f"{what}are these rows in another order?", "", is_sure=False)


def _of_columns(
    moves: Sequence[Move], class_names: Sequence[Label], columns: Sequence[Label], where: str
) -> MixUp:
    place = {name: position for position, name in enumerate(columns)}
    at = np.array([place[class_names[move.given]] for move in moves])
    to = np.array([place[class_names[move.column]] for move in moves])
    worst = max(moves, key=lambda move: move.other - move.own)
    rows, other, own = (
        sum(getattr(move, key) for move in moves) for key in ("rows", "other", "own")
    )
    figures = (
        f"given label {class_names[worst.given]!r} agrees best with column "
        f"{class_names[worst.column]!r}, in {worst.other:,} of {worst.rows:,} rows, and with its "
        f"own in {worst.own:,}"
    )
    if len(moves) > 1:
        figures += f"; so do {len(moves)} labels, in {other:,} of {rows:,} rows against {own:,}"
    guess, hint = _guess(at, to, columns)
    return MixUp(
        f"the columns of {where} look {guess}: {figures}", f"{hint}; {FORCE}", is_sure=True
    )


def _guess(
    at: NDArray[np.int64], to: NDArray[np.int64], columns: Sequence[Label]
) -> tuple[str, str]:
    """Return what may have happened to columns, and how to mend it."""
    count = len(columns)
    offset, times = np.unique(to - at, return_counts=True)
    usual = int(offset[np.argmax(times)])
    in_ring = (to - at - usual) % count == 0
    if len(at) > 2 and abs(usual) <= 2 and np.mean(in_ring) > 0.9 and times.max() > 0.6 * len(at):
        by = "one" if abs(usual) == 1 else str(abs(usual))
        why = "labels counted from 1?" if usual == -1 else "a column too many or too few in front?"
        return f"shifted by {by} ({why})", (
            "count labels from 0, and give one column for each class in the order of the classes"
        )
    orders = {
        "sorted as text": sorted(range(count), key=lambda place: str(columns[place])),
        "sorted": sorted(range(count), key=lambda place: columns[place]),
        "turned round": list(range(count))[::-1],
    }
    for name, order in orders.items():
        held = np.array(order)  # column c would hold class order[c]
        if len(at) > 2 and np.mean(held[to] == at) > 0.9:
            return f"to be in another order (that of the names, {name})", (
                "name the columns in the order in which the model gives them"
            )
    return "to be in another order", (
        "name the columns in the order in which the model gives them, or mend the labels"
    )
