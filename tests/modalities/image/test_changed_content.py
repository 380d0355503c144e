"""Images put in the place of others, with name, size and time kept, are never taken for them."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from whole_networks import Killed, config_of, write_weights

from labelfix.data.probabilities import fingerprint_of
from labelfix.errors import RunError
from labelfix.pipeline.samples import audit

TIME = 1_700_000_000 * 10**9


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def data(small_data, tmp_path):
    """A class folder of pictures that all have one size in bytes and one time."""
    for number, picture in enumerate(sorted(small_data.rglob("*.png"))):
        copy = tmp_path / "photos" / picture.relative_to(small_data).with_suffix(".bmp")
        copy.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.open(picture).convert("RGB").resize((16, 16))
        picture.point(lambda value, most=150 + number: value * most // 255).save(copy)
        os.utime(copy, ns=(TIME, TIME))
    return tmp_path / "photos"


def swap(data):
    """Exchange the first pictures of two classes; nothing but content tells that it was done."""
    pair = [sorted((data / name).iterdir())[0] for name in ("0", "1")]
    before = [(path.stat().st_size, path.stat().st_mtime_ns) for path in pair]
    first, second = (path.read_bytes() for path in pair)
    for path, content in zip(pair, (second, first), strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(TIME, TIME))
    assert before == [(path.stat().st_size, path.stat().st_mtime_ns) for path in pair]


def report_of(run):
    return (run / "report.parquet").read_bytes()


def test_heads_see_the_pictures_of_now(data, weights, tmp_path):
    config = replace(config_of(weights, tmp_path / "cache"), tune="head")
    before = audit(data, tmp_path / "before", config)
    swap(data)
    with pytest.raises(RunError, match="the same names hold other images"):
        audit(data, tmp_path / "before", config, resume=True)
    audit(data, tmp_path / "after", config)
    alone = audit(data, tmp_path / "alone", replace(config, cache=tmp_path / "no cache"))
    after = audit(data, tmp_path / "after", config, resume=True)
    scores = [run.report.table["dark_score"].to_numpy() for run in (before, after, alone)]
    np.testing.assert_array_equal(scores[1], scores[2])
    assert (scores[0] != scores[1]).sum() == 2
    swap(data)
    audit(data, tmp_path / "before", config, resume=True)


def test_training_of_whole_networks_is_not_gone_on_with(data, weights, tmp_path):
    config = config_of(weights, tmp_path / "cache", epochs=2)

    def kill(progress):
        if progress.stage == "fine-tuning network 2 of 2":
            raise Killed

    audit(data, tmp_path / "whole", config)
    with pytest.raises(Killed):
        audit(data, tmp_path / "run", config, on_progress=kill)
    swap(data)
    checkpoints = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert checkpoints
    with pytest.raises(RunError, match="the same names hold other images") as refused:
        audit(data, tmp_path / "run", config, resume=True)
    assert "--overwrite" in refused.value.hint
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == checkpoints
    other = tmp_path / "other"
    with pytest.raises(Killed):
        audit(data, other, config, on_progress=kill)
    for path in checkpoints:
        shutil.copy(path, other / "checkpoints")
    with pytest.raises(RunError, match="of another configuration or other data"):
        audit(data, other, config, resume=True)
    swap(data)
    audit(data, tmp_path / "run", config, resume=True)
    assert report_of(tmp_path / "run") == report_of(tmp_path / "whole")


def test_a_picture_that_can_be_read_again_is_no_part_of_training_without_it(
    data, weights, tmp_path
):
    config = config_of(weights, tmp_path / "cache", epochs=1)
    broken = sorted((data / "7").iterdir())[0]
    content = broken.read_bytes()
    broken.write_bytes(bytes(len(content)))
    os.utime(broken, ns=(TIME, TIME))

    def kill(progress):
        if progress.stage == "fine-tuning network 2 of 2":
            raise Killed

    with pytest.raises(Killed):
        audit(data, tmp_path / "run", config, on_progress=kill)
    broken.write_bytes(content)
    os.utime(broken, ns=(TIME, TIME))
    with pytest.raises(RunError, match="the data have changed"):
        audit(data, tmp_path / "run", config, resume=True)
    report = audit(data, tmp_path / "run", config, overwrite=True).report
    assert report.table["reason"].to_pylist().count("not an image") == 0


def test_probabilities_whose_numbers_changed_are_other_ones(tmp_path):
    path = tmp_path / "probs.csv"
    prints = set()
    for text in ("a,0,0.9,0.1", "a,0,0.1,0.9"):
        path.write_text(f"sample_id,given_label,prob:0,prob:1\n{text}\n")
        os.utime(path, ns=(TIME, TIME))
        prints.add(fingerprint_of([path]))
    assert len(prints) == 2
