"""Near-duplicates: copies are found, what is only alike is not, and chains come to an end."""

import numpy as np
import pytest
from altered_photographs import cropped, photograph, reencoded
from PIL import Image, ImageFilter

from labelfix.issues.near_duplicates import find_near_duplicates
from labelfix.issues.types import Neighbors
from labelfix.modalities.image.decode import measure
from labelfix.modalities.image.similarity import VIEW, Pairs, pixel_similarity
from labelfix.types import MISSING

COPIES = {
    "encoded anew": reencoded,
    "made smaller": lambda image: image.resize((70, 90)),
    "made larger": lambda image: image.resize((200, 180)),
    "cropped all around": lambda image: cropped(image, 5, 6, 4, 5),
    "cropped at a corner": lambda image: cropped(image, 0, 0, 14, 12),
    "made brighter": lambda image: image.point(lambda value: min(255, int(value * 1.2))),
    "a little softer": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
}


def thumbnails_of(images):
    return np.stack([measure(image, image.size).thumbnail for image in images])


def similarity_of(thumbnails):
    return lambda first, second: pixel_similarity(thumbnails, Pairs(first, second))


def alike(*images):
    pairs = [(i, j) for i in range(len(images)) for j in range(i)]
    first, second = np.array(pairs).T
    return pixel_similarity(thumbnails_of(images), Pairs(first, second))


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_alike(way):
    for seed in range(3):
        image = photograph(seed)
        assert alike(image, COPIES[way](image)) > 0.75


def test_the_same_picture_is_wholly_alike_and_pairs_have_no_direction():
    images = [photograph(0), photograph(0), cropped(photograph(0), 9, 0, 0, 9), photograph(1)]
    thumbnails = thumbnails_of(images)
    assert alike(images[0], images[1])[0] == pytest.approx(1, abs=1e-4)
    first, second = np.array([0, 1, 2, 3]), np.array([2, 3, 3, 0])
    there = pixel_similarity(thumbnails, Pairs(first, second))
    back = pixel_similarity(thumbnails, Pairs(second, first))
    np.testing.assert_allclose(there, back, atol=1e-6)


def test_other_pictures_are_not_even_loosely_alike():
    assert alike(*(photograph(seed) for seed in range(12))).max() < 0.5


def test_a_common_frame_does_not_make_pictures_alike():
    framed = []
    for seed in range(4):
        image = photograph(seed)
        page = Image.new("RGB", image.size, "white")
        page.paste(image.resize((116, 116)), (6, 6))
        framed.append(page)
    assert alike(*framed).max() < 0.5


def test_a_speck_on_a_plain_sky_does_not_make_pictures_alike():
    skies = []
    for size in ((20, 8), (14, 12), (10, 20)):
        sky = Image.new("RGB", (128, 128), (90, 120, 200))
        sky.paste((20, 20, 20), (58, 60, 58 + size[0], 60 + size[1]))
        skies.append(sky)
    assert alike(*skies).max() < 0.75


def test_pictures_without_detail_share_none():
    plain = [Image.new("RGB", (40, 40), color) for color in ("white", "white", "black")]
    assert (alike(*plain) == 0).all()


def test_the_correlation_is_that_of_a_naive_loop():
    whole, other = photograph(0), photograph(1)
    [value] = alike(whole, other)
    blocks = [
        np.asarray(thumbnail, np.float64).reshape(VIEW, 2, VIEW, 2).mean((1, 3))
        for thumbnail in thumbnails_of([whole, other])
    ]
    details = []
    for view in blocks:
        padded = np.pad(view, 1, mode="edge")
        detail = np.zeros_like(view)
        for y in range(VIEW):
            for x in range(VIEW):
                detail[y, x] = view[y, x] - padded[y : y + 3, x : x + 3].mean()
        details.append(detail / np.sqrt((detail**2).sum()))
    naive = float((details[0] * details[1]).sum())
    assert value >= naive - 1e-5  # the best cut is at least as good as none
    [same] = alike(whole, whole)
    assert same == pytest.approx(1, abs=1e-4)


