import errno
import os
from collections import namedtuple

import numpy as np
import pytest

from encoded_images import TORN, MemoryImages, number_of, numbered
from labelfix.errors import RunError
from labelfix.images import content_digest, decode_image
from labelfix.pixel_cache import decode_once, stored_square
from labelfix.preprocessing import Preprocessing

SQUARE = Preprocessing(
    size=8, crop_share=1.0, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
)
BROKEN = {3: None, 10: b"", 11: TORN, 69: b"no image"}


def mixed(count=70):
    return [BROKEN.get(row, numbered(row)) for row in range(count)]


def decode(images, cache, fingerprint="data", **options):
    return decode_once(images, fingerprint, SQUARE, cache=cache, **options)


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


def test_a_second_call_reads_no_image_and_another_data_set_is_read(tmp_path):
    first = decode(MemoryImages(mixed()), tmp_path)
    again, other = MemoryImages(mixed()), MemoryImages(mixed())
    second = decode(again, tmp_path)
    np.testing.assert_array_equal(first.values, second.values)
    assert second.unreadable == first.unreadable
    assert again.reads == []
    decode(other, tmp_path, fingerprint="other data")
    assert len(other.reads) == 70


def test_an_interrupted_pass_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("labelfix.pixel_cache.CHUNK", 32)
    monkeypatch.setattr("labelfix.pixel_cache.DECODE_BATCH", 8)
    encoded = mixed(200)
    whole = decode(MemoryImages(encoded), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        decode(MemoryImages(encoded, stop_at=150), tmp_path / "cut")
    rest = MemoryImages(encoded)
    resumed = decode(rest, tmp_path / "cut")
    assert 0 < rest.reads[0] < 150
    np.testing.assert_array_equal(resumed.values, whole.values)
    np.testing.assert_array_equal(resumed.content, whole.content)
    assert resumed.unreadable == whole.unreadable


def test_marked_work_whose_array_was_cut_short_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr("labelfix.pixel_cache.CHUNK", 32)
    monkeypatch.setattr("labelfix.pixel_cache.DECODE_BATCH", 8)
    with pytest.raises(KeyboardInterrupt):
        decode(MemoryImages(mixed(200), stop_at=150), tmp_path)
    (array,) = tmp_path.glob("*.partial/values.npy")
    os.truncate(array, 1000)
    again = MemoryImages(mixed(200))
    pixels = decode(again, tmp_path)
    assert again.reads[0] == 0
    assert number_of(pixels.values[[7, 199]]).tolist() == [7, 199]


def test_pixels_over_the_limit_are_not_kept_but_what_is_unreadable_is(tmp_path):
    kept = decode(MemoryImages(mixed()), tmp_path / "kept")
    seen = decode(MemoryImages(mixed()), tmp_path / "seen", limit=70 * 8 * 8 * 3 - 1)
    assert seen.values is None
    assert seen.unreadable == kept.unreadable
    np.testing.assert_array_equal(seen.content, kept.content)
    assert sum(file.stat().st_size for file in (tmp_path / "seen").rglob("*")) < 20_000
    again = MemoryImages(mixed())
    decode(again, tmp_path / "seen", limit=0)
    assert again.reads == []
    assert decode(again, tmp_path / "seen").values is not None, "room was made since"


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
    assert list(tmp_path.glob("*.partial")) == []
    assert decode(MemoryImages(mixed()), tmp_path).values is not None


@pytest.mark.parametrize(
    ("size", "share", "room", "stored"),
    [(96, 1.0, 1.0, 96), (224, 0.875, 1.0, 256), (96, 1.0, 1.15, 110), (224, 0.9, 1.0, 250)],
)
def test_the_stored_square_has_room_for_the_central_one(size, share, room, stored):
    wanted = Preprocessing(
        size=size, crop_share=share, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    square = stored_square(wanted, room=room)
    assert (square.size, square.crop_share) == (stored, 1.0)


def test_stored_pixels_are_the_central_square_of_the_picture(tmp_path):
    encoded = numbered(4, 40, 24)
    pixels = decode(MemoryImages([encoded]), tmp_path)
    np.testing.assert_array_equal(pixels.values[0], SQUARE.pixels(decode_image(encoded)))
