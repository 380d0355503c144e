"""What is kept on disk is found by content, never holds a failure, and may be damaged."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from encoded_images import TORN, MemoryImages, number_of, numbered
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from labelfix.errors import UnreadableSample
from labelfix.modalities.image.decode import decode_with_size
from labelfix.modalities.image.pixels import decode_once
from labelfix.modalities.image.transforms import Preprocessing
from labelfix.utils.cache import CHUNK, content_key, marked_cache
from labelfix.utils.sample_reader import content_digest

SQUARE = Preprocessing(
    size=4, crop_share=1.0, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
)
BAD = [None, b"", TORN, b"no image"]
KINDS = [*(numbered(row, 6, 6) for row in range(8)), *BAD]
SOME = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Looked:
    """What one look at a data set gave, and what was decoded and said on the way."""

    def __init__(self, encoded, cache, fingerprint="same", **options):
        self.decoded, self.notes = [], []
        lock = threading.Lock()

        def counting(data, **options):
            with lock:
                self.decoded.append(data)
            return decode_with_size(data, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("labelfix.modalities.image.features.decode_with_size", counting)
            mapped = decode_once(
                MemoryImages(encoded),
                fingerprint,
                SQUARE,
                cache=cache,
                on_progress=lambda progress: self.notes.append(progress.note),
                **options,
            )
        # copied, as a file that is mapped must not be cut
        self.pixels = replace(mapped, values=np.array(mapped.values))

    def is_like(self, other):
        mine, others = self.pixels, other.pixels
        np.testing.assert_array_equal(mine.values, others.values)
        np.testing.assert_array_equal(mine.content, others.content)
        assert mine.unreadable == others.unreadable
        return True


def entries(cache):
    return [path for path in cache.glob("*/*") if path.is_dir()]


@SOME
@given(
    st.lists(st.lists(st.sampled_from(range(len(KINDS))), min_size=1, max_size=6), min_size=2,
             max_size=4)
)  # fmt: skip
@example([[0, 1, 2], [0, 3, 2], [0, 1, 2]])
def test_whatever_was_looked_at_before_a_look_is_like_one_without_a_cache(tmp_path, states):
    """All states have one fingerprint: same names, sizes and times."""
    cache, alone = tmp_path / "cache", tmp_path / "alone"
    computed = set()
    for state in states:
        encoded = [KINDS[kind] for kind in state]
        shutil.rmtree(alone, ignore_errors=True)
        looked = Looked(encoded, cache)
        assert looked.is_like(Looked(encoded, alone))
        assert not computed & set(looked.decoded), "what is kept is not decoded again"
        assert not any(looked.notes)
        computed |= {data for data in looked.decoded if data not in BAD}
    shutil.rmtree(cache)


def test_two_folders_that_look_the_same_neither_mix_nor_thrash(tmp_path):
    first, second = ([numbered(row + of) for row in range(5)] for of in (0, 100))
    for encoded, rows in [(first, range(5)), (second, range(100, 105))] * 2:
        looked = Looked(encoded, tmp_path)
        assert number_of(looked.pixels.values).tolist() == list(rows)
    assert looked.decoded == []
    assert len(entries(tmp_path)) == 2


def test_only_what_changed_is_computed_and_order_and_names_do_not_matter(tmp_path):
    encoded = [numbered(row) for row in range(200)]
    Looked(encoded, tmp_path)
    encoded[7], encoded[150] = numbered(207), numbered(350)
    changed = Looked(encoded, tmp_path)
    assert sorted(changed.decoded) == sorted([numbered(207), numbered(350)])
    assert number_of(changed.pixels.values[[6, 7, 150]]).tolist() == [6, 207, 350]
    turned = Looked(encoded[::-1], tmp_path, fingerprint="other names")
    assert turned.decoded == []
    np.testing.assert_array_equal(turned.pixels.values, changed.pixels.values[::-1])


@pytest.mark.parametrize("missing", [1, 5, 200])
def test_a_failure_to_read_is_not_kept(tmp_path, missing):
    encoded = [numbered(row) for row in range(200)]
    failing = [None if row < missing else data for row, data in enumerate(encoded)]
    failed = Looked(failing, tmp_path)
    assert len(failed.pixels.unreadable) == missing
    mended = Looked(encoded, tmp_path)
    assert mended.pixels.unreadable == {}
    assert missing <= len(mended.decoded) <= missing + 1
    assert number_of(mended.pixels.values).tolist() == list(range(200))
    again = Looked(failing, tmp_path)
    assert again.is_like(failed)
    assert again.decoded == [], "a moment's failure costs nothing"
    assert Looked(encoded, tmp_path).is_like(mended)


def test_a_new_decoder_is_enough(tmp_path):
    encoded = [numbered(0), numbered(1), numbered(2)]

    def refuse(data, **options):
        if data == encoded[1]:
            raise UnreadableSample("broken image: no decoder for it is installed")
        return decode_with_size(data, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labelfix.modalities.image.features.decode_with_size", refuse)
        old = decode_once(MemoryImages(encoded), "same", SQUARE, cache=tmp_path)
    assert list(old.unreadable) == [1]
    new = Looked(encoded, tmp_path)
    assert new.decoded.count(encoded[0]) == 0
    assert new.pixels.unreadable == {}
    assert number_of(new.pixels.values).tolist() == [0, 1, 2]


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


def cut(path, at):
    path.write_bytes(path.read_bytes()[: int(at * path.stat().st_size)])


def into_folder(path, at):
    path.unlink()
    path.mkdir()


def other_form(path, at):
    if path.suffix == ".npy":
        np.save(path, np.zeros((3, int(at * 4), 2), dtype=np.float64))
    else:
        path.write_text(json.dumps([at, None, {"rows": at}]))


def objects(path, at):
    np.save(path.with_suffix(".npy"), np.array([print, {}], dtype=object), allow_pickle=True)
    path.with_suffix(".npy").replace(path)


def nonsense(path, at):
    path.write_bytes(b"\x93NUMPY\x01\x00" + b"(" * int(at * 5000))


def remove(path, at):
    path.unlink()


DAMAGES = [flip, cut, into_folder, other_form, objects, nonsense, remove]


@SOME
@given(
    st.sampled_from(["values.npy", "content.npy", "manifest.json"]),
    st.sampled_from(DAMAGES),
    st.floats(0, 0.99),
)
def test_a_damaged_entry_is_computed_anew_and_said(tmp_path, name, damage, at):
    cache = tmp_path / "cache"
    encoded = [numbered(row) for row in range(6)] + [TORN]
    first = Looked(encoded, cache)
    (entry,) = entries(cache)
    damage(entry / name, at)
    looked = Looked(encoded, cache)
    assert looked.is_like(first)
    assert len(looked.decoded) >= 6
    assert looked.notes[-1].startswith("the cached decoded images were damaged (")
    again = Looked(encoded, cache)
    assert again.is_like(first)
    assert again.decoded == [TORN]
    assert not any(again.notes)
    assert len(list(cache.glob("*/*"))) == 2, "the entry and its lock"
    shutil.rmtree(cache)


@pytest.mark.parametrize("is_folder", [True, False])
def test_something_else_in_the_place_of_an_entry_is_computed_anew(tmp_path, is_folder):
    encoded = [numbered(row) for row in range(6)]
    first = Looked(encoded, tmp_path)
    (entry,) = entries(tmp_path)
    shutil.rmtree(entry)
    if is_folder:
        (entry / "values.npy").mkdir(parents=True)
    else:
        entry.write_text("nonsense")
    assert Looked(encoded, tmp_path).is_like(first)
    assert Looked(encoded, tmp_path).decoded == []


@SOME
@given(
    st.sampled_from(["values.npy", "content.npy", "manifest.json"]),
    st.sampled_from(DAMAGES),
    st.floats(0, 0.99),
)
def test_damaged_unfinished_work_is_done_again(tmp_path, name, damage, at):
    cache = tmp_path / "cache"
    encoded = [numbered(row) for row in range(90)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labelfix.utils.cache.CHUNK", 8)
        patch.setattr("labelfix.modalities.image.pixels.DECODE_BATCH", 4)
        with pytest.raises(KeyboardInterrupt):
            decode_once(MemoryImages(encoded, stop_at=70), "same", SQUARE, cache=cache)
        (unfinished,) = cache.glob("*/*.partial")
        damage(unfinished / name, at)
        looked = Looked(encoded, cache)
    assert number_of(looked.pixels.values).tolist() == list(range(90))
    assert looked.pixels.unreadable == {}
    shutil.rmtree(cache)


@pytest.mark.parametrize("junk", ["file", "folder", "link"])
def test_nonsense_in_the_place_of_unfinished_work_is_in_nobodys_way(tmp_path, junk):
    encoded = [numbered(row) for row in range(6)]
    first = Looked(encoded, tmp_path)
    (entry,) = entries(tmp_path)
    unfinished = Path(str(next(tmp_path.glob("*/*.lock"))).removesuffix(".lock"))
    shutil.rmtree(entry)
    if junk == "file":
        unfinished.write_text("nonsense")
    elif junk == "folder":
        (unfinished / "manifest.json").mkdir(parents=True)
    else:
        unfinished.symlink_to(tmp_path / "nowhere")
    assert Looked(encoded, tmp_path).is_like(first)


def test_arrays_that_another_process_has_mapped_are_never_written_to(tmp_path):
    encoded = [numbered(row) for row in range(50)]
    mapped = decode_once(MemoryImages(encoded), "same", SQUARE, cache=tmp_path).values
    before = mapped.copy()
    missing = Looked([None, *encoded[1:]], tmp_path).pixels
    assert (missing.values[0] == 0).all()
    Looked([numbered(99), *encoded[1:]], tmp_path)
    (entry, *_) = [path for path in entries(tmp_path) if path.name == content_key(
        np.array([content_digest(data) for data in encoded], dtype="S16"))]  # fmt: skip
    flip(entry / "manifest.json", 0.5)
    Looked(encoded, tmp_path)
    np.testing.assert_array_equal(mapped, before)


def test_two_at_once_compute_once(tmp_path):
    encoded = [numbered(row) for row in range(300)]
    found = []

    def look():
        pixels = decode_once(MemoryImages(encoded), "same", SQUARE, cache=tmp_path)
        found.append(number_of(pixels.values).tolist())

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(300))] * 3
    assert len(entries(tmp_path)) == 1


def test_no_rows_and_more_than_a_chunk_of_them(tmp_path):
    assert Looked([], tmp_path).pixels.values.shape == (0, 4, 4, 3)
    assert Looked([], tmp_path).pixels.values.shape == (0, 4, 4, 3)
    kinds = [numbered(row) for row in range(10)]
    encoded = [kinds[row % 10] for row in range(CHUNK + 5)]
    first = Looked(encoded, tmp_path)
    again = Looked(encoded, tmp_path)
    assert again.is_like(first)
    assert again.decoded == []


def test_a_cache_whose_mark_was_not_written_to_the_end_is_marked(tmp_path):
    draft = tmp_path / ".CACHEDIR.TAG.abc12345.labelfix-draft"
    draft.write_text("Sig")
    marked_cache(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["CACHEDIR.TAG"]
