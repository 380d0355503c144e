from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labelfix.config import BackboneConfig
from labelfix.errors import TrainingError
from labelfix.modalities.image.backbone import load_backbone
from labelfix.modalities.image.features import compute_features
from labelfix.utils.torch_utils import MicroBatcher, explain_out_of_memory, is_out_of_memory


def out_of_memory():
    return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def sizes(portions):
    return [portion.stop - portion.start for portion in portions]


@given(st.integers(1, 300), st.integers(2, 70), st.integers(1, 2))
def test_portions_hold_every_image_once_and_are_as_equal_as_can_be(count, size, least):
    portions = MicroBatcher(size, least=least).split(count)
    rows = np.concatenate([np.arange(count)[portion] for portion in portions])
    assert rows.tolist() == list(range(count))
    assert max(sizes(portions)) - min(sizes(portions)) <= 1
    assert min(sizes(portions)) >= min(least, count)
    # an odd batch in portions of two has one of three, rather than one of one
    assert max(sizes(portions)) <= size + (least == size == 2)


@given(st.integers(1, 100), st.integers(1, 2), st.integers(3, 100))
def test_the_size_is_halved_until_it_fits_and_stays_there(count, least, memory):
    portions = MicroBatcher(least=least)
    tried = []

    def work(parts):
        tried.append(max(sizes(parts)))
        if max(sizes(parts)) > memory:
            raise out_of_memory()
        return sizes(parts)

    assert sum(portions.run(count, work)) == count
    assert all(later <= earlier // 2 + 1 for earlier, later in pairwise(tried))
    assert 2 * tried[-1] + least > min(count, memory), "no smaller than it need be"
    before = len(tried)
    assert sum(portions.run(count, work)) == count
    assert len(tried) == before + 1, "what did not fit is not tried again"


@pytest.mark.parametrize(("least", "count", "last"), [(1, 7, 1), (2, 8, 2), (2, 7, 3), (2, 3, 3)])
def test_where_nothing_fits_the_error_says_so(least, count, last):
    def work(parts):
        raise out_of_memory()

    with pytest.raises(TrainingError, match=f"memory runs out with {last} images? at a time"):
        MicroBatcher(least=least).run(count, work)


def test_a_batch_that_must_stay_whole_is_never_cut():
    def work(parts):
        assert sizes(parts) == [64]
        raise out_of_memory()

    with pytest.raises(TrainingError, match="with 64 images at a time, and fewer cannot") as raised:
        MicroBatcher(least=None).run(64, work)
    assert "--train-batch-size" in raised.value.hint


def test_the_cpu_s_own_error_counts_and_others_do_not():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**46)
    assert is_out_of_memory(raised.value)
    with pytest.raises(RuntimeError) as raised:
        torch.ones(2) @ torch.ones(3)
    assert not is_out_of_memory(raised.value)
    with pytest.raises(RuntimeError, match="size"):
        MicroBatcher().run(4, lambda parts: torch.ones(2) @ torch.ones(3))


def test_memory_that_nothing_can_be_cut_for_is_explained():
    with pytest.raises(TrainingError, match="memory has run out"), explain_out_of_memory():
        torch.empty(2**46)
    with pytest.raises(RuntimeError, match="size"), explain_out_of_memory():
        torch.ones(2) @ torch.ones(3)


class Pictures:
    """Images in memory."""

    def __init__(self, folder, count):
        self.paths = [folder / f"{number}.png" for number in range(count)]
        for number, path in enumerate(self.paths):
            Image.new("RGB", (32, 32), (number * 20, 90, 200 - number * 9)).save(path)

    def __len__(self):
        return len(self.paths)

    def read(self, index):
        return self.paths[index].read_bytes()

    def location(self, index):
        return str(self.paths[index])


def test_features_are_the_same_where_memory_is_short(tmp_path):
    images = Pictures(tmp_path, 11)
    backbone = load_backbone(BackboneConfig(image_size=32, device="cpu"), 32)
    whole = compute_features(images, "a", backbone, cache=tmp_path / "whole", batch_size=11)
    largest = []

    def only_three(module, arguments):
        largest.append(len(arguments[0]))
        if largest[-1] > 3:
            raise out_of_memory()

    first = next(module for module in backbone.model.modules() if not list(module.children()))
    first.register_forward_pre_hook(only_three)
    tight = compute_features(images, "a", backbone, cache=tmp_path / "tight", batch_size=11)
    assert 11 in largest
    assert largest[-1] <= 3
    np.testing.assert_allclose(
        tight.values.astype(np.float32), whole.values.astype(np.float32), rtol=0.02, atol=0.02
    )
