"""What people decided about a run, as another audit of the data uses it.

Letters: N samples, K classes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelfix.data.decisions import DECISIONS_NAME, Decision, decisions_file, read_decisions
from labelfix.errors import DatasetError, DecisionsError, RunError
from labelfix.types import MISSING, FoldAssignment, Label, Reviewed
from labelfix.utils.files import atomic_path, refuse_special_file
from labelfix.utils.text import counted

Decisions: TypeAlias = Mapping[str, Decision]
"""The decisions in force by sample id."""


def decisions_of(run: Path | None) -> Decisions | None:
    """Return the decisions on a run, which has to hold some; ``None`` where no run is named.

    Args:
        run: The RUN folder, or the report in it.

    Raises:
        DecisionsError: There is no file of decisions, or a line of it is none.
    """
    if run is None:
        return None
    refuse_special_file(decisions_file(run), DecisionsError)
    if not decisions_file(run).is_file():
        raise DecisionsError(
            f"{run} holds no {DECISIONS_NAME}",
            hint="name the RUN folder whose suspects were decided on, with `labelfix review RUN`",
        )
    return read_decisions(run)


def digest_of(decisions: Decisions | None) -> str | None:
    """Return what tells whether decisions that count have changed; ``None`` of none."""
    if decisions is None:
        return None
    counting = [
        [sample, decision.action, decision.label]
        for sample, decision in sorted(decisions.items())
        if decision.action != "unsure"
    ]
    return hashlib.blake2b(json.dumps(counting).encode(), digest_size=16).hexdigest()


def reviewed_by(
    decisions: Decisions | None,
    sample_id: pa.StringArray,
    given_label: NDArray[np.int64],
    class_names: Sequence[Label],
) -> Reviewed | None:
    """Return what was decided about N samples; who was not sure has decided nothing.

    Args:
        decisions: Those in force; ``None`` gives ``None``.
        sample_id: ``(N,)`` Arrow strings, unique: by these the decisions are found.
        given_label: ``(N,)`` codes, which decisions may keep.
        class_names: K names.

    Raises:
        DecisionsError: A label was chosen that is no class of the data.
    """
    if decisions is None:
        return None
    rows = pc.index_in(pa.array(list(decisions), pa.string()), sample_id).to_pylist()
    code_of = {name: code for code, name in enumerate(class_names)}
    label = np.full(len(sample_id), MISSING, np.int64)
    is_dropped = np.zeros(len(sample_id), np.bool_)
    for row, decision in zip(rows, decisions.values(), strict=True):
        if row is None:
            continue
        if decision.action == "keep":
            label[row] = given_label[row]
        elif decision.action == "relabel":
            label[row] = _code(decision, code_of)
        is_dropped[row] = decision.action == "drop"
    return Reviewed(label, is_dropped, rows.count(None))


def _code(decision: Decision, code_of: Mapping[Label, int]) -> int:
    code = None if decision.label is None else code_of.get(decision.label)
    if code is None:
        raise DecisionsError(
            f"{decision.sample_id} was relabeled {decision.label!r}, and the data have no such "
            "class",
            hint="take the decision back in `labelfix review`, or give the data samples of that "
            "class",
        )
    return code


def plan_with(
    reviewed: Reviewed | None, assignment: FoldAssignment, given_label: NDArray[np.int64]
) -> FoldAssignment:
    """Return the plan of the folds without the samples that decisions keep out of training.

    Those are the dropped ones, and those whose reviewed label is a class too small to be scored.
    All models score them then, as they score a test split.

    Args:
        reviewed: The decisions on N samples; ``None`` changes nothing.
        assignment: Which samples were to be trained on.
        given_label: ``(N,)`` codes.

    Raises:
        DatasetError: There are not two classes left to train on.
    """
    if reviewed is None:
        return assignment
    is_known = reviewed.label != MISSING
    is_foreign = is_known & ~np.isin(reviewed.label, given_label[assignment.is_scored])
    fold = assignment.fold.copy()
    fold[reviewed.is_dropped | is_foreign] = MISSING
    label = np.where(is_known, reviewed.label, given_label)
    if len(np.unique(label[fold != MISSING])) < 2:
        raise DatasetError(
            "the decisions leave fewer than two classes to train on",
            hint="take some of them back in `labelfix review`, or audit without --decisions",
        )
    return replace(assignment, fold=fold)


def settings_with(reviewed: Reviewed | None, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of a report, which say how many decisions shaped it."""
    if reviewed is None:
        return settings
    known, dropped = int((reviewed.label != MISSING).sum()), int(reviewed.is_dropped.sum())
    settled = int(reviewed.is_settled.sum())
    samples = counted(settled, "sample")
    notes = [f"people decided on {samples}: what they said was taken as right"]
    if reviewed.not_found:
        missed = counted(reviewed.not_found, "decision is", "decisions are")
        notes.append(f"{missed} on samples that the data do not hold")
    return {
        **settings,
        "decisions": {"reviewed": known, "dropped": dropped, "not_found": reviewed.not_found},
        "notes": [*settings.get("notes", []), *notes],
    }


def refuse_to_replace(source: Path | None, run: Path) -> None:
    """Refuse to put the decisions of one run in the place of others that a run holds.

    Raises:
        RunError: The other run holds decisions that would be lost.
    """
    if source is None:
        return
    file, target = decisions_file(source), run / DECISIONS_NAME
    if not target.is_file() or target.samefile(file):
        return
    if not file.read_bytes().startswith(target.read_bytes()):
        raise RunError(
            f"{run} holds decisions of its own, which those of {source} would replace",
            hint=f"use --decisions {run}, or another folder for --out",
        )


def copy_decisions(source: Path | None, run: Path) -> None:
    """Put the decisions of one run into the folder of another, so that review goes on there.

    Raises:
        RunError: The folder cannot be written to.
    """
    if source is None:
        return
    file, target = decisions_file(source), run / DECISIONS_NAME
    if target.is_file() and target.samefile(file):
        return
    with atomic_path(target) as path:
        path.write_bytes(file.read_bytes())
