"""Embeddings in: flags as in the audit of images they come from, what is shown, bad input.

Letters: N samples, D features.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from command import labelfix

from labelfix.config import AuditConfig, BackboneConfig, DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import ConfigError, DatasetError
from labelfix.pipeline.samples import audit
from labelfix.report.frame import read_report


def small(seed=0, count=60, width=8):
    """Return ``(N, D)`` features of two classes, and their labels, of which row 3 is wrong."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    values = rng.normal(0, 1, (count, width)) + 4 * label[:, None]
    label[3] = 0
    return values.astype(np.float32), label.astype(str)


def write(folder, values, label, **more):
    np.save(folder / "features.npy", values)
    table = pa.table({"label": label, **more})
    pa.csv.write_csv(table, folder / "data.csv")
    return folder / "data.csv", folder / "features.npy"


def run_audit(data, out, *, features=None, column=None, tune="auto"):
    config = AuditConfig(
        tune=tune,
        dataset=DatasetConfig(features=features, features_column=column),
        backbone=BackboneConfig(device="cpu"),
    )
    audit(data, out, config)
    return read_report(out)


def test_features_of_an_image_audit_give_its_flags(small_data, tmp_path):
    data = small_data
    cache = tmp_path / "cache"
    config = AuditConfig(tune="head", cache=cache, backbone=BackboneConfig(device="cpu"))
    audit(data, tmp_path / "images", config)
    images = read_report(tmp_path / "images")
    (values,) = (cache / "features").glob("*/*/values.npy")
    table = {"file_name": images.sample_id.tolist()}
    label = images.given_label.tolist()
    manifest, features = write(data, np.load(values), label, **table)
    found = run_audit(manifest, tmp_path / "run", features=features)
    assert found.is_label_issue.tolist() == images.is_label_issue.tolist()
    np.testing.assert_array_equal(
        found.label_error_probability.to_numpy(), images.label_error_probability.to_numpy()
    )
    assert "data:image" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["list", "fixed"])
def test_a_column_of_parquet_is_found_and_said(tmp_path, kind):
    values, label = small()
    column = pa.array(list(values))
    if kind == "fixed":
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 8)
    pq.write_table(pa.table({"label": label, "vector": column}), tmp_path / "data.parquet")
    found = run_audit(tmp_path / "data.parquet", tmp_path / "run")
    assert found.is_label_issue[3]
    told = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert any("'vector'" in one["text"] for one in told["assumptions"])
    assert told["modality"] == "embedding"
    page = labelfix("show", tmp_path / "run", "--html")
    assert page.returncode == 0, page.stderr
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Only features were given" in text


def test_the_command_takes_a_file_beside_a_manifest(tmp_path):
    manifest, features = write(tmp_path, *small())
    done = labelfix("audit", manifest, "--features", features, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert read_report(tmp_path / "run").is_label_issue[3]


def test_rows_without_usable_features_are_unreadable(tmp_path):
    values, label = small()
    values[5, 2], values[7], values[9, 0] = np.nan, 0, np.inf
    values[11] = values[13]
    found = run_audit(*write(tmp_path, values, label)[:1], tmp_path / "run",
                      features=tmp_path / "features.npy")  # fmt: skip
    assert np.flatnonzero(found.is_unreadable_issue).tolist() == [5, 7, 9]
    assert "not finite" in found.reason[5] or "no finite" in found.reason[5]
    assert "all 0" in found.reason[7]
    assert found.exact_duplicate_set[11] == found.exact_duplicate_set[13]


@pytest.mark.parametrize("scale", [1e7, 1e-7])
def test_features_that_float16_cannot_hold_are_standardized(tmp_path, scale):
    values, label = small()
    found = run_audit(*write(tmp_path, values * scale, label)[:1], tmp_path / "run",
                      features=tmp_path / "features.npy")  # fmt: skip
    assert found.is_label_issue[3]
    told = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert any("standardized" in one["text"] for one in told["assumptions"])


def test_whole_networks_are_refused(tmp_path):
    manifest, features = write(tmp_path, *small())
    with pytest.raises(ConfigError, match="no whole network"):
        run_audit(manifest, tmp_path / "run", features=features, tune="full")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(60), "shape"),
        (np.ones((60, 2, 2)), "shape"),
        (np.ones((0, 4)), "empty"),
        (np.ones((59, 4)), "59 rows of features"),
        (np.full((60, 4), "x"), "type <U1"),
        (np.full((60, 4), None, object), "holds no features: .*[Oo]bject"),
    ],
)
def test_files_that_hold_no_features_are_refused(tmp_path, values, message):
    manifest, features = write(tmp_path, values, small()[1])
    with pytest.raises(DatasetError, match=message):
        open_dataset(manifest, DatasetConfig(features=features))


