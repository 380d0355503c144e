"""Tables that list the likeliest classes of each sample: what is read, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from given_probs import noisy, softer, write, write_lists
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.data.probabilities import GivenPredProbs, open_pred_probs
from labelfix.data.probability_tables import read_parquet_table
from labelfix.errors import DatasetError
from labelfix.types import CLASSES_KEY, MISSING
from labelfix.utils.progress import no_progress

CLASSES = ("cat", "dog", "hen", "yak", "zebu")


def opened(*paths: Path) -> GivenPredProbs:
    return open_pred_probs(paths, paths[0].parent, no_progress, force=True)


def values_of(found: GivenPredProbs) -> np.ndarray:
    return found.pred_probs.read(slice(0, len(found)))


def write_table(path: Path, names=None, **columns) -> Path:
    """Write a table; ``names`` go into its metadata."""
    table = pa.table(columns)
    if names is not None:
        table = table.replace_schema_metadata({CLASSES_KEY: json.dumps(names)})
    pq.write_table(table, path)
    return path


@st.composite
def rows_of_lists(draw: st.DrawFn) -> tuple[int, list[dict[int, float]]]:
    """Draw K, and for each row which classes it lists with what."""
    classes = draw(st.integers(2, 9))
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        some = draw(st.lists(st.integers(0, classes - 1), min_size=1, unique=True))
        parts = draw(st.lists(st.integers(1, 9), min_size=len(some), max_size=len(some)))
        whole = sum(parts) + draw(st.integers(0, 5)) * (len(some) < classes)
        rows.append({code: part / whole for code, part in zip(some, parts, strict=True)})
    return classes, rows


@given(rows_of_lists(), st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_rows_are_what_a_naive_loop_makes_of_them(tmp_path_factory, drawn, batch, random):
    classes, rows = drawn
    path = tmp_path_factory.mktemp("lists") / "p.parquet"
    names = [f"c{code}" for code in range(classes)]
    random.shuffle(names)
    write_table(
        path,
        names,
        sample_id=[f"{row}" for row in range(len(rows))],
        given_label=[names[0]] * len(rows),
        top_classes=[[*row] for row in rows],
        top_probs=pa.array([[*row.values()] for row in rows], pa.list_(pa.float32())),
    )
    expected = []
    for row in rows:
        left = max(1 - sum(row.values()), 0) / max(classes - len(row), 1)
        expected.append([row.get(code, left) for code in range(classes)])
    raw = read_parquet_table(path, path.parent, no_progress, batch=batch)
    assert raw.class_names == tuple(names)
    np.testing.assert_allclose(raw.store.read(slice(0, len(rows))), expected, atol=1e-6)
    order = sorted(range(classes), key=names.__getitem__)
    found = opened(path)
    assert found.class_names == tuple(sorted(names))
    np.testing.assert_allclose(values_of(found), np.array(expected)[:, order], atol=1e-6)
    some = np.array(random.choices(range(len(rows)), k=5))
    np.testing.assert_array_equal(found.pred_probs.read(some), values_of(found)[some])
    assert found.listed_classes == max(map(len, rows))


def test_lists_of_all_classes_are_what_columns_are(tmp_path):
    probs = noisy(classes=CLASSES)
    whole = opened(write(tmp_path / "p.parquet", probs))
    listed = opened(write_lists(tmp_path / "l.parquet", probs, len(CLASSES)))
    np.testing.assert_array_equal(values_of(listed), values_of(whole))
    assert listed.given_label.tolist() == whole.given_label.tolist()
    assert listed.sample_id.equals(whole.sample_id)
    assert listed.assumptions == whole.assumptions


ROW = {"sample_id": ["a", "b"], "given_label": ["cat", "dog"]}
PROBS = pa.array([[0.75, 0.25], [0.5, 0.125]], pa.list_(pa.float32()))
BY_NAME = [["cat", "dog"], ["hen", "cat"]]
BY_PLACE = [[0, 1], [2, 0]]


@pytest.mark.parametrize(
    ("classes", "probs", "names"),
    [
        (BY_NAME, PROBS, None),
        (pa.array(BY_NAME, pa.large_list(pa.large_string())), PROBS, None),
        (pa.array(BY_NAME, pa.list_(pa.string(), 2)), PROBS, CLASSES[:3]),
        (pa.array(BY_NAME).cast(pa.list_(pa.dictionary(pa.int8(), pa.string()))), PROBS, None),
        (BY_PLACE, PROBS, CLASSES[:3]),
        (pa.array(BY_PLACE, pa.list_(pa.uint8())), PROBS, CLASSES[:3]),
        (BY_NAME, PROBS.cast(pa.list_(pa.float64(), 2)), None),
        (BY_NAME, pa.array(PROBS.to_pylist(), pa.list_(pa.float16())), None),
    ],
)
def test_lists_of_every_kind_are_read(tmp_path, classes, probs, names):
    found = opened(
        write_table(tmp_path / "p.parquet", names, **ROW, top_classes=classes, top_probs=probs)
    )
    assert found.class_names == CLASSES[:3]
    assert values_of(found).tolist() == [[0.75, 0.25, 0], [0.125, 0.375, 0.5]]
    texts = [one.text for one in found.assumptions]
    assert "p.parquet lists 2 of 3 classes for each sample at most" in texts[0]
    assert "spread evenly" in texts[0]


@pytest.mark.parametrize("names", [None, [2, 5, 9]])
def test_classes_may_be_numbers(tmp_path, names):
    path = write_table(
        tmp_path / "p.parquet",
        names,
        sample_id=[0, 1],
        given_label=[2, 5],
        top_classes=BY_PLACE if names else [[2, 5], [9, 2]],
        top_probs=PROBS,
    )
    found = opened(path)
    assert found.class_names == (2, 5, 9)
    assert found.given_label.tolist() == [0, 1]
    assert values_of(found).tolist() == [[0.75, 0.25, 0], [0.125, 0.375, 0.5]]


def test_a_row_without_lists_is_not_scored_and_speaks_against_no_other(tmp_path):
    path = write_table(
        tmp_path / "p.parquet",
        sample_id=[*"abcde"],
        given_label=["cat", "dog", "cat", "cat", None],
        top_classes=[["cat", "dog"], ["dog", "cat"], None, None, None],
        top_probs=pa.array([[0.75, 0.25]] * 2 + [None] * 3, pa.list_(pa.float32())),
    )
    found = opened(path)
    assert found.is_scored.tolist() == [True, True, False, False, False]
    assert found.exclusion_reason[2] == "not scored: it has no probabilities"
    assert found.given_label.tolist()[-1] == MISSING


def test_rows_that_hold_no_probabilities_are_told_as_those_of_columns_are(tmp_path):
    size = 40
    lists = [[0.75, 0.25] for _ in range(size)]
    lists[3] = [0.75, float("nan")]
    columns = {
        "sample_id": [f"{row}" for row in range(size)],
        "given_label": ["cat", "dog"] * (size // 2),
        "top_classes": [["cat", "dog"]] * (size - 1) + [["hen", "dog"]],
    }
    kind = pa.list_(pa.float32())
    path = tmp_path / "p.parquet"
    write_table(path, **columns, top_probs=pa.array(lists, kind))
    assert opened(path).exclusion_reason == {3: "not scored: the probability of 'dog' is nan"}
    lists[3] = [0.75, 0.26]  # rounding
    write_table(path, **columns, top_probs=pa.array(lists, kind))
    assert values_of(opened(path))[3].sum() == pytest.approx(1)
    write_table(path, **columns, top_probs=pa.array([[8.5, -2.0]] * size, kind))
    with pytest.raises(DatasetError, match="they look like logits; row 1 "):
        opened(path)


def test_models_of_lists_are_averaged(tmp_path):
    first = noisy(classes=CLASSES)
    second = softer(first)
    files = [
        write_lists(tmp_path / "a.parquet", first, 2),
        write_lists(tmp_path / "b.parquet", second, 3),
    ]
    found, alone = opened(*files), [values_of(opened(file)) for file in files]
    np.testing.assert_allclose(values_of(found), np.mean(alone, axis=0), atol=1e-7)
    assert found.listed_classes == 5
    whole = write(tmp_path / "c.parquet", second)
    assert opened(files[0], whole).listed_classes == 0


@pytest.mark.parametrize(
    ("changes", "names", "told"),
    [
        ({"top_classes": [["cat", "dog"], ["hen"]]}, None, "row 2 of .* lists .'hen'. in top_cl"),
        ({"top_classes": [["cat", "dog"], None]}, None, "row 2 of .* lists None in top_classes"),
        ({"top_classes": [["cat", "dog"], ["hen", None]]}, None, "row 2 .* without a name"),
        ({"top_classes": [["cat", "cat"], ["hen", "cat"]]}, None, "row 1 .*'cat' twice"),
        ({"top_classes": [[0, 1], [3, 0]]}, CLASSES[:3], r"row 2 .* the class 3, .* none of the 3"),
        ({"top_classes": [[0, 1], [-1, 0]]}, CLASSES[:3], "row 2 .* the class -1"),
        ({"top_classes": BY_NAME}, CLASSES[:2], "row 2 of .* .b. lists the class 'hen'"),
        ({"top_classes": BY_PLACE}, None, "no class names say which is which"),
        ({"top_classes": ["cat", "dog"]}, None, "column 'top_classes' .* is of type string"),
        ({"top_classes": [[0.5], [1.5]]}, None, "column 'top_classes' .* is of type list"),
        ({"top_probs": [["a"], ["b"]]}, None, "column 'top_probs' .* is of type list"),
        ({"top_classes": [None, None], "top_probs": [None, None]}, None, "is of type null"),
        ({"top_classes": BY_NAME}, ["cat", "cat"], "hold no class names"),
        ({"top_classes": [["cat"], ["cat"]], "top_probs": [[1.0], [1.0]]}, None, "one class"),
        ({"sample_id": ["a", None]}, None, "row 2 of .* has no sample_id"),
        ({"sample_id": ["a", "a"]}, None, "'a'"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, changes, names, told):
    columns = {**ROW, "top_classes": BY_NAME, "top_probs": PROBS, **changes}
    path = write_table(tmp_path / "p.parquet", names, **columns)
    with pytest.raises(DatasetError, match=told) as caught:
        opened(path)
    assert caught.value.hint


def test_empty_lists_and_other_columns_are_refused(tmp_path):
    kinds = {"top_classes": pa.list_(pa.string()), "top_probs": pa.list_(pa.float32())}
    empty = {name: pa.array([[], []], kind) for name, kind in kinds.items()}
    with pytest.raises(DatasetError, match=r"no row of .* lists a class"):
        opened(write_table(tmp_path / "p.parquet", **ROW, **empty))
    with pytest.raises(DatasetError, match=r"no columns called .given_label.") as caught:
        opened(
            write_table(
                tmp_path / "p.parquet", sample_id=["a"], top_classes=[["cat"]], top_probs=[[1.0]]
            )
        )
    assert "top_classes" in str(caught.value.hint)
