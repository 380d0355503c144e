"""``labelfix.data.splits``: which names mean a split, and what lies in several."""

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_report import Sample, report_of

from labelfix.data.splits import is_split_name, rows_for_testing, split_key, split_names, split_role
from labelfix.report.checks import LEAKAGE, check_report
from labelfix.report.decisions import join_decisions
from labelfix.report.html.findings import find_findings
from labelfix.report.summary import summarize
from labelfix.types import MISSING

NAMES = {
    "train": ["train", "training", "trn"],
    "validation": ["val", "valid", "validation", "dev", "devel", "development"],
    "test": ["test", "testing", "tst", "eval", "evaluation", "holdout"],
}
CASES = [str, str.upper, str.title]
AROUND = [
    "{}", "{}2017", "{}1", "01_{}", "{}_images", "{}-set", "{} set", "images.{}", "{}_data",
    "2_{}_v3",
]  # fmt: skip


@given(
    role=st.sampled_from(sorted(NAMES)),
    data=st.data(),
    case=st.sampled_from(CASES),
    around=st.sampled_from(AROUND),
)
def test_any_spelling_of_a_split_is_one(role, data, case, around):
    name = around.format(case(data.draw(st.sampled_from(NAMES[role]))))
    assert is_split_name(name)
    assert split_role(name) == role
    assert rows_for_testing(pa.array([name, None])).tolist() == [role == "test", False]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("PublicTest", "test"), ("trainval", "train"), ("train+val", "train"), ("testA", "test"),
        ("test-dev2017", "test"), ("hold-out", "test"), ("trainset", "train"),
        ("\uff54\uff45\uff53\uff54", "test"),
        ("TrainSet", "train"), ("heldout_images", "test"), (" test ", "test"),
    ],
)  # fmt: skip
def test_names_that_people_use(name, role):
    assert is_split_name(name)
    assert split_role(name) == role


@pytest.mark.parametrize(
    "name",
    ["test_tube", "trainer", "validated", "evil", "devil", "car", "contest", "latest", "medieval",
     "valley", "train_station", "attest", "2017", "set", "images", "", "_"],
)  # fmt: skip
def test_names_of_classes_are_no_splits(name):
    assert not is_split_name(name)


def test_what_stands_beside_a_split_counts_if_it_is_the_same():
    assert split_names(["imagenet_train", "imagenet_val"]) == {"imagenet_train", "imagenet_val"}
    assert split_names(["bullet_train", "steam_train", "car"]) == set()
    assert split_names(["blood_test", "urine_test"]) == set()


def test_a_name_that_the_user_gives_is_a_test_split():
    split = pa.array(["Prüfung", "train", None, "prüfung "])
    assert rows_for_testing(split, ["PRÜFUNG"]).tolist() == [True, False, False, True]


@given(names=st.lists(st.none() | st.text(max_size=8), max_size=8))
def test_any_name_has_a_key(names):
    assert len(rows_for_testing(pa.array(names, pa.string()))) == len(names)
    assert all(
        split_key(name) == split_key(name.strip()) for name in names if name and name.strip()
    )


SPLITS = st.sampled_from([None, "train", "Train", "training", "test", "TEST", "val", "a", "A", "b"])
SAME = {"Train": "train", "training": "train", "TEST": "test", "A": "a"}


def leaks_of(splits, *, near):
    """Return how many samples leak by ``show``, by ``check`` and by the page, and the reasons.

    Args:
        splits: The splits of the samples of each set of copies.
        near: Whether they are near-copies, or exact ones.
    """
    rows = [(split, number) for number, inside in enumerate(splits) for split in inside]
    samples = [
        Sample(f"{row}.png", split=split, duplicate_set=MISSING if near else number)
        for row, (split, number) in enumerate(rows)
    ]
    report = report_of(samples)
    table = report.table
    if near:
        found = {
            "near_duplicate_set": pa.array([number for _, number in rows], pa.int64()),
            "near_duplicate_score": pa.array([0.0] * len(rows), pa.float32()),
        }
        for name, column in found.items():
            table = table.set_column(table.column_names.index(name), name, column)
    run = replace(report.run, settings={**report.run.settings, "issues": {}})
    report = replace(report, table=table, run=run)
    check = check_report(report, join_decisions(report, {}), fail_on=[LEAKAGE]).checks[0]
    page = [finding.samples for finding in find_findings(report) if "leaks" in finding.key]
    return summarize(report).leaks, len(check.sample_ids), sum(page)


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize(
    ("splits", "leaks"),
    [
        ([None, "train"], 2), (["Train", "train"], 0), (["train", "test"], 2),
        (["train", "train"], 0), ([None, None], 0), (["train", "train", "val"], 3),
    ],
)  # fmt: skip
def test_show_check_and_the_page_say_the_same_of_leakage(splits, leaks, near):
    assert leaks_of([splits], near=near) == (leaks, leaks, leaks)


@settings(max_examples=30)
@given(splits=st.lists(st.lists(SPLITS, min_size=2, max_size=4), min_size=1, max_size=4))
def test_a_set_leaks_if_its_splits_differ(splits):
    wanted = sum(
        len(inside) for inside in splits if len({SAME.get(split, split) for split in inside}) > 1
    )
    assert leaks_of(splits, near=True) == (wanted, wanted, wanted)
