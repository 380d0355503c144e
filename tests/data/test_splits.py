"""``labelfix.data.splits``: which names mean a split, and what lies in several."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelfix.data.splits import is_split_name, rows_for_testing, split_key, split_names, split_role

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