def everyone(count):
    """Return neighbors among few: everybody."""
    rows = np.array([[other for other in range(count) if other != row] for row in range(count)])
    return Neighbors(rows, np.ones(rows.shape, np.float32))


def sets_of(images, threshold=0.25):
    return find_near_duplicates(
        similarity_of(thumbnails_of(images)), everyone(len(images)), threshold=threshold
    )


def test_copies_are_grouped_and_the_rest_is_alone():
    images = [photograph(seed) for seed in range(12)]
    images += [reencoded(images[0]), cropped(images[0], 4, 4, 4, 4), images[5].resize((64, 64))]
    found = sets_of(images)
    assert found.sets[[0, 12, 13]].tolist() == [0, 0, 0]
    assert found.sets[[5, 14]].tolist() == [5, 5]
    assert (np.delete(found.sets, [0, 12, 13, 5, 14]) == MISSING).all()
    assert (found.score[[0, 12, 13, 5, 14]] < found.limit).all()
    assert (np.delete(found.score, [0, 12, 13, 5, 14]) > 0.4).all()


def test_a_chain_of_small_steps_does_not_join_unlike_pictures():
    wide = photograph(3, side=512)
    sides = [round(512 * 0.94**step) for step in range(14)]
    steps = [wide.crop((0, 0, side, side)) for side in sides]
    found = sets_of([*steps, *(photograph(seed) for seed in range(20, 30))])
    sets = found.sets[: len(steps)]
    assert ((found.score < found.limit) == (found.sets != MISSING)).all()
    assert sets[0] != sets[-1]
    for number in set(sets.tolist()) - {MISSING}:
        members = np.flatnonzero(sets == number)
        assert alike(*(steps[member] for member in members)).min() > 0.3


def test_where_all_are_much_alike_a_copy_has_to_stand_out():
    rng = np.random.default_rng(0)
    base = np.asarray(photograph(0), np.float32)
    unlike = [
        Image.fromarray((base + rng.normal(0, 12, base.shape)).clip(0, 255).astype(np.uint8))
        for _ in range(14)
    ]
    found = sets_of(unlike)
    assert found.limit < 0.05
    assert (found.sets == MISSING).all()


def test_a_threshold_of_zero_finds_none():
    found = sets_of([photograph(0), photograph(0), photograph(1)], threshold=0)
    assert (found.sets == MISSING).all()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pictures_are_no_error(count):
    images = np.zeros((count, 32, 32), np.uint8)
    nobody = Neighbors(np.zeros((count, 0), np.int64), np.zeros((count, 0), np.float32))
    found = find_near_duplicates(similarity_of(images), nobody, threshold=0.25)
    assert (found.sets == MISSING).all()
    assert (found.score == 1).all()


def test_what_is_alike_loosely_has_to_be_so_closely():
    images = [photograph(seed) for seed in range(12)]
    images += [reencoded(images[0]), reencoded(images[1])]
    asked = []

    def closely(first, second):
        asked.extend(zip(first.tolist(), second.tolist(), strict=True))
        return np.where(first == 0, 0.9, 0.3).astype(np.float32)

    loosely = similarity_of(thumbnails_of(images))
    found = find_near_duplicates(loosely, everyone(14), threshold=0.25, closely=closely)
    assert sorted(asked) == [(0, 12), (1, 13)]
    assert found.sets[[0, 12]].tolist() == [0, 0]
    assert found.sets[[1, 13]].tolist() == [MISSING, MISSING]
    assert found.score[[1, 13]] == pytest.approx(0.7)
    assert (found.score < found.limit).sum() == 2


def test_of_many_copies_the_likeliest_are_compared_closely():
    images = [photograph(seed) for seed in range(20)]
    images += [reencoded(images[0], quality) for quality in range(30, 90, 6)]
    asked = []

    def closely(first, second):
        asked.append(len(first))
        return np.ones(len(first), np.float32)

    loosely = similarity_of(thumbnails_of(images))
    found = find_near_duplicates(loosely, everyone(30), threshold=0.25, closely=closely)
    assert sum(asked) <= 3 * 11
    assert (found.sets[[0, *range(20, 30)]] == 0).all()
