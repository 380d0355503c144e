"""Files of probabilities: every form gives the same, and what is wrong with one is said."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from given_probs import FORMS, Probs, noisy, table_of, write
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.data.probabilities import fingerprint_of, open_pred_probs
from labelfix.data.probability_tables import read_parquet_table, read_text_table
from labelfix.errors import DatasetError, RunError
from labelfix.types import MISSING
from labelfix.utils.progress import no_progress


def opened(*paths: Path):
    return open_pred_probs(paths, paths[0].parent, no_progress, force=True)


def fault_of(*paths: Path) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        opened(*paths)
    assert caught.value.hint
    return caught.value


def labels_of(found):
    return [None if code == MISSING else found.class_names[code] for code in found.given_label]


def values_of(found):
    return found.pred_probs.read(slice(0, len(found)))


# What is read is what was written


_NAME = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=5)
_NAMES = st.one_of(
    st.lists(_NAME.filter(str.strip), min_size=2, max_size=5, unique=True).filter(
        lambda names: not all(name.lstrip("-").isdigit() for name in names)
    ),
    st.lists(st.integers(-5, 10**15), min_size=2, max_size=5, unique=True),
)


@st.composite
def any_probs(draw: st.DrawFn) -> Probs:
    classes = draw(_NAMES)
    count = draw(st.integers(1, 40))
    ids = draw(st.lists(_NAME.filter(str.strip), min_size=count, max_size=count, unique=True))
    label = st.sampled_from([None, *classes])
    labels = [classes[0], *draw(st.lists(label, min_size=count - 1, max_size=count - 1))]
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    values = rng.dirichlet(np.full(len(classes), 0.3), count).astype(np.float32)
    return Probs(ids, labels, classes, values)


@pytest.mark.parametrize("form", FORMS)
@given(probs=any_probs())
@settings(max_examples=30, deadline=None)
def test_every_form_comes_back_as_it_was(tmp_path_factory, form, probs):
    found = opened(write(tmp_path_factory.mktemp("given") / f"p.{form}", probs))
    order = sorted(range(len(probs.classes)), key=lambda code: probs.classes[code])
    assert found.class_names == tuple(sorted(probs.classes))
    assert labels_of(found) == list(probs.labels)
    np.testing.assert_array_equal(values_of(found), probs.values[:, order])
    ids = list(probs.ids) if form != "npz" else [str(row) for row in range(len(probs.ids))]
    assert found.sample_id.to_pylist() == ids
    unlabeled = [row for row, label in enumerate(probs.labels) if label is None]
    assert found.exclusion_reason == dict.fromkeys(unlabeled, "not scored: it has no label")


@given(size=st.integers(1, 5000), group=st.integers(1, 400))
@settings(max_examples=15, deadline=None)
def test_what_is_read_does_not_depend_on_how_much_at_once(tmp_path_factory, size, group):
    folder = tmp_path_factory.mktemp("given")
    probs = noisy(count=350)
    text, parquet = (
        write(folder / "p.csv", probs),
        write(folder / "p.parquet", probs, row_group=group),
    )
    for raw in (
        read_text_table(text, folder, no_progress, block=size),
        read_parquet_table(parquet, folder, no_progress, batch=size),
    ):
        assert raw.sample_id.to_pylist() == list(probs.ids)
        assert raw.label.to_pylist() == list(probs.labels)
        np.testing.assert_array_equal(raw.store.read(slice(0, 350)), probs.values)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", None), ("utf-8-sig", None), ("utf-16", None),
        ("cp1252", "WINDOWS-1252"), ("latin-1", "WINDOWS-1252"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("classes", [("K\u00e4fer", "Hund"), ("cat", "dog")])
def test_a_table_is_read_in_the_encoding_it_was_saved_in(tmp_path, encoding, said, classes):
    path = tmp_path / "p.csv"
    rows = "".join(f"caf\u00e9-{row}.png,{classes[row % 2]},0.25,0.75\n" for row in range(9))
    header = f"sample_id,given_label,prob:{classes[0]},prob:{classes[1]}\n"
    path.write_text(header + rows, encoding=encoding)
    found = opened(path)
    assert set(found.class_names) == set(classes)
    assert labels_of(found) == [classes[row % 2] for row in range(9)]
    assert found.sample_id.to_pylist() == [f"caf\u00e9-{row}.png" for row in range(9)]
    files = [one.text for one in found.assumptions if one.topic == "files"]
    assert len(files) == (said is not None)
    assert all(f"{path} is not UTF-8 and was read as {said}" in text for text in files)


@pytest.mark.parametrize("kind", ["float16", "float64", ">f4", "longdouble"])
def test_floats_of_every_size(tmp_path, kind):
    probs = noisy(count=50)
    np.savez(
        tmp_path / "p.npz", pred_probs=probs.values.astype(kind), labels=np.zeros(50, np.uint8)
    )
    found = opened(tmp_path / "p.npz")
    assert found.class_names == (0, 1, 2)
    np.testing.assert_allclose(values_of(found), probs.values, atol=1e-3)
    assert values_of(found).dtype == np.float32


@pytest.mark.parametrize("kind", [pa.float16(), pa.float64(), pa.decimal128(12, 9)])
def test_parquet_columns_of_other_floats(tmp_path, kind):
    table = table_of(noisy(count=50))
    cast = [
        pa.array(column.to_numpy().astype(np.float16))
        if kind == pa.float16()
        else column.cast(kind)
        for column in table.columns[2:]
    ]
    pq.write_table(
        pa.table([*table.columns[:2], *cast], names=table.column_names), tmp_path / "p.parquet"
    )
    if kind == pa.decimal128(12, 9):
        assert "'prob:cat'" in str(fault_of(tmp_path / "p.parquet"))
    else:
        np.testing.assert_allclose(
            values_of(opened(tmp_path / "p.parquet")), noisy(count=50).values, atol=1e-3
        )


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_that_is_cut_while_it_is_read_is_told(tmp_path, order):
    probs = noisy(count=2000)
    labels = probs.values.argmax(axis=1).astype(np.uint8)
    np.savez(tmp_path / "p.npz", pred_probs=np.array(probs.values, order=order), labels=labels)
    store = opened(tmp_path / "p.npz").pred_probs
    os.truncate(tmp_path / "p.npz", 100)  # a map of it would end the process
    with pytest.raises(DatasetError, match="was cut short while it was read"):
        store.read(slice(0, 2000))


def test_arrays_compressed_or_by_column_are_the_same(tmp_path):
    probs = noisy()
    labels = np.array([probs.classes.index(label) for label in probs.labels])
    for name, save, values in (
        ("plain", np.savez, probs.values),
        ("by_column", np.savez, np.asfortranarray(probs.values)),
        ("packed", np.savez_compressed, probs.values),
        ("packed_by_column", np.savez_compressed, np.asfortranarray(probs.values)),
    ):
        save(
            tmp_path / f"{name}.npz", pred_probs=values, labels=labels, class_names=["a", "b", "c"]
        )
        np.testing.assert_array_equal(values_of(opened(tmp_path / f"{name}.npz")), probs.values)
    names = np.array(["a", "b", "c"])
    np.savez(
        tmp_path / "text.npz", pred_probs=probs.values, labels=names[labels], class_names=names
    )
    np.testing.assert_array_equal(opened(tmp_path / "text.npz").given_label, labels)


def test_labels_of_pandas_with_holes(tmp_path):
    (tmp_path / "p.csv").write_text(
        "sample_id,given_label,prob:10,prob:9\na,10.0,0.75,0.25\nb,,0.5,0.5\nc,9.0,0,1\n"
    )
    found = opened(tmp_path / "p.csv")
    assert found.class_names == (9, 10)
    assert labels_of(found) == [10, None, 9]
    assert values_of(found)[0].tolist() == [0.25, 0.75]


def test_nothing_put_aside_is_left(tmp_path):
    write(tmp_path / "p.csv", noisy())
    found = opened(tmp_path / "p.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    assert len(found) == 300


# Rows that are bad, and files that are


@pytest.mark.parametrize("form", FORMS)
def test_a_bad_row_says_why_and_stops_nothing(tmp_path, form):
    probs = noisy(count=200)
    values = probs.values.copy()
    values[3] *= 1.2
    values[4, 1] = np.nan
    values[5, 2] = np.inf
    values[6] = [1.2, -0.2, 0]
    values[7] *= 1.0005
    found = opened(write(tmp_path / f"p.{form}", probs.but(values=values)))
    assert found.exclusion_reason == {
        3: "not scored: its probabilities sum to 1.2, not 1",
        4: "not scored: the probability of 'dog' is nan",
        5: "not scored: the probability of 'hen' is inf",
        6: "not scored: the probability of 'dog' is -0.2",
    }


def test_an_unknown_label_is_a_row_that_is_not_scored(tmp_path):
    probs = noisy(count=100)
    labels = ["zebra", *probs.labels[1:]]
    found = opened(write(tmp_path / "p.csv", probs.but(labels=labels)))
    assert found.exclusion_reason == {0: "not scored: its label 'zebra' is none of the 3 classes"}
    assert found.given_label[0] == MISSING
    codes = np.array([7, *np.zeros(99, int)])
    np.savez(tmp_path / "p.npz", pred_probs=probs.values, labels=codes)
    assert opened(tmp_path / "p.npz").exclusion_reason == {
        0: "not scored: its label 'position 7' is none of the 3 classes"
    }


def test_logits_are_told(tmp_path):
    probs = noisy(count=100)
    fault = fault_of(write(tmp_path / "p.parquet", probs.but(values=np.log(probs.values))))
    assert "100 of 100 rows" in str(fault)
    assert "row 1" in str(fault)
    assert "softmax" in fault.hint


def test_one_bad_row_of_few_stops_nothing_and_more_than_a_twentieth_do(tmp_path):
    few = noisy(count=4)
    few.values[0] = 1
    assert list(opened(write(tmp_path / "few.csv", few)).exclusion_reason) == [0]
    many = noisy(count=100)
    many.values[:5] = 1
    assert list(opened(write(tmp_path / "many.csv", many)).exclusion_reason) == [0, 1, 2, 3, 4]
    many.values[50] = 1
    assert "6 of 100 rows" in str(fault_of(write(tmp_path / "many.csv", many)))


def test_labels_spelt_otherwise_are_told(tmp_path):
    probs = noisy()
    capital = [label.upper() for label in probs.labels]
    fault = fault_of(write(tmp_path / "p.csv", probs.but(labels=capital)))
    assert "300 of 300 given labels" in str(fault)
    assert "cat, dog, hen" in fault.hint
    fault = fault_of(write(tmp_path / "p.csv", probs.but(labels=[None] * 300)))
    assert "no row" in str(fault)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("sample_id,given_label,prob:a,prob:b\n", "no rows"),
        ("sample_id,prob:a,prob:b\nx,1,0\n", "no column given_label"),
        ("given_label,prob:a,prob:b\na,1,0\n", "no column sample_id"),
        ("sample_id,given_label,a,b\nx,a,1,0\n", "no column prob:<class>"),
        ("sample_id,given_label,prob:a\nx,a,1\n", "only one class, 'a'"),
        ("sample_id,given_label,prob:a,prob:a\nx,a,1,0\n", "2 columns called 'prob:a'"),
        ("sample_id,given_label,prob:a,prob: \nx,a,1,0\n", "no name"),
        ("sample_id,given_label,prob:a,prob:b\nx,a,1,0\nx,b,1,0\n", "more than one sample: 'x'"),
        ("sample_id,given_label,prob:a,prob:b\nx,a,1,0\n,b,1,0\n", "row 2"),
        ("sample_id,given_label,prob:a,prob:b\nx,a,1,0\ny,b,much,0\n", "'prob:a': line 3"),
        ("sample_id,given_label,prob:a,prob:b\nx,a,1,0\ny,b,1\n", "line 3: Expected 4 columns"),
    ],
)
def test_text_that_cannot_be_used(tmp_path, text, told):
    (tmp_path / "p.csv").write_text(text)
    assert told in str(fault_of(tmp_path / "p.csv"))


def test_parquet_that_cannot_be_used(tmp_path):
    path = write(tmp_path / "p.parquet", noisy())
    whole = path.read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:cut])
        assert "p.parquet as Parquet" in str(fault_of(path))
    path.write_bytes(whole[:100] + bytes(200) + whole[300:])  # a page in the middle
    assert "p.parquet" in str(fault_of(path))
    pq.write_table(table_of(noisy()).drop_columns(["sample_id"]), path)
    assert "no column sample_id" in str(fault_of(path))


def test_arrays_that_cannot_be_used(tmp_path):
    path = tmp_path / "p.npz"
    probs, labels = noisy(count=20).values, np.zeros(20, int)

    def told(**arrays):
        np.savez(path, **arrays)
        return str(fault_of(path))

    assert "no pred_probs and no labels; it holds: x" in told(x=labels)
    assert "no labels" in told(pred_probs=probs)
    assert "shape (20,)" in told(pred_probs=probs[:, 0], labels=labels)
    assert "shape (2, 20, 3)" in told(pred_probs=np.stack([probs, probs]), labels=labels)
    assert "type int64" in told(pred_probs=labels[:, None], labels=labels)
    assert "type object" in told(pred_probs=np.array([[None]]), labels=labels)
    assert "Object arrays" in told(pred_probs=probs, labels=np.array([None] * 20))
    assert "19 values" in told(pred_probs=probs, labels=labels[:19])
    assert "float64" in told(pred_probs=probs, labels=labels.astype(float))
    assert "2 values" in told(pred_probs=probs, labels=labels, class_names=["a", "b"])
    assert "the same one" in told(pred_probs=probs, labels=labels, class_names=["a", "b", "a"])
    assert "no rows" in told(pred_probs=probs[:0], labels=labels[:0])
    assert "only one class" in told(pred_probs=probs[:, :1], labels=labels)


def test_archives_that_are_none(tmp_path):
    path = write(tmp_path / "p.npz", noisy())
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2], whole[:-10]):
        path.write_bytes(content)
        assert "p.npz as .npz" in str(fault_of(path))
    with zipfile.ZipFile(path, "w") as archive:  # an array shorter than it says
        for name in ("labels", "pred_probs"):
            with zipfile.ZipFile(write(tmp_path / "q.npz", noisy())) as good:
                data = good.read(f"{name}.npy")
            archive.writestr(f"{name}.npy", data[:-4] if name == "pred_probs" else data)
    assert "cut short" in str(fault_of(path))
    np.save(tmp_path / "p.npy", noisy().values)
    assert "cannot tell from its name" in str(fault_of(tmp_path / "p.npy"))


def test_a_place_that_cannot_be_written_to_is_told(tmp_path):
    path = write(tmp_path / "p.csv", noisy())
    with pytest.raises(RunError, match="cannot write"):
        open_pred_probs([path], tmp_path / "nowhere", no_progress)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        fingerprint_of([tmp_path / "p.csv"])
    with pytest.raises(DatasetError, match="is a folder"):
        fingerprint_of([tmp_path])


# Ensembles


@pytest.mark.parametrize("form", FORMS)
def test_a_file_with_itself_is_the_file(tmp_path, form):
    path = write(tmp_path / f"p.{form}", noisy())
    one, three = opened(path), opened(path, path, path)
    np.testing.assert_array_equal(values_of(three), values_of(one))
    assert three.sample_id.equals(one.sample_id)
    np.testing.assert_array_equal(three.given_label, one.given_label)


def test_samples_and_classes_are_matched_by_name(tmp_path):
    first, second = noisy(0), noisy(1)
    second = second.but(labels=first.labels)
    rows, classes = np.random.default_rng(0).permutation(300), [2, 0, 1]
    moved = Probs(
        [second.ids[row] for row in rows],
        [second.labels[row] for row in rows],
        [second.classes[code] for code in classes],
        second.values[np.ix_(rows, classes)],
    )
    moved.values[11] = 5
    found = opened(write(tmp_path / "a.csv", first), write(tmp_path / "b.parquet", moved))
    good = np.flatnonzero(np.arange(300) != rows[11])
    mean = ((first.values.astype(float) + second.values) / 2).astype(np.float32)
    np.testing.assert_array_equal(values_of(found)[good], mean[good])
    np.testing.assert_array_equal(found.pred_probs.read(good[::-3]), mean[good[::-3]])
    assert found.exclusion_reason == {
        rows[11]: "not scored: its probabilities sum to 15, not 1, in b.parquet"
    }


def test_files_that_spoil_all_rows_together_are_refused(tmp_path):
    first, second = noisy(count=2), noisy(count=2)
    first.values[0], second.values[1] = 1, 1
    files = write(tmp_path / "a.csv", first), write(tmp_path / "b.csv", second)
    assert "no row" in str(fault_of(*files))


def test_files_that_do_not_fit_each_other(tmp_path):
    probs = noisy()
    first = write(tmp_path / "a.csv", probs)

    def told(other: Probs, name: str = "b.csv") -> str:
        return str(fault_of(first, write(tmp_path / name, other)))

    assert "other classes than the first file: fox, hen" in told(
        probs.but(
            classes=["cat", "dog", "fox"],
            labels=["fox" if label == "hen" else label for label in probs.labels],
        )
    )
    assert "no sample '00299.png'" in told(probs.but(ids=[*probs.ids[:-1], "new.png"]))
    short = Probs(probs.ids[:9], probs.labels[:9], probs.classes, probs.values[:9])
    assert "has 9 samples, the first file has 300" in told(short)
    other = "cat" if probs.labels[0] != "cat" else "dog"
    assert "sample '00000.png' another label" in told(probs.but(labels=[other, *probs.labels[1:]]))
    assert "by row" in told(probs, "b.npz")


def test_a_csv_of_pandas_is_read(tmp_path):
    frame = table_of(noisy()).to_pandas()
    frame.to_csv(tmp_path / "p.csv", index=False)
    assert values_of(opened(tmp_path / "p.csv")).shape == (300, 3)
    pacsv.write_csv(pa.table({"x": [1]}), tmp_path / "q.csv")
    assert "its columns are: x" in str(fault_of(tmp_path / "q.csv"))


# Rounded numbers, and what is no probability


def half(values, bits):
    """Return float32 rounded to so many bits of mantissa, as bfloat16 has 8."""
    raw = np.asarray(values, np.float32).view(np.uint32) + (1 << (23 - bits))
    return (raw & ~np.uint32((1 << (24 - bits)) - 1)).view(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_half_precision_is_divided_by_its_sum(tmp_path, form):
    probs = noisy(count=1000)
    flat = probs.but(values=half(np.sqrt(probs.values) / np.sqrt(probs.values).sum(1)[:, None], 8))
    total = flat.values.sum(axis=1)
    off = np.abs(total.astype(float) - 1) > 1e-3
    assert off.mean() > 0.2
    found = opened(write(tmp_path / f"p.{form}", flat))
    assert found.exclusion_reason == {}
    np.testing.assert_allclose(values_of(found).sum(axis=1)[off], 1, atol=1e-5)
    np.testing.assert_array_equal(values_of(found)[~off], flat.values[~off])
    (said,) = found.assumptions
    assert said.topic == "probabilities"
    assert f"{off.sum():,} of 1,000 rows" in said.text


@given(
    decimals=st.integers(1, 3),
    classes=st.integers(2, 100),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["float16", "float32", "float64"]),
)
@settings(max_examples=25, deadline=None)
def test_rounded_probabilities_are_divided_by_their_sum(
    tmp_path_factory, decimals, classes, seed, kind
):
    rng = np.random.default_rng(seed)
    exact = rng.dirichlet(np.full(classes, 0.05), 200) * 0.3
    exact[np.arange(200), np.arange(200) % classes] += 0.7
    labels = np.arange(200) % classes
    path = tmp_path_factory.mktemp("given") / "p.npz"
    np.savez(path, pred_probs=exact.round(decimals).astype(kind), labels=labels)
    found = opened(path)
    assert len(found.exclusion_reason) <= 2
    good = [row for row in range(200) if row not in found.exclusion_reason]
    np.testing.assert_allclose(values_of(found)[good].sum(axis=1), 1, atol=2e-3)


@pytest.mark.parametrize(
    ("change", "look", "remedy"),
    [
        (lambda p: np.log(p * 50 + 0.1), "look like logits", "softmax"),
        (
            lambda p: np.log(p) - np.log(p).mean(axis=1, keepdims=True),
            "look like logits",
            "softmax",
        ),
        (np.log, "log-probabilities", "numpy.exp"),
        (lambda p: p * 100, "per cents", "by 100"),
        (lambda p: (p * 100).round(), "per cents", "by 100"),
        (lambda p: p * 255, "their sum is 255", "by 255"),
        (lambda p: 1 / (1 + np.exp(-5 * p)), "one class at a time (sigmoid)", "softmax"),
        (lambda p: p * 2 - 1, "between -1 and 1", "softmax"),
        (lambda p: (p * 7).round() + np.arange(len(p))[:, None] % 4, "counts or votes", "votes"),
        (lambda p: p * np.nan, "not finite", "take such rows out"),
    ],
)
def test_what_is_no_probability_is_named(tmp_path, change, look, remedy):
    probs = noisy(count=200)
    values = change(probs.values.astype(np.float64)).astype(np.float32)
    for form in ("npz", "csv"):
        fault = fault_of(write(tmp_path / f"p.{form}", probs.but(values=values)))
        assert look in str(fault)
        assert remedy in fault.hint
        assert "row 1 is not scored" in str(fault)


def test_predicted_classes_are_named_and_taken(tmp_path):
    probs = noisy(count=200)
    found = opened(write(tmp_path / "p.csv", probs.but(values=np.eye(3)[probs.values.argmax(1)])))
    assert found.exclusion_reason == {}
    (said,) = found.assumptions
    assert "predicted classes, not probabilities" in said.text


# Classes that are called like nothing


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "name", ["nan", "NaN", "NA", "N/A", "null", "None", "<NA>", "true", "1.0", "-1", "inf", "nil"]
)
def test_a_class_may_be_called_like_a_missing_value(tmp_path, form, name):
    probs = noisy(count=90, classes=(name, "dog", "hen"))
    labels = [None, *probs.labels[1:]]
    found = opened(write(tmp_path / f"p.{form}", probs.but(labels=labels)))
    assert name in found.class_names
    assert labels_of(found) == labels
    assert found.exclusion_reason == {0: "not scored: it has no label"}


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "null", "None", "<NA>", "N/A"])
@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_a_missing_value_is_no_label_where_no_class_is_called_so(tmp_path, form, word):
    probs = noisy(count=60)
    labels = [*probs.labels[:30], *[word] * 30]
    found = opened(write(tmp_path / f"p.{form}", probs.but(labels=labels)))
    assert labels_of(found) == [*probs.labels[:30], *[None] * 30]
    assert set(found.exclusion_reason.values()) == {"not scored: it has no label"}


def test_text_of_pandas_with_a_class_called_nan(tmp_path):
    (tmp_path / "p.csv").write_text(
        "sample_id,given_label,prob:nan,prob:dog\na,nan,0.75,0.25\nb,,0.5,0.5\nnan,dog,0,1\n"
    )
    found = opened(tmp_path / "p.csv")
    assert labels_of(found) == ["nan", None, "dog"]
    assert found.sample_id.to_pylist() == ["a", "b", "nan"]
    (tmp_path / "p.csv").write_text("sample_id,given_label,prob:a,prob:b\nx,a,nan,0.5\ny,b,,1\n")
    assert "nan" in str(fault_of(tmp_path / "p.csv"))


def test_numbers_and_truth_values_match_however_they_are_written(tmp_path):
    values = [pa.array(np.tile([0.8, 0.2], 5)), pa.array(np.tile([0.2, 0.8], 5))]
    ids = pa.array([str(row) for row in range(10)])

    def labels(column, *names):
        path = tmp_path / "p.parquet"
        table = dict(zip(["sample_id", "given_label", *names], [ids, column, *values], strict=True))
        pq.write_table(pa.table(table), path)
        return labels_of(opened(path))

    assert labels(pa.array([1.0, 2.0] * 5), "prob:1.0", "prob:2.0") == ["1.0", "2.0"] * 5
    assert labels(pa.array([1, 2] * 5), "prob:1.0", "prob:2.0") == ["1.0", "2.0"] * 5
    assert labels(pa.array(["1.0", "2.0"] * 5), "prob:1", "prob:2") == ["1", "2"] * 5
    assert labels(pa.array([True, False] * 5), "prob:true", "prob:false") == ["true", "false"] * 5
    assert labels(pa.array(["01", "1"] * 5), "prob:1", "prob:01") == ["01", "1"] * 5
