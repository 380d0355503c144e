"""Copies of a picture agree in every part; what was drawn anew in one part does not."""

import io

import numpy as np
import pytest
from altered_photographs import cropped, photograph, reencoded
from encoded_images import MemoryImages
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from labelfix.modalities.image.decode import USUAL
from labelfix.modalities.image.same_picture import least_agreement

THRESHOLD = 0.8
TITLES = (("JAZZ NIGHT", "2 March"), ("CHESS CLUB", "17 July"), ("FLEA MARKET", "30 May"))


def flyer(title, date):
    """Return one of a series: only the title and the date are its own."""
    page = Image.new("RGB", (600, 840), (244, 236, 214))
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, 600, 110), (30, 40, 90))
    pen.text((30, 30), "CITY EVENTS", (250, 250, 250), ImageFont.load_default(50))
    page.paste(photograph(5, side=400).resize((520, 330)), (40, 140))
    pen.text((40, 500), title, (20, 20, 20), ImageFont.load_default(60))
    pen.text((40, 620), date, (20, 20, 20), ImageFont.load_default(60))
    pen.rectangle((0, 780, 600, 840), (30, 40, 90))
    return page


def lid(word):
    """Return a round lid with rings, of which only the print differs from lid to lid."""
    picture = photograph(8, side=400)
    pen = ImageDraw.Draw(picture)
    for ring in range(10):
        reach = 180 - 5 * ring
        tone = 150 + 12 * (ring % 3)
        box = (200 - reach, 200 - reach, 200 + reach, 200 + reach)
        pen.ellipse(box, (tone, tone - 20, tone - 60))
    pen.text((110, 170), word, (40, 30, 20), ImageFont.load_default(56))
    return picture


def encoded(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def agreement(*images):
    store = MemoryImages([encoded(image) for image in images])
    rows = np.arange(len(images))
    first, second = np.repeat(rows, len(rows)), np.tile(rows, len(rows))
    is_pair = first < second
    return least_agreement(store, first[is_pair], second[is_pair], USUAL)


COPIES = {
    "itself": lambda image: image,
    "encoded anew": reencoded,
    "made smaller": lambda image: image.resize((image.width * 2 // 3, image.height * 2 // 3)),
    "stretched": lambda image: image.resize((image.width, image.height * 5 // 4)),
    "cropped": lambda image: cropped(image, image.width // 20, image.width // 30, 1, 0),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "of more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("side", [40, 80, 400])
def test_a_copy_agrees_in_every_part(way, side):
    image = photograph(3, side=side)
    assert agreement(image, COPIES[way](image)) >= THRESHOLD


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_a_flyer_agrees_with_its_text(way):
    image = flyer(*TITLES[0])
    assert agreement(image, COPIES[way](image)) >= THRESHOLD


def test_flyers_of_one_series_differ():
    assert (agreement(*(flyer(*text) for text in TITLES)) < THRESHOLD).all()


def test_lids_with_another_print_differ():
    assert (agreement(*map(lid, ("PLUM", "PEAR", "FIG"))) < THRESHOLD).all()


def test_other_pictures_differ_and_what_cannot_be_decoded_agrees_with_nothing():
    store = MemoryImages([encoded(photograph(0)), encoded(photograph(1)), b"no image"])
    first, second = np.array([0, 0, 2]), np.array([1, 2, 2])
    found = least_agreement(store, first, second, USUAL)
    assert found[0] < 0.5
    assert found[1:].tolist() == [0, 0]


def test_no_pair_is_no_error():
    nobody = np.empty(0, np.int64)
    assert least_agreement(MemoryImages([]), nobody, nobody, USUAL).shape == (0,)


def test_the_order_of_pairs_changes_nothing():
    images = [photograph(seed, side=100) for seed in range(4)]
    images += [cropped(image, 4, 0, 0, 3) for image in images]
    store = MemoryImages([encoded(image) for image in images])
    first, second = np.repeat(np.arange(4), 8), np.tile(np.arange(8), 4)
    found = least_agreement(store, first, second, USUAL)
    mixed = np.random.default_rng(0).permutation(len(first))
    again = least_agreement(store, first[mixed], second[mixed], USUAL)
    assert again.tobytes() == found[mixed].tobytes()
