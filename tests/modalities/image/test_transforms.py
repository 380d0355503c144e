import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from labelfix.errors import ConfigError
from labelfix.modalities.image.pixels import StoredPixels, stored_square
from labelfix.modalities.image.transforms import (
    Augment,
    BatchTransform,
    Crops,
    Preprocessing,
    draw_chances,
    draw_crops,
    flip_probability,
    mirror_asymmetry,
)
from labelfix.modalities.image.views import ImageViews

CPU = torch.device("cpu")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def preprocessing(size, crop_share=1.0):
    return Preprocessing(
        size=size, crop_share=crop_share, interpolation="bilinear", mean=MEAN, std=STD
    )


def noise(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def seen(views):
    """Undo the normalization: pixels 0 to 255, ``(B, T, T, 3)``."""
    std, mean = torch.tensor(STD).view(3, 1, 1), torch.tensor(MEAN).view(3, 1, 1)
    return ((views * std + mean) * 255).permute(0, 2, 3, 1)


def whole(count, **changes):
    full = {
        "left": torch.zeros(count), "top": torch.zeros(count), "width": torch.ones(count),
        "height": torch.ones(count), "is_flipped": torch.zeros(count, dtype=torch.bool),
    }  # fmt: skip
    return Crops(**full | changes)


def close(one, other, atol=0.01):
    torch.testing.assert_close(one.float(), other.float(), atol=atol, rtol=0)


def test_identity_gives_the_pixels_back():
    pixels = noise(3, 32)
    lens = BatchTransform(preprocessing(32), CPU)
    unchanged = Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    crops = draw_crops(draw_chances(3, seed=0, epoch=1), unchanged)
    close(seen(lens.train_inputs(pixels, crops)), pixels)
    close(seen(lens.eval_inputs(pixels)), pixels)


def test_flips_flip_left_and_right():
    pixels = noise(2, 32)
    crops = whole(2, is_flipped=torch.tensor([True, False]))
    views = seen(BatchTransform(preprocessing(32), CPU).train_inputs(pixels, crops))
    close(views[0], pixels[0].flip(1))
    close(views[1], pixels[1])


def test_a_crop_on_pixel_borders_is_that_part_of_the_image():
    pixels = noise(2, 64)
    crops = whole(
        2,
        left=torch.tensor([0.25, 0.5]), top=torch.tensor([0.125, 0.0]),
        width=torch.full((2,), 0.5), height=torch.full((2,), 0.5),
    )  # fmt: skip
    views = seen(BatchTransform(preprocessing(32), CPU).train_inputs(pixels, crops))
    close(views[0], pixels[0, 8:40, 16:48])
    close(views[1], pixels[1, 0:32, 32:64])


def test_a_crop_is_enlarged_as_a_naive_loop_does():
    pixels = noise(1, 8)
    left, top, width, height, size = 0.2, 0.1, 0.6, 0.7, 12
    crops = Crops(*(torch.tensor([v]) for v in (left, top, width, height, True)))
    view = seen(BatchTransform(preprocessing(size), CPU).train_inputs(pixels, crops))[0].numpy()
    image = pixels[0].numpy().astype(float)
    for i in range(size):
        for j in range(size):
            y = min(max((top + height * (i + 0.5) / size) * 8 - 0.5, 0), 7)
            x = min(max((left + width * (1 - (j + 0.5) / size)) * 8 - 0.5, 0), 7)
            y0, x0 = math.floor(y), math.floor(x)
            y1, x1, dy, dx = min(y0 + 1, 7), min(x0 + 1, 7), y - y0, x - x0
            upper = image[y0, x0] * (1 - dx) + image[y0, x1] * dx
            lower = image[y1, x0] * (1 - dx) + image[y1, x1] * dx
            np.testing.assert_allclose(view[i, j], upper * (1 - dy) + lower * dy, atol=0.01)


@given(
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted).map(tuple),
    ratio=st.tuples(st.floats(0.2, 1), st.floats(1, 5)),
    seed=st.integers(0, 2**40),
)
def test_crops_stay_inside_and_keep_to_the_ranges(scale, ratio, seed):
    augment = Augment(scale=scale, ratio=ratio)
    crops = draw_crops(draw_chances(200, seed=seed, epoch=3), augment)
    for start, length in ((crops.left, crops.width), (crops.top, crops.height)):
        assert start.min() >= 0
        assert length.min() > 0
        assert (start + length).max() <= 1 + 1e-6
    area, shape = crops.width * crops.height, crops.width / crops.height
    assert area.min() >= scale[0] * (1 - 1e-5)
    assert area.max() <= scale[1] * (1 + 1e-5)
    assert shape.min() >= ratio[0] * (1 - 1e-5)
    assert shape.max() <= ratio[1] * (1 + 1e-5)


def test_draws_are_uniform_and_independent_of_each_other():
    crops = draw_crops(draw_chances(40_000, seed=7, epoch=1), Augment(scale=(0.2, 1)))
    area = (crops.width * crops.height).double()
    assert abs(area.mean() - 0.6) < 0.005
    assert abs(area.var() - 0.8**2 / 12) < 0.002
    x = (crops.left / (1 - crops.width).clamp(min=1e-6)).double()
    y = (crops.top / (1 - crops.height).clamp(min=1e-6)).double()
    assert abs(crops.is_flipped.double().mean() - 0.5) < 0.01
    other = draw_crops(draw_chances(40_000, seed=7, epoch=2), Augment(scale=(0.2, 1)))
    drawn = [area, x, y, crops.is_flipped.double(), (other.width * other.height).double()]
    close(torch.corrcoef(torch.stack(drawn)), torch.eye(5), atol=0.025)
    assert abs(torch.corrcoef(torch.stack([area[1:], area[:-1]]))[0, 1]) < 0.02


