"""From rows to a page and its pictures."""

import random
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from xml.etree import ElementTree

import pytest
from benchmark_row import ROW, scored_row
from typer.main import get_command

from labelfix.benchmark.grouping import Figure, group_rows
from labelfix.benchmark.rows import append_rows
from labelfix.benchmark.tables import format_figure, write_pages
from labelfix.cli.main import app
from labelfix.errors import BenchmarkError

ROWS = [
    *(scored_row("cleanlab-logistic/self_confidence", seed, 1.5) for seed in (0, 1, 2)),
    *(scored_row("labelfix-head", seed, 2.5) for seed in (0, 1, 2)),
    scored_row("random", 0, 0.0),
    *(
        replace(ROW, method=f"labels/{name}", figures={"test_accuracy": value})
        for name, value in {"given": 0.8, "true": 0.95}.items()
    ),
    replace(scored_row("labelfix-probs", 0), task="probs/a__b", settings={"of": 500, "classes": 3}),
]


def page_of(rows: list, folder: Path) -> tuple[str, list[Path]]:
    results = folder / "rows.jsonl"
    append_rows(results, rows)
    written = write_pages([results], folder / "out" / "README.md")
    return written[0].read_text(encoding="utf-8"), written


def test_the_page_says_what_the_rows_say(tmp_path: Path) -> None:
    page, written = page_of(ROWS, tmp_path)
    assert "## flowers-symmetric-20" in page
    assert "200 samples, 3 classes" in page
    assert "A fixed random 200 samples of 500" in page
    mean = fmean(row.figures["average_precision"] for row in ROWS[3:6])
    spread = stdev(row.figures["average_precision"] for row in ROWS[3:6])
    line = next(line for line in page.splitlines() if line.startswith("| labelfix-head"))
    assert f"{mean:.4f} ± {spread:.4f}".replace("0.", ".") in line
    assert page.index("| labelfix-head") < page.index("| cleanlab-logistic/self_confidence")
    chance = next(line for line in page.splitlines() if line.startswith("| random"))
    one = ROWS[6]
    told_one = f"{one.figures['auroc']:.4f} ({one.standard_errors['auroc']:.4f})".replace("0.", ".")
    assert told_one in chance
    assert "| labels/given | .8000 |" in page
    assert "The rules of labelfix-head, its default first:" in page
    assert (
        "`labelfix benchmark run --data DATA --tasks flowers-symmetric-20 --seeds 0,1,2 --methods "
        "labelfix-head,cleanlab-logistic,random --backbone test_resnet --results rows.jsonl`"
    ) in page
    assert "--samples 200 --results rows.jsonl" in page, "of 500"
    assert "commit abc; numpy 2; Python 3.11; on cpu, 2 cores" in page
    for picture in written[1:]:
        assert f"](plots/{picture.name})" in page


def test_the_command_of_planted_errors_is_told(tmp_path: Path) -> None:
    own = {**ROWS[3].settings, "command": "inject", "kind": "symmetric", "rate": 0.2}
    page, _ = page_of([replace(ROWS[3], settings=own)], tmp_path / "own")
    assert (
        "`labelfix benchmark inject DATA --kinds symmetric --rate 0.2 --repeats 1 --methods "
        "labelfix-head --backbone test_resnet --results rows.jsonl`"
    ) in page


def test_a_page_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    first, written = page_of(ROWS, tmp_path / "one")
    shuffled = ROWS.copy()
    random.Random(0).shuffle(shuffled)
    second, rewritten = page_of(shuffled, tmp_path / "two")
    assert first == second
    assert [path.name for path in written] == [path.name for path in rewritten]
    assert [p.read_bytes() for p in written] == [p.read_bytes() for p in rewritten]


def test_pictures_show_each_method_once_and_are_well_formed(tmp_path: Path) -> None:
    odd = replace(scored_row("own/<method>", 0), settings={**ROWS[0].settings})
    other = replace(odd, method="own/other", settings={**odd.settings, "is_default_score": False})
    _, written = page_of([*ROWS, odd, other], tmp_path)
    assert len(written) == 3
    picture = ElementTree.parse(written[1]).getroot()
    drawn = [item.get("id", "") for item in picture.iter("{http://www.w3.org/2000/svg}g")]
    names = {"labelfix-head", "cleanlab-logistic/self_confidence", "random", "own/<method>"}
    for name in names:
        assert drawn.count(f"line-{name}") == 2, "precision and recall, and reliability"
        assert drawn.count(f"cost-{name}") == 1
    shown = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert all(shown.count(name.partition("/")[0]) == 1 for name in names)
    assert "own/other" not in written[1].read_text(encoding="utf-8")


