"""The answer of an audit and of ``labelfix show``: a screen of 24 lines of 80 columns.

What is wrong in one sentence, where it is worst, and the commands to go on with.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text

from labelfix.exports.leftovers import Outlook
from labelfix.report.summary import Summary
from labelfix.utils.text import about, counted, percent, plain

WIDTH = 80
"""Columns of an answer, also where the terminal has more."""

MOST_NOTES = 3
"""Lines of notes and of what was taken for granted; run.json holds all."""

SECONDS_A_SUSPECT = 3
"""What a decision takes in a review, about."""

_NAME = 14  # columns of the names of facts


def print_answer(console: Console, summary: Summary, outlook: Outlook, run: Path) -> None:
    """Print what an audit found and what to do next.

    Args:
        console: Where to.
        summary: Of the report with its decisions.
        outlook: What an export would do.
        run: The RUN folder.
    """
    width = min(console.width, WIDTH)
    console.print()
    for line in fold(headline(summary), width, 3):
        _print(console, line, "bold")
    console.print()
    for name, text, most in _facts(summary, outlook):
        first, *more = fold(text, width - _NAME - 2, most)
        _print(console, f"  {name:<{_NAME}}{first}")
        for line in more:
            _print(console, " " * (_NAME + 2) + line)
    for line in note_lines(summary.notes, summary.assumptions, width - 2):
        _print(console, f"  {line}", "dim")
    console.print()
    for name, remark, command in _steps(summary, outlook, run):
        if remark:
            _print(console, f"{name:<8}{fold(remark, width - 8, 1)[0]}", "dim")
            name = ""
        _print(console, f"{name:<8}{plain(command)}", "bold")


def headline(summary: Summary) -> str:
    """Return in one sentence how many labels look wrong, and how many really are.

    Where somebody has decided, it is of the labels that are left to decide on.
    """
    scored, rate, decided = summary.scored, _rate(summary), summary.decided
    if not scored:
        return "No label could be scored."
    many = summary.flagged if decided is None else decided.left
    if not many:
        text = f"No {'label' if decided is None else 'undecided label'} of {scored:,} looks wrong"
        return f"{text}{f': {rate}' if rate else ''}."
    labels = counted(scored, "label")
    text = f"{many:,} of {labels} {'looks' if many == 1 else 'look'} wrong"
    if decided is not None:
        text += f" and {'is' if many == 1 else 'are'} undecided"
    if summary.new_precision is not None:
        share = percent(summary.new_precision, 0)
        roughly = f"over {share[1:]}" if share.startswith(">") else f"about {share}"
        really = f"it really is with {share}" if many == 1 else f"{roughly} of them really are"
        text += f": {really}"
    return f"{text} ({rate})." if rate else f"{text}."


def _rate(summary: Summary) -> str:
    if summary.noise_rate is None:
        return ""
    text = f"{_share(summary.noise_rate)} of all labels are wrong"
    if summary.noise_rate_interval is not None:
        low, high = map(_share, summary.noise_rate_interval)
        text += f", 90 % interval {low.removesuffix(' %')} to {high}"
    return text


def _share(share: float) -> str:
    return percent(share, 0 if share >= 0.0995 else 1)


def _facts(summary: Summary, outlook: Outlook) -> list[tuple[str, str, int]]:
    """Return names, sentences and how many lines each may take."""
    facts = []
    worst = max(summary.by_class, key=lambda row: (row.new, row.flagged_share), default=None)
    if worst is not None and worst.new:
        share = percent(worst.new / worst.samples, 0)
        many = f"{worst.new:,} of {counted(worst.samples, 'label')} ({share})"
        look = "looks" if worst.new == 1 else "look"
        facts.append(("worst class", f"{worst.label}: {many} {look} wrong", 1))
    if summary.confused:
        pair = summary.confused[0]
        look = "looks" if pair.count == 1 else "look"
        text = f"{pair.count:,} labeled {pair.given_label} {look} like {pair.suggested_label}"
        facts.append(("worst pair", text, 1))
    if outlook.conflicts:
        facts.append(("conflicts", outlook.conflicts, 2))
    if found := _also_found(summary):
        facts.append(("also found", found, 2))
    if summary.decided is not None:
        facts.append(("decided", decided_text(summary), 2))
    return facts


def decided_text(summary: Summary) -> str:
    """Return what people decided, and how many suspects are left."""
    decided = summary.decided
    if decided is None:
        return "nothing"
    parts = ", ".join(
        f"{count:,} {name}"
        for name, count in (
            ("relabeled", decided.relabeled),
            ("kept", decided.kept),
            ("dropped", decided.dropped),
            ("unsure", decided.unsure),
        )
        if count
    )
    text = f"{decided.decided:,} of {counted(summary.flagged, 'suspect')}"
    text += f" ({parts}); {decided.left:,} left" if parts else f"; {decided.left:,} left"
    return f"{text}; {counted(decided.others, 'other sample')}" if decided.others else text


def _also_found(summary: Summary) -> str:
    counts = [  # adjectives, and nouns with their plural
        ("unreadable", "unreadable", summary.unreadable),
        ("near-duplicate", "near-duplicates", summary.near_duplicates),
        ("across splits", "across splits", summary.leaks),
        ("outlier", "outliers", summary.outliers),
        *((kind.replace("_", " "),) * 2 + (count,) for kind, count in summary.checks.items()),
        ("not scored", "not scored", summary.samples - summary.scored),
    ]
    return ", ".join(counted(count, one, several) for one, several, count in counts if count)


def note_lines(notes: Sequence[str], assumptions: Sequence[str], width: int) -> list[str]:
    """Return at most `MOST_NOTES` lines of notes and of what an audit took for granted."""
    texts = [*(f"note: {text}" for text in notes), *(f"assumed: {text}" for text in assumptions)]
    folded = [fold(text, width, MOST_NOTES) for text in texts]
    if sum(map(len, folded)) <= MOST_NOTES:
        return [line for lines in folded for line in lines]
    shown: list[str] = []
    for number, text in enumerate(texts):
        lines = fold(text, width, MOST_NOTES - 1)
        if number and len(shown) + len(lines) >= MOST_NOTES:
            return [*shown, f"and {len(texts) - number:,} more, in run.json"]
        shown += lines
    return shown


def _steps(summary: Summary, outlook: Outlook, run: Path) -> list[tuple[str, str, str]]:
    """Return the commands to go on with: a name, what to know of it, and the command."""
    page = run / "report.html"
    steps = [("Open", "", str(page))] if page.is_file() else []
    left = summary.flagged if summary.decided is None else summary.decided.left
    if left:
        remark = f"{counted(left, 'suspect')}, {about(left * SECONDS_A_SUSPECT)}"
        steps.append(("Review", remark, shlex.join(["labelfix", "review", str(run)])))
    remark = _what_export_does(outlook.changed, outlook.untouched)
    folder = run if run.name not in ("", "..") else run.resolve()
    clean = folder.with_name(f"{folder.name}-clean.csv")
    steps.append(("Export", remark, shlex.join(["labelfix", "export", str(run), str(clean)])))
    if summary.flagged:
        steps.append(("List", "", shlex.join(["labelfix", "show", str(run), "--top", "20"])))
    return steps


def _what_export_does(changed: int, kept: int) -> str:
    """Return what an export would change now, and how many flagged labels it would not."""
    as_is = "as it is" if kept == 1 else "as they are"
    if changed:
        left = f", leaves {kept:,} flagged {'one' if kept == 1 else 'ones'} {as_is}" if kept else ""
        return f"changes {counted(changed, 'label')} now{left}"
    flagged = counted(kept, "flagged label")
    return f"leaves {flagged} {as_is} until somebody decides" if kept else "changes no label"


def fold(text: str, width: int, most: int) -> list[str]:
    """Return text in at most so many lines of so many columns; what is cut away ends in ``...``.

    What could command a terminal is escaped, and no figure is parted from its ``%``.
    """
    lines = [""]
    for word in plain(text).replace(" %", "\0%").split(" "):
        for part in chop_cells(word.replace("\0", " "), width) or [""]:
            joined = f"{lines[-1]} {part}" if lines[-1] else part
            if cell_len(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(part)
    if len(lines) <= most:
        return lines
    last = chop_cells(lines[most - 1], width - 4)[0]
    return [*lines[: most - 1], f"{last.rstrip(' ,;')} ..."]


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
