"""One picture is laid on another: where a crop lies is found to a fraction of a pixel."""

import numpy as np
import pytest
from altered_photographs import photograph

from labelfix.modalities.image.alignment import Sampler, align, reduced, smoothed
from labelfix.modalities.image.similarity import best_placements

WHOLE = np.array([[0, 0, 1, 1]], np.float32)


def grey(image):
    return np.asarray(image.convert("L").resize((128, 128)))[None]


@pytest.mark.parametrize("box", [(0, 0, 500, 500), (7, 20, 500, 512), (40, 12, 480, 470)])
def test_a_crop_is_found_where_it_was_cut(box):
    image = photograph(2, side=512)
    whole, crop = grey(image), grey(image.crop(box))
    left, top, right, bottom = box
    truth = np.array([left, top, right - left, bottom - top]) / 512
    rough = best_placements(*(np.rint(reduced(one, 32)).astype(np.uint8) for one in (crop, whole)))
    [inside] = align(crop, whole, rough, side=128)
    np.testing.assert_allclose(inside, truth, atol=0.004)
    rough = best_placements(*(np.rint(reduced(one, 32)).astype(np.uint8) for one in (whole, crop)))
    [beyond] = align(whole, crop, rough, side=128)
    x, y, width, height = truth
    np.testing.assert_allclose(beyond, [-x / width, -y / height, 1 / width, 1 / height], atol=0.004)


def test_pictures_without_detail_have_no_place_and_are_no_error():
    flat = np.full((2, 128, 128), 90, np.uint8)
    placements = align(flat, flat, np.repeat(WHOLE, 2, axis=0), side=128)
    assert np.isfinite(placements).all()


def test_a_sampler_of_the_whole_changes_nothing():
    picture = np.random.default_rng(0).uniform(0, 255, (1, 16, 16)).astype(np.float32)
    sampler = Sampler.of(WHOLE, 16)
    np.testing.assert_allclose(sampler.sampled(picture), picture, rtol=1e-5)
    assert sampler.mask.all()
    half = Sampler.of(np.array([[0.5, 0, 1, 1]], np.float32), 16)
    assert half.mask[0].sum() == 8 * 16
    np.testing.assert_allclose(half.sampled(picture)[0, :, :8], picture[0, :, 8:], rtol=1e-4)


def test_a_gaussian_keeps_the_mean_and_takes_away_what_is_fine():
    rng = np.random.default_rng(0)
    flat, noise = np.full((1, 32, 32), 7, np.float32), rng.normal(size=(1, 32, 32))
    np.testing.assert_allclose(smoothed(flat, 1.0), flat, rtol=1e-5)
    assert smoothed(noise.astype(np.float32), 1.0).std() < 0.4 * noise.std()
