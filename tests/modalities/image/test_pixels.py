import errno
import os
from collections import namedtuple
from contextlib import contextmanager

import numpy as np
import pytest
from encoded_images import TORN, MemoryImages, number_of, numbered

from labelfix.errors import RunError
from labelfix.modalities.image.decode import decode_image, decode_with_size
from labelfix.modalities.image.pixels import decode_once, stored_square
from labelfix.modalities.image.transforms import Preprocessing
from labelfix.utils.sample_reader import content_digest

SQUARE = Preprocessing(
    size=8, crop_share=1.0, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
)
BROKEN = {3: None, 10: b"", 11: TORN, 69: b"no image"}


def mixed(count=70):
    return [BROKEN.get(row, numbered(row)) for row in range(count)]


def decode(images, cache, fingerprint="data", **options):
    return decode_once(images, fingerprint, SQUARE, cache=cache, **options)


@contextmanager
def decoded_counted():
    """Yield a list of the encoded images that are decoded."""
    decoded = []

    def counting(data, **options):
        decoded.append(data)
        return decode_with_size(data, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labelfix.modalities.image.features.decode_with_size", counting)
        yield decoded


def test_each_row_holds_its_own_image_and_unreadable_ones_shift_nothing(tmp_path):
    pixels = decode(MemoryImages(mixed()), tmp_path)
    readable = np.setdiff1d(np.arange(70), list(BROKEN))
    np.testing.assert_array_equal(number_of(pixels.values[readable]), readable)
    assert (pixels.values[list(BROKEN)] == 0).all()
    assert pixels.unreadable == {
        3: "file is missing",
        10: "empty file (0 bytes)",
        11: "truncated image",
        69: "not an image",
    }
    assert pixels.content[5] == content_digest(numbered(5)).rstrip(b"\0")
    assert pixels.content[3] == b""
    assert pixels.content[11] != b"", "a broken file has bytes to compare"


def test_a_second_call_decodes_only_what_could_not_be_read(tmp_path):
    first = decode(MemoryImages(mixed()), tmp_path)
    with decoded_counted() as decoded:
        second = decode(MemoryImages(mixed()), tmp_path, fingerprint="other names")
    assert sorted(decoded) == sorted([b"", TORN, b"no image"])
    np.testing.assert_array_equal(first.values, second.values)
    assert second.unreadable == first.unreadable


def test_an_interrupted_pass_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("labelfix.utils.cache.CHUNK", 32)
    monkeypatch.setattr("labelfix.modalities.image.pixels.DECODE_BATCH", 8)
    encoded = mixed(200)
    whole = decode(MemoryImages(encoded), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        decode(MemoryImages(encoded, stop_at=150), tmp_path / "cut")
    with decoded_counted() as decoded:
        resumed = decode(MemoryImages(encoded), tmp_path / "cut")
    assert 50 < len(decoded) < 150
    np.testing.assert_array_equal(resumed.values, whole.values)
    np.testing.assert_array_equal(resumed.content, whole.content)
    assert resumed.unreadable == whole.unreadable


def test_marked_work_whose_array_was_cut_short_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr("labelfix.utils.cache.CHUNK", 32)
    monkeypatch.setattr("labelfix.modalities.image.pixels.DECODE_BATCH", 8)
    with pytest.raises(KeyboardInterrupt):
        decode(MemoryImages(mixed(200), stop_at=150), tmp_path)
    (array,) = tmp_path.glob("*/*.partial/values.npy")
    os.truncate(array, 1000)
    notes = []
    pixels = decode(MemoryImages(mixed(200)), tmp_path, on_progress=lambda p: notes.append(p.note))
    assert "damaged (unfinished work: values.npy) and were computed anew" in notes[-1]
    assert number_of(pixels.values[[7, 199]]).tolist() == [7, 199]


def test_pixels_over_the_limit_are_not_kept_but_what_is_unreadable_is(tmp_path):
    kept = decode(MemoryImages(mixed()), tmp_path / "kept")
    seen = decode(MemoryImages(mixed()), tmp_path / "seen", limit=70 * 8 * 8 * 3 - 1)
    assert seen.values is None
    assert "decodes them anew" in seen.assumptions[0].text
    assert not kept.assumptions
    assert seen.unreadable == kept.unreadable
    np.testing.assert_array_equal(seen.content, kept.content)
    assert sum(file.stat().st_size for file in (tmp_path / "seen").rglob("*")) < 20_000
    with decoded_counted() as decoded:
        decode(MemoryImages(mixed()), tmp_path / "seen", limit=0)
    assert len(decoded) == 3, "those that could not be decoded are tried again"
    assert decode(MemoryImages(mixed()), tmp_path / "seen").values is not None, (
        "space was made since"
    )


def test_a_nearly_full_disk_keeps_no_pixels(tmp_path, monkeypatch):
    free = namedtuple("Usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda place: free(70 * 8 * 8 * 3))
    assert decode(MemoryImages(mixed()), tmp_path / "a").values is None


def test_a_disk_that_fills_up_is_a_clear_error_and_leaves_no_false_claim(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", full)
        with pytest.raises(RunError, match=r"decoded images.*No space left") as caught:
            decode(MemoryImages(mixed()), tmp_path)
    assert "free some space" in caught.value.hint
    assert list(tmp_path.rglob("*.partial")) == []
    assert decode(MemoryImages(mixed()), tmp_path).values is not None


@pytest.mark.parametrize(
    ("size", "share", "stored"), [(96, 1.0, 96), (224, 0.875, 256), (224, 0.9, 250)]
)
def test_the_stored_square_holds_the_central_one(size, share, stored):
    wanted = Preprocessing(
        size=size, crop_share=share, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    square = stored_square(wanted)
    assert (square.size, square.crop_share) == (stored, 1.0)


def test_stored_pixels_are_the_central_square_of_the_picture(tmp_path):
    encoded = numbered(4, 40, 24)
    pixels = decode(MemoryImages([encoded]), tmp_path)
    np.testing.assert_array_equal(pixels.values[0], SQUARE.pixels(decode_image(encoded)))