def test_plots_name_the_extra_that_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BenchmarkError) as raised:
        page_of(ROWS, tmp_path)
    assert raised.value.hint == "run pip install 'labelfix[benchmark]'"


def test_the_last_row_of_a_seed_counts_and_commits_are_not_mixed() -> None:
    old = [scored_row("random", seed, commit="old") for seed in (0, 1, 2)]
    new = [scored_row("random", seed, 1.0, commit="new") for seed in (0, 0, 1)]
    [task] = group_rows([*old, *new])
    [method] = task.methods
    assert method.rows == (new[1], new[2])
    assert len(group_rows([*old, replace(old[0], samples=9)])) == 2
    assert len(group_rows([*old, replace(old[0], task_version=2)])) == 2
    seen = [ROW.settings | more for more in ({}, {"asked_image_size": 96}, {"weights": "w.st"})]
    assert [t.backbone for t in group_rows([replace(ROW, settings=s) for s in seen])] == [
        "test_resnet",
        "test_resnet at 96 px",
        "test_resnet with w.st",
    ]


@pytest.mark.parametrize(
    ("figure", "digits", "text"),
    [
        (None, 4, ""),
        (Figure(0.87472, 0.0021, 3), 4, ".8747 ± .0021"),
        (Figure(0.87472, 0.0021, 1), 4, ".8747 (.0021)"),
        (Figure(1.0, float("nan"), 1), 3, "1.000"),
        (Figure(1234.56, 0.5, 2), 1, "1,234.6 ± 0.5"),
    ],
)
def test_a_figure_is_told_with_its_spread(figure: Figure | None, digits: int, text: str) -> None:
    assert format_figure(figure, digits) == text


def test_a_file_of_rows_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="there is no file"):
        write_pages([tmp_path / "none.jsonl"], tmp_path / "README.md")
    (tmp_path / "empty.jsonl").touch()
    [page] = write_pages([tmp_path / "empty.jsonl"], tmp_path / "README.md")
    assert "Nothing has been measured yet." in page.read_text()


def test_each_task_names_the_file_that_its_rows_are_in(tmp_path: Path) -> None:
    append_rows(tmp_path / "one.jsonl", ROWS[:3])
    append_rows(tmp_path / "two.jsonl", ROWS[-1:])
    [page, *_] = write_pages([tmp_path / "one.jsonl", tmp_path / "two.jsonl"], tmp_path / "p.md")
    ends = [line for line in page.read_text().splitlines() if line.startswith("`labelfix")]
    assert [line.rpartition("--results ")[2] for line in ends] == [
        "one.jsonl`<br>",
        "two.jsonl`<br>",
    ]


def test_every_command_of_the_published_page_can_be_typed() -> None:
    page = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^`labelfix (benchmark .*)`<br>$", page, re.MULTILINE)
    assert len(commands) == page.count("\n## ") - page.count("\n## Means over ")
    for command in commands:
        group, name, *options = shlex.split(command)
        run = get_command(app).commands[group].commands[name]
        run.make_context(name, options)  # fails where an option is unknown or takes no such value


def test_means_are_over_all_tasks_of_a_family_but_ensembles(tmp_path: Path) -> None:
    sets = [
        replace(scored_row(method, 0, power), task=f"probs/{name}", settings=ROW.settings)
        for name, power in {"a": 1.0, "b": 2.0, "all__ensemble": 3.0}.items()
        for method in ("labelfix-probs", "random")
    ]
    lone = replace(scored_row("aum", 0), task="probs/a", settings=ROW.settings)
    page, _ = page_of([*ROWS, *sets, lone], tmp_path)
    part = page[page.index("## Means over a and b") :].partition("\n## ")[0]
    assert page.count("## Means over") == 1, "flowers have one task here"
    lines = [line.split(" | ") for line in part.splitlines() if line.startswith("| ")][1:]
    rows = {name[2:]: precision for name, precision, *_ in lines}
    assert set(rows) == {"labelfix-probs", "random"}, "aum did one of the two"
    mean = fmean(row.figures["average_precision"] for row in sets[:4:2])
    assert rows["labelfix-probs"] == f"{mean:.4f}"[1:]
