import io
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from encoded_images import MemoryImages
from PIL import Image

from labelfix.config import BackboneConfig
from labelfix.errors import RunError
from labelfix.modalities.image.backbone import Backbone, load_backbone
from labelfix.modalities.image.decode import Decoding
from labelfix.modalities.image.features import compute_features, feature_key, typical_side
from labelfix.modalities.image.value_ranges import ValueRanges
from labelfix.utils.sample_reader import content_digest


def png(seed, side=32):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(BackboneConfig(image_size=96, device="cpu"), 32)


@contextmanager
def passes_counted():
    """Yield a list of how many images go through a network at a time; zeros do not count."""
    passes = []
    forward = Backbone.features

    def counting(self, images):
        passes.append(len(images) if images.any() else 0)
        return forward(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "features", counting)
        yield passes


def compute(images, backbone, cache, fingerprint="data"):
    return compute_features(images, fingerprint, backbone, cache=cache, batch_size=4)


def test_unreadable_images_get_a_reason_and_no_neighbors_features(backbone, tmp_path):
    encoded = [png(0), b"", png(1), None, b"no image", png(0), png(2)[:200]]
    features = compute(MemoryImages(encoded), backbone, tmp_path)
    assert features.unreadable == {
        1: "empty file (0 bytes)",
        3: "file is missing",
        4: "not an image",
        6: "truncated image",
    }
    assert (features.values[[1, 3, 4, 6]] == 0).all()
    assert (np.abs(features.values[[0, 2, 5]]).sum(axis=1) > 0).all()
    # bit for bit the same picture, at another place of another batch: the same up to rounding
    np.testing.assert_allclose(features.values[0], features.values[5], rtol=0.1, atol=0.05)
    assert features.content[0] == features.content[5] == content_digest(png(0)).rstrip(b"\0")


def test_images_under_other_names_are_read_and_not_computed_again(backbone, tmp_path):
    images = MemoryImages([png(i) for i in range(6)])
    first = compute(images, backbone, tmp_path)
    again = MemoryImages(images.encoded)
    with passes_counted() as passes:
        second = compute(again, backbone, tmp_path, fingerprint="other names")
    assert sum(passes) == 0
    assert again.reads == list(range(6))
    np.testing.assert_array_equal(first.values, second.values)


def test_another_size_or_decoding_is_computed_anew(backbone):
    larger = load_backbone(BackboneConfig(image_size=128, device="cpu"), 32)
    assert feature_key(backbone) != feature_key(larger)
    deep = Decoding(values=ValueRanges.fixed(0, 4095))
    other = replace(backbone, preprocessing=replace(backbone.preprocessing, decoding=deep))
    assert feature_key(backbone) != feature_key(other)
    more = Decoding(max_pixels=1 << 30)  # changes no pixel of the images that were read
    other = replace(backbone, preprocessing=replace(backbone.preprocessing, decoding=more))
    assert feature_key(backbone) == feature_key(other)


def test_an_interrupted_computation_goes_on_where_it_stopped(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr("labelfix.utils.cache.CHUNK", 8)
    encoded = [png(i) if i % 5 else b"" for i in range(40)]
    whole = compute(MemoryImages(encoded), backbone, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        compute(MemoryImages(encoded, stop_at=33), backbone, tmp_path / "cut")
    with passes_counted() as passes:
        resumed = compute(MemoryImages(encoded), backbone, tmp_path / "cut")
    assert 0 < sum(passes) < 20, "of 32 readable images"
    np.testing.assert_array_equal(resumed.values, whole.values)
    np.testing.assert_array_equal(resumed.content, whole.content)
    assert resumed.unreadable == whole.unreadable


def test_a_cache_that_cannot_be_written_to_is_a_clear_error(backbone, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot write"):
        compute(MemoryImages([png(0)]), backbone, tmp_path / "file" / "cache")


def test_the_typical_side_is_the_median_of_the_shorter_ones():
    images = MemoryImages([png(0, 24)] * 50 + [None] * 10 + [png(0, 48)] * 100)
    assert typical_side(images) == 48
    assert typical_side(MemoryImages([b""] * 3)) == 640
