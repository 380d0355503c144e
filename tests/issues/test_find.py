"""What is said of images besides their labels: against naive references, and row by row."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from altered_photographs import cropped, photograph, reencoded
from appearances import plain_appearances
from encoded_images import MemoryImages
from PIL import Image, ImageFilter
from small_report import Sample, report_of

from labelfix import audit
from labelfix.config import BackboneConfig, IssueConfig
from labelfix.data.duplicates import find_duplicates
from labelfix.errors import ConfigError
from labelfix.issues.find import find_issue_kinds
from labelfix.issues.neighbors import outlier_score
from labelfix.issues.types import Neighbors
from labelfix.modalities.base import get_modality
from labelfix.modalities.image.backbone import load_backbone
from labelfix.modalities.image.checks import (
    blurry_score,
    bright_score,
    dark_score,
    odd_size_score,
)
from labelfix.modalities.image.decode import measure
from labelfix.modalities.image.features import compute_features
from labelfix.report.io import read_report_table, write_report
from labelfix.report.neighbors import write_neighbors
from labelfix.report.view import ReportView
from labelfix.types import MISSING, Features, ImageStatistics

IMAGES = get_modality("image")
KINDS = ("near_duplicate", "outlier", *(check.name for check in IMAGES.checks()))


def looks_of(*images):
    seen = [measure(image, image.size) for image in images]
    measures = np.stack([look.measures for look in seen]).T
    return ImageStatistics(*measures, np.stack([look.thumbnail for look in seen]))


def test_measures_are_those_of_a_naive_loop():
    image = photograph(4, side=50)
    grey = np.asarray(image.convert("L"), np.float64)
    laplacian = [
        grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
        for y in range(1, 49)
        for x in range(1, 49)
    ]
    looks = looks_of(image)
    assert looks.side[0] == 50
    assert looks.bright_end[0] == pytest.approx(np.quantile(grey, 0.99) / 255, abs=2 / 255)
    assert looks.dark_end[0] == pytest.approx(np.quantile(grey, 0.05) / 255, abs=2 / 255)
    assert looks.laplacian_variance[0] == pytest.approx(np.var(laplacian), rel=1e-5)


def test_dark_bright_and_blurry_images_score_low_and_others_do_not():
    image = photograph(0)
    dark = image.point(lambda value: value // 5)
    bright = image.point(lambda value: 245 + value // 30)
    blurred = image.filter(ImageFilter.GaussianBlur(8))
    looks = looks_of(image, dark, bright, blurred)
    limits = IssueConfig()
    assert (dark_score(looks) < limits.dark).tolist() == [False, True, False, False]
    assert (bright_score(looks) < limits.bright).tolist() == [False, False, True, False]
    assert (blurry_score(looks) < limits.blurry)[[0, 3]].tolist() == [False, True]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 900), (4000, 3), (3, 3)])
def test_no_shape_is_an_error(size):
    looks = looks_of(Image.new("RGB", size, "grey"))
    assert looks.side[0] == pytest.approx(np.sqrt(size[0] * size[1]))
    assert blurry_score(looks)[0] == 0


def sized(sides):
    plain = plain_appearances(len(sides))
    return ImageStatistics(
        np.array(sides, np.float32),
        plain.bright_end,
        plain.dark_end,
        plain.laplacian_variance,
        plain.thumbnails,
    )


def test_a_size_is_odd_beyond_three_quartile_distances_and_an_octave():
    odd = odd_size_score(sized([100] * 20 + [190, 210, 51, 49])) < 0.5
    assert odd[-4:].tolist() == [False, True, False, True]
    assert not odd[:-4].any()
    spread = [100 * 2 ** (step / 10) for step in range(-10, 11)] * 9  # quartiles one octave apart
    scores = odd_size_score(sized([*spread, 100 * 2**2.9, 100 * 2**3.3, 100 / 2**3.3]))
    assert (scores[-3:] < 0.5).tolist() == [False, True, True]


def test_an_outlier_is_far_from_its_neighbors_for_this_data():
    rng = np.random.default_rng(0)
    rows = np.stack([np.delete(np.arange(40), row)[:10] for row in range(40)])
    lengths = rng.normal(10, 0.5, 40).astype(np.float32)
    lengths[7] = 40
    score = outlier_score(Neighbors(rows, np.full(rows.shape, 0.5, np.float32)), lengths)
    distance = np.array(
        [
            np.mean([np.sqrt(a * a + b * b - a * b) for b in lengths[near].astype(float)])
            for a, near in zip(lengths.astype(float), rows, strict=True)
        ]
    )
    middle = np.median(distance)
    deviation = 1.4826 * np.median(distance[distance > middle] - middle)
    reference = 1 / (1 + np.exp((distance - middle) / deviation - 3.5))
    np.testing.assert_allclose(score, reference, rtol=1e-4, atol=1e-30)
    assert np.flatnonzero(score < 0.5).tolist() == [7]


def test_images_that_are_all_the_same_are_no_outliers():
    same = Neighbors(np.ones((20, 10), np.int64), np.ones((20, 10), np.float32))
    assert (outlier_score(same, np.ones(20, np.float32)) > 0.9).all()


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """Twenty photographs; 20 is a crop of 0, 21 of 1 anew, 22 is 2 itself, 23 torn, 24 black."""
    photographs = [photograph(seed) for seed in range(20)]
    images = [encoded(image) for image in photographs]
    images += [encoded(cropped(photographs[0], 5, 3, 4, 6)), encoded(reencoded(photographs[1]))]
    images += [images[2], images[2][:300], encoded(Image.new("RGB", (128, 128)))]
    backbone = load_backbone(BackboneConfig(image_size=96, device="cpu"), 96)
    cache = tmp_path_factory.mktemp("features")
    features = compute_features(
        MemoryImages(images), "photographs", backbone, cache=cache, batch_size=8
    )
    given = np.array([*([0, 1] * 10), 0, 0, 1, 0, MISSING])
    return features, given


def kinds_of(audited, **thresholds):
    features, given = audited
    duplicates = find_duplicates(features, given)
    return find_issue_kinds(features, given, duplicates, IssueConfig(**thresholds), IMAGES)


def test_copies_are_found_and_conflicts_among_them(audited):
    kinds = kinds_of(audited)
    sets = kinds.near_duplicate_set
    assert sets[[0, 20, 1, 21, 2, 22]].tolist() == [0, 0, 1, 1, 2, 2]
    assert (np.delete(sets, [0, 20, 1, 21, 2, 22]) == MISSING).all()
    assert np.flatnonzero(kinds.is_conflicting).tolist() == [1, 2, 21, 22]
    assert (kinds.is_issue["near_duplicate"] == (sets != MISSING)).all()
    assert kinds.scores["near_duplicate"][[2, 22]].tolist() == [0, 0]


def test_scores_are_in_range_and_missing_for_what_cannot_be_read(audited):
    kinds = kinds_of(audited)
    for kind in KINDS:
        score = kinds.scores[kind]
        assert np.flatnonzero(np.isnan(score)).tolist() == [23]
        assert ((score >= 0) & (score <= 1))[np.arange(25) != 23].all()
        assert not kinds.is_issue[kind][23]
    assert np.flatnonzero(kinds.is_issue["dark"]).tolist() == [24]
    assert np.flatnonzero(kinds.is_issue["blurry"]).tolist() == [24]


def test_a_copy_is_the_nearest_neighbor_and_nobody_is_its_own(audited):
    near = kinds_of(audited).neighbors
    assert near.rows[20, 0] == 0
    assert near.rows[22, 0] == 2
    assert near.rows[2, 0] == 22
    assert near.similarities[[2, 22], 0].tolist() == [1, 1]
    assert (near.rows[23] == MISSING).all()
    for row, others in enumerate(near.rows.tolist()):
        assert row not in others
        assert others == [MISSING] * 10 or len(set(others)) == 10
    assert not (near.rows == 23).any()


def test_many_copies_of_one_image_are_one_set():
    values = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float16)
    values[5:25] = values[5]
    content = np.array([f"{5 if 5 <= row < 25 else row:015d}x" for row in range(30)], "S16")
    features = Features(values, content, {}, plain_appearances(30))
    given = np.zeros(30, np.int64)
    kinds = find_issue_kinds(
        features, given, find_duplicates(features, given), IssueConfig(), IMAGES
    )
    assert (kinds.near_duplicate_set[5:25] == 0).all()
    assert (kinds.neighbors.rows[5, :10] == np.arange(6, 16)).all()


def test_a_threshold_of_zero_looks_for_none(audited):
    kinds = kinds_of(audited, **dict.fromkeys(KINDS, 0))
    assert not any(kinds.is_issue[kind].any() for kind in KINDS)
    assert not kinds.is_conflicting.any()


@pytest.mark.parametrize("thresholds", [{"dark": 1.5}, {"blurry": float("nan")}, {"drak": 0.1}])
def test_a_threshold_that_cannot_be_used_is_refused(tmp_path, thresholds):
    with pytest.raises(ConfigError):
        audit(tmp_path / "none", tmp_path / "run", issue_threshold=thresholds)


def test_reasons_name_leaks_conflicts_and_looks(audited):
    splits = ["train"] * 20 + ["test", None, "train", "train", "train"]
    names = [f"{row:02d}.png" for row in range(25)]
    samples = [
        Sample(name, given, None if given == MISSING else 0.1, split=split)
        for name, given, split in zip(names, audited[1].tolist(), splits, strict=True)
    ]
    report = report_of(samples, kinds=kinds_of(audited))
    said = report.table["reason"].to_pylist()
    assert said[0] == "the same picture is in split 'test'"
    assert said[20] == "the same picture is in split 'train'"
    conflict = "near-duplicate is also labeled 'dog'"
    assert said[21] == f"{conflict}; the same picture is in split 'train'"  # null is its own split
    assert said[24].endswith("nearly black; blurry")
    assert said[3] is None


def test_byte_identical_samples_leak_where_near_duplicates_are_not_looked_for(audited):
    nothing = kinds_of(audited, near_duplicate=0)
    splits = ["train"] * 24 + ["test"]
    samples = [
        Sample(f"{row:02d}.png", 0, split=split, duplicate_set=0 if row in (3, 24) else MISSING)
        for row, split in enumerate(splits)
    ]
    report = report_of(samples, kinds=nothing)
    said = report.table["reason"].to_pylist()
    assert ["the same picture" in (reason or "") for reason in said] == [
        row in (3, 24) for row in range(25)
    ]
    assert np.array_equal(np.flatnonzero(ReportView(report).is_leaking), [3, 24])


def test_a_report_from_before_there_were_kinds_can_be_read(audited, tmp_path):
    report = report_of([Sample(f"{row:02d}", 0) for row in range(25)], kinds=kinds_of(audited))
    write_report(report, tmp_path / "report.parquet")
    assert read_report_table(tmp_path).table.equals(report.table)
    table = pq.read_table(tmp_path / "report.parquet")
    late = [name for name in table.column_names if "near_duplicate" in name or "blurry" in name]
    pq.write_table(table.drop_columns(late), tmp_path / "report.parquet")
    old = read_report_table(tmp_path).table
    assert old.column_names == report.table.column_names
    assert old["near_duplicate_set"].null_count == len(old) == old["blurry_score"].null_count
    assert not any(old["is_blurry_issue"].to_pylist())


def test_neighbors_are_a_table_that_others_read(audited, tmp_path):
    near = kinds_of(audited).neighbors
    names = pa.array([f"{row:02d}.png" for row in range(25)])
    write_neighbors(near, names, tmp_path / "neighbors.parquet")
    table = pq.read_table(tmp_path / "neighbors.parquet")
    assert table.column_names == ["sample_id", "neighbors", "similarities"]
    assert table["neighbors"].type.value_type == pa.int64()
    assert table["similarities"].type.value_type == pa.float32()
    assert table["sample_id"].to_pylist() == names.to_pylist()
    assert table["neighbors"].to_pylist()[23] == []
    assert table["neighbors"].to_pylist()[4] == near.rows[4].tolist()
    np.testing.assert_array_equal(table["similarities"].to_pylist()[4], near.similarities[4])
