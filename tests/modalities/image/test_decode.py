"""Decoding: what Pillow reads comes out as upright 8-bit RGB, the rest as a reason."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image, ImageOps

from labelfix.errors import UnreadableSample
from labelfix.modalities.image.decode import decode_image
from labelfix.utils.sample_reader import DIGEST_BYTES, content_digest


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def photo(width: int = 48, height: int = 32) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    channels = np.stack([rows * 255 // height, columns * 255 // width, (rows ^ columns) & 255], 2)
    return Image.fromarray(channels.astype(np.uint8))


def reason_of(data: bytes) -> str:
    with pytest.raises(UnreadableSample) as caught:
        decode_image(data)
    return str(caught.value)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_lossless_rgb_comes_back_as_it_was(form):
    assert np.array_equal(decode_image(encoded(photo(), form)), photo())


def test_jpeg_is_what_pillow_decodes():
    data = encoded(photo(32, 32), "JPEG")
    assert np.array_equal(decode_image(data, at_least=32), Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF", "JPEG2000"])
def test_lossy_forms_give_rgb_of_the_same_size(form):
    image = decode_image(encoded(photo(), form))
    assert (image.mode, image.size) == ("RGB", (48, 32))


@pytest.mark.parametrize(
    ("mode", "form", "value", "expected"),
    [
        ("1", "PNG", 1, (255, 255, 255)),
        ("L", "PNG", 90, (90, 90, 90)),
        ("LA", "PNG", (90, 255), (90, 90, 90)),
        ("RGBA", "PNG", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", "PNG", (10, 20, 30, 0), (255, 255, 255)),
        ("CMYK", "TIFF", (0, 255, 255, 0), (255, 0, 0)),
        ("I;16", "PNG", 0x80FF, (0x80, 0x80, 0x80)),
        ("I;16", "TIFF", 65535, (255, 255, 255)),
        ("I", "TIFF", 0x40FF, (0x40, 0x40, 0x40)),
    ],
)
def test_every_mode_becomes_rgb(mode, form, value, expected):
    image = decode_image(encoded(Image.new(mode, (5, 4), value), form))
    assert image.mode == "RGB"
    assert image.getpixel((2, 2)) == expected


def test_half_transparent_is_laid_on_white():
    data = encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)))
    assert decode_image(data).getpixel((0, 0)) == (127, 127, 127)


def test_palette_with_and_without_a_transparent_color():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert decode_image(encoded(image)).getpixel((0, 0)) == (200, 100, 50)
    assert decode_image(encoded(image, transparency=1)).getpixel((0, 0)) == (255, 255, 255)
    clear = encoded(image, transparency=bytes([255, 0]))
    assert decode_image(clear).getpixel((0, 0)) == (255, 255, 255)


def test_rgb_with_a_transparent_color_is_laid_on_white():
    data = encoded(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))
    assert decode_image(data).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[-1.0, 0.0, 3.0]], [[0, 64, 255]]),
        ([[5.0, 5.0]], [[5, 5]]),
        ([[np.nan, 0.0, 1.0, np.inf]], [[0, 0, 255, 255]]),
    ],
)
def test_float_grey_is_stretched_over_its_finite_values(values, expected):
    data = encoded(Image.fromarray(np.array(values, dtype=np.float32)), "TIFF")
    assert np.asarray(decode_image(data))[..., 0].tolist() == expected


def test_32_bit_grey_beyond_16_bits_is_stretched():
    data = encoded(Image.fromarray(np.array([[0, 100_000, 200_000]], dtype=np.int32)), "TIFF")
    assert np.asarray(decode_image(data))[..., 0].tolist() == [[0, 127, 255]]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form, orientation):
    upright = Image.new("RGB", (32, 16), "blue")
    upright.paste("red", (0, 0, 16, 8))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that 2..8 take back
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode_image(encoded(stored, form, exif=exif))
    assert image.size == (32, 16)
    red, blue = image.getpixel((4, 3)), image.getpixel((28, 13))
    assert red[0] > 200 > 60 > red[2]
    assert blue[2] > 200 > 60 > blue[0]


@settings(deadline=None, max_examples=40)
@given(
    pixels=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    orientation=st.integers(0, 10),
    form=st.sampled_from(["PNG", "TIFF", "WEBP"]),
)
def test_an_image_is_turned_as_pillow_turns_it(pixels, orientation, form):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(Image.fromarray(pixels), form, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(np.asarray(decode_image(data)), np.asarray(expected))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_cannot_be_read_is_passed_over():
    data = encoded(photo(), "JPEG", exif=b"Exif\0\0" + b"MM\0*" + b"\xff" * 20)
    assert decode_image(data).size == (48, 32)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_stands_for_an_animation(form):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    red, green, blue = decode_image(data).getpixel((4, 4))
    assert red > 240
    assert max(green, blue) < 15


def test_a_large_jpeg_is_decoded_smaller_but_never_below_what_is_needed():
    data = encoded(photo(801, 533), "JPEG")
    assert decode_image(data).size == (801, 533)
    for at_least in (1, 64, 100, 133, 134, 266, 267, 300, 600):
        width, height = decode_image(data, at_least=at_least).size
        assert min(width, height) >= min(at_least, 533)
        assert width / height == pytest.approx(801 / 533, rel=0.02)
    assert decode_image(data, at_least=100).size == (201, 134)


def test_an_empty_file():
    assert reason_of(b"") == "empty file (0 bytes)"


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"Python is a language",
        b"BM, he said",
        b"P6 x",
    ],
)
def test_what_is_not_an_image(data):
    assert reason_of(data) == "not an image"


def test_postscript_is_never_run():
    assert "EPS" in reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\n")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_image(form, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    assert reason_of(data[: int(len(data) * kept)]) == "truncated image"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP"])
@pytest.mark.parametrize("kept", [2, 5, 20, 30])
def test_an_image_cut_in_its_header(form, kept):
    assert reason_of(encoded(photo(), form)[:kept]) == "truncated image"


def test_a_damaged_image_says_what_pillow_found():
    data = bytearray(encoded(photo()))
    data[60:90] = b"\0" * 30
    assert reason_of(bytes(data)).startswith("broken image: ")


@pytest.mark.parametrize("size", [(60_000, 60_000), (13_378, 13_378)])
def test_a_decompression_bomb_is_not_opened(size):
    width, height = size
    reason = reason_of(png_claiming(width, height))
    assert reason.startswith(f"too large: {width} x {height} pixels; --max-pixels ")


def test_a_merely_large_image_is_read_without_a_warning():  # warnings are errors here
    assert decode_image(encoded(Image.new("1", (13_300, 7_000)), "PNG")).size == (13_300, 7_000)


def test_settings_of_pillow_are_neither_used_nor_changed(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_image(encoded(photo())).size == (48, 32)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_threads_agree():
    data = [encoded(photo(20 + step, 30), form) for step in range(20) for form in ("JPEG", "PNG")]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda one: decode_image(one).tobytes(), data))
    assert together == [decode_image(one).tobytes() for one in data]


def test_digests_tell_bytes_apart():
    assert content_digest(b"a") == content_digest(b"a") != content_digest(b"b")
    assert len(content_digest(b"")) == DIGEST_BYTES == 16