def test_a_sample_has_its_chances_whichever_other_samples_there_are():
    few, many = (draw_chances(count, seed=3, epoch=4) for count in (10, 1000))
    np.testing.assert_array_equal(few, many[:10])
    assert not np.isclose(few, draw_chances(10, seed=3, epoch=5)).any()
    assert not np.isclose(few, draw_chances(10, seed=4, epoch=4)).any()


def test_the_evaluation_view_is_the_square_that_the_network_was_made_for():
    wanted = preprocessing(48, 0.875)
    smooth = np.add.outer(np.arange(120) % 97, np.arange(90) * 1.5)
    picture = Image.fromarray(smooth.astype(np.uint8)).convert("RGB")
    stored = stored_square(wanted).pixels(picture)
    view = seen(BatchTransform(wanted, CPU).eval_inputs(torch.from_numpy(stored)[None]))[0]
    direct = torch.from_numpy(wanted.pixels(picture)).float()
    assert view.shape == direct.shape
    assert (view - direct).abs().mean() < 4
    close(view, torch.from_numpy(stored)[4:52, 4:52])  # nothing was resized twice


def test_a_square_stored_with_room_is_scored_at_the_right_size():
    wanted = preprocessing(32)
    ramp = torch.arange(36).mul(7).clamp(max=255).to(torch.uint8).view(1, 1, 36, 1)
    pixels = ramp.expand(1, 36, 36, 3).contiguous()
    view = seen(BatchTransform(wanted, CPU).eval_inputs(pixels))
    assert view.shape == (1, 32, 32, 3)
    assert abs(view.mean() - pixels.float().mean()) < 1


def test_views_come_normalized_and_channels_last():
    pixels = noise(4, 32)
    lens = BatchTransform(preprocessing(32), CPU)
    views = lens.train_inputs(pixels, draw_crops(draw_chances(4, seed=0, epoch=1), Augment()))
    for tensor in (views, lens.eval_inputs(pixels)):
        assert tensor.shape == (4, 3, 32, 32)
        assert tensor.dtype == torch.float32
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    naive = (pixels.numpy() / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(
        lens.eval_inputs(pixels).permute(0, 2, 3, 1), naive, rtol=1e-4, atol=1e-5
    )


def test_two_processes_see_what_one_sees():
    values = noise(50, 16).numpy()
    one, other = (
        {
            int(row): view
            for rank in range(world_size)
            for rows, views in ImageViews(
                StoredPixels(values), preprocessing(16), Augment(), CPU,
                rank=rank, world_size=world_size,
            ).training(np.arange(50), 24 // world_size, seed=9, epoch=2)
            for row, view in zip(rows, views, strict=True)
        }
        for world_size in (1, 2)
    )  # fmt: skip
    assert one.keys() == other.keys() == set(range(50))
    for row, view in one.items():
        assert torch.equal(view, other[row])


def test_an_epoch_gives_the_same_views_whenever_it_is_asked_for():
    views = ImageViews(StoredPixels(noise(50, 16).numpy()), preprocessing(16), Augment(), CPU)
    first = list(views.training(np.arange(50), 8, seed=1, epoch=2))
    again = list(views.training(np.arange(50), 8, seed=1, epoch=2))
    assert len(first) == len(views.step_sizes(np.arange(50), 8))
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_evaluation_yields_every_row_with_its_plain_view():
    pixels = noise(21, 16)
    views = ImageViews(StoredPixels(pixels.numpy()), preprocessing(16), Augment(), CPU)
    rows, inputs = map(torch.cat, zip(*views.evaluation(np.arange(21), 4), strict=True))
    assert rows.tolist() == list(range(21))
    close(seen(inputs), pixels)


@pytest.mark.parametrize(
    "wrong",
    [{"scale": (0, 1)}, {"scale": (0.9, 0.5)}, {"ratio": (1.2, 1.4)}, {"flip": 1.5}],
)
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ConfigError) as caught:
        Augment(**wrong)
    assert caught.value.hint


def test_digits_are_not_mirrored_even_with_many_wrong_labels():
    digits = load_digits()
    values = np.repeat((digits.images * 15).astype(np.uint8)[..., None], 3, axis=3)
    values = values.repeat(4, axis=1).repeat(4, axis=2)
    assert mirror_asymmetry(values, digits.target) > 0.2
    noisy = np.where(np.arange(len(values)) % 10 < 6, digits.target[::-1], digits.target)
    assert flip_probability(values, noisy) == 0


def test_things_that_are_turned_either_way_are_mirrored():
    chance = np.random.default_rng(0)
    values = load_digits().images[:900].repeat(2, axis=1).repeat(2, axis=2)
    turned = np.where(chance.random(900)[:, None, None] < 0.5, values[:, :, ::-1], values)
    pixels = np.repeat((turned * 15).astype(np.uint8)[..., None], 3, axis=3)
    labels = load_digits().target[:900].astype(np.int64)
    assert abs(mirror_asymmetry(pixels, labels)) < 0.02
    assert flip_probability(pixels, labels) == 0.5
    assert flip_probability(pixels[:0], labels[:0]) == 0.5
    assert flip_probability(pixels[:3], np.full(3, -1)) == 0.5