def test_an_archive_of_several_arrays_needs_one_called_features(tmp_path):
    values, label = small()
    manifest, _ = write(tmp_path, values, label)
    file = tmp_path / "features.npz"
    np.savez(file, a=values, b=values)
    with pytest.raises(DatasetError, match="several arrays"):
        open_dataset(manifest, DatasetConfig(features=file))
    np.savez(file, a=values, features=values)
    assert len(open_dataset(manifest, DatasetConfig(features=file))) == 60
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(manifest, DatasetConfig(features=tmp_path / "none.npy"))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1.0, 2.0]] * 59 + [[1.0]]), "not equally long"),
        (pa.array([["a", "b"]] * 60), "not lists of numbers"),
        (pa.array(["a b"] * 60), "not lists of numbers"),
    ],
)
def test_columns_that_hold_no_features_are_refused(tmp_path, column, message):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"label": small()[1], "vector": column}), path)
    with pytest.raises(DatasetError, match=message):
        open_dataset(path, DatasetConfig(features_column="vector"))
    with pytest.raises(DatasetError, match="has no column 'other'"):
        open_dataset(path, DatasetConfig(features_column="other"))


def test_texts_beside_vectors_are_the_samples_until_the_vectors_are_named(tmp_path):
    values, label = small()
    text = [f"what customer {row} wrote to us" for row in range(len(label))]
    path = tmp_path / "data.parquet"
    table = {"label": label, "said": text}
    pq.write_table(pa.table(table | {"vector": pa.array(list(values))}), path)
    assert open_dataset(path, DatasetConfig()).modality == "text"
    table["inputs"] = pa.array(list(values))  # a name that texts often have
    pq.write_table(pa.table(table), path)
    config = DatasetConfig(features_column="inputs")
    first = open_dataset(path, config)
    assert first.source.columns == {"features": "inputs", "label": "label", "text": "said"}
    found = run_audit(path, tmp_path / "run", column="inputs")
    assert found.is_label_issue[3]
    told = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert told["modality"] == "embedding"
    page = labelfix("show", tmp_path / "run", "--html")
    assert page.returncode == 0, page.stderr
    assert text[3] in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    values[0, 0] += 1
    pq.write_table(pa.table(table | {"inputs": pa.array(list(values))}), path)
    assert open_dataset(path, config).fingerprint != first.fingerprint


def test_texts_of_a_manifest_are_shown_of_features_in_a_file(tmp_path):
    values, label = small()
    text = [f"what customer {row} wrote to us" for row in range(len(label))]
    manifest, features = write(tmp_path, values, label, review=text)
    found = run_audit(manifest, tmp_path / "run", features=features)
    assert found.is_label_issue[3]
    page = labelfix("show", tmp_path / "run", "--html")
    assert page.returncode == 0, page.stderr
    assert text[3] in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_features_alone_are_exported_in_a_table_and_in_their_own_form(tmp_path):
    manifest, features = write(tmp_path, *small())
    run_audit(manifest, tmp_path / "run", features=features)
    for name in ("clean.csv", "clean.parquet"):
        done = labelfix("export", tmp_path / "run", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert "image" not in pq.read_schema(tmp_path / "clean.parquet").names
    own = labelfix("export", tmp_path / "run", tmp_path / "own.csv", "--format", "own")
    assert own.returncode == 0, own.stderr
    folder = labelfix("export", tmp_path / "run", tmp_path / "folder")
    assert folder.returncode == 1
    assert "is for images" in folder.stderr
