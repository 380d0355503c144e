"""Images of more than 8 bits: what a data set uses becomes black to white, once for all."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from encoded_images import MemoryImages
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiff_files import tiff

from labelfix.config import ImageConfig
from labelfix.data.stores import FileImages
from labelfix.errors import ConfigError
from labelfix.modalities.image.decode import Decoding, decode_image
from labelfix.modalities.image.survey import LOOKED_AT, survey_images
from labelfix.modalities.image.value_ranges import ValueRanges

RNG = np.random.default_rng(0)


def photo(seed: int = 0, size: int = 24) -> np.ndarray:
    """Return a picture of 8 bits that uses them all."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, size * size).reshape(size, size)
    return np.clip(ramp + rng.normal(0, 20, (size, size)), 0, 255).astype(np.uint8)


def png_16(values: np.ndarray) -> bytes:
    """Write a PNG of 16 bits: grey, grey and alpha, RGB or RGBA."""
    bands = values.shape[2] if values.ndim == 3 else 1
    color = {1: 0, 2: 4, 3: 2, 4: 6}[bands]

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, color, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def pgm_16(values: np.ndarray) -> bytes:
    return (
        f"P5 {values.shape[1]} {values.shape[0]} 65535\n".encode() + values.astype(">u2").tobytes()
    )


def saved(values: np.ndarray, form: str = "TIFF", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form, **options)
    return buffer.getvalue()


def decoded(data: list[bytes], **config: object) -> list[np.ndarray]:
    survey = survey_images(MemoryImages(data), ImageConfig(**config))
    return [np.asarray(decode_image(one, decoding=survey.decoding)) for one in data]


def said(data: list[bytes], **config: object) -> str:
    survey = survey_images(MemoryImages(data), ImageConfig(**config))
    assert {one.topic for one in survey.assumptions} <= {"values"}
    return "; ".join(one.text for one in survey.assumptions)


WRITERS = {
    "uint16 tiff": lambda v: tiff(v.astype(np.uint16)),
    "uint16 big-endian tiff": lambda v: tiff(v.astype(np.uint16), ">"),
    "uint16 png": lambda v: png_16(v.astype(np.uint16)),
    "int16 tiff": lambda v: tiff(v.astype(np.int16)),
    "int32 tiff": lambda v: tiff(v.astype(np.int32), ">"),
    "uint32 tiff": lambda v: tiff(v.astype(np.uint32)),
    "float32 tiff": lambda v: tiff(v.astype(np.float32)),
    "float64 tiff": lambda v: tiff(v.astype(np.float64), ">"),
    "float16 tiff": lambda v: tiff(v.astype(np.float16)),
    "unit float tiff": lambda v: tiff((v / 255).astype(np.float32)),
    "lzw int32": lambda v: saved(v.astype(np.int32), compression="tiff_lzw"),
    "deflate uint16": lambda v: saved(v.astype(np.uint16), compression="tiff_adobe_deflate"),
}


@pytest.mark.parametrize("form", WRITERS)
def test_8_bit_values_look_like_the_8_bit_image(form: str) -> None:
    pictures = [photo(seed) for seed in range(4)]
    for picture, rgb in zip(pictures, decoded([WRITERS[form](p) for p in pictures]), strict=True):
        for channel in range(3):
            np.testing.assert_array_equal(rgb[..., channel], picture)


@pytest.mark.parametrize("write", [tiff, png_16], ids=["tiff", "png"])
def test_16_bit_colors_look_like_8_bit_colors(write) -> None:
    color = RNG.integers(0, 256, (12, 10, 3)).astype(np.uint16)
    (rgb,) = decoded([write(color)])
    np.testing.assert_array_equal(rgb, color)
    (rgb,) = decoded([write(color * 257)])
    np.testing.assert_array_equal(rgb, color)


def test_16_bit_alpha_is_laid_on_white() -> None:
    color = RNG.integers(0, 65536, (12, 10, 4)).astype(np.uint16)
    color[..., 3] = 0
    color[0, 0, 3] = 65535
    for data in (png_16(color), tiff(color, photometric=2, extra=2)):
        (rgb,) = decoded([data])
        np.testing.assert_array_equal(rgb[0, 0], color[0, 0, :3] >> 8)
        assert (rgb[1:] == 255).all()
    grey = np.dstack([color[..., 0], color[..., 3]])
    (rgb,) = decoded([png_16(grey)])
    assert (rgb[1:] == 255).all()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_bits_within_16_keep_their_grey_levels(bits: int) -> None:
    pictures = [RNG.integers(0, 2**bits, (32, 32)).astype(np.uint16) for _ in range(3)]
    data = [tiff(picture) for picture in pictures]
    for picture, rgb in zip(pictures, decoded(data), strict=True):
        np.testing.assert_array_equal(rgb[..., 0], picture >> (bits - 8))
    assert f"values of 16-bit images from 0..{2**bits - 1} were scaled" in said(data)
    assert "--value-range" in said(data)


def test_one_pixel_of_nodata_changes_nothing() -> None:
    picture = photo().astype(np.float32) * 10
    spoiled = picture.copy()
    spoiled[3, 3] = -9999
    plain, rgb = decoded([tiff(picture), tiff(spoiled)])
    assert len(np.unique(rgb)) > 100
    is_kept = spoiled == picture
    np.testing.assert_array_equal(plain[is_kept], rgb[is_kept])


@pytest.mark.parametrize(
    ("kind", "nodata"),
    [(np.int16, -32768), (np.int16, -9999), (np.uint16, 65535), (np.float32, -9999),
     (np.float32, np.nan), (np.float32, np.inf), (np.float64, -1.7e308), (np.float32, 3.4e38)],
)  # fmt: skip
def test_borders_of_nodata_change_nothing(kind, nodata) -> None:
    shuffled = RNG.permutation(photo().reshape(-1)).reshape(24, 24)
    picture = (shuffled.astype(np.float64) * 16).astype(kind)
    framed = picture.copy()
    framed[:8] = nodata
    framed[:, :3] = nodata
    (plain,), (rgb,) = decoded([tiff(picture)]), decoded([tiff(framed)])
    np.testing.assert_allclose(plain[8:, 3:].astype(int), rgb[8:, 3:].astype(int), atol=6)
    assert len(np.unique(rgb[8:, 3:])) > 100


def test_kinds_have_ranges_of_their_own_and_8_bits_stay() -> None:
    eight = photo()
    data = [saved(eight, "PNG"), tiff(photo(1).astype(np.uint16) * 16), tiff(photo(2) / 255)]
    plain, twelve, unit = decoded(data)
    np.testing.assert_array_equal(plain[..., 0], eight)
    np.testing.assert_array_equal(twelve[..., 0], photo(1))
    np.testing.assert_array_equal(unit[..., 0], photo(2))
    assert said(data).startswith(
        "values of 64-bit float images from 0..1 and 16-bit images from 0..4095 were scaled"
    )


def test_the_user_may_say_the_range() -> None:
    picture = RNG.integers(0, 65536, (9, 9)).astype(np.uint16)
    (rgb,) = decoded([tiff(picture)], value_range=(1000, 2023))
    expected = np.clip((picture.astype(int) - 1000) // 4, 0, 255)
    np.testing.assert_array_equal(rgb[..., 0], expected)
    assert said([tiff(picture)], value_range=(1000, 2023)) == ""
    for odd in ((1, 1), (2, 1), (0, float("nan")), (float("-inf"), 0)):
        with pytest.raises(ConfigError, match="no range"):
            ImageConfig(value_range=odd)


def test_ranges_come_back_from_a_report() -> None:
    data = [tiff(photo().astype(np.float32) * 1e3 - 5)]
    decoding = survey_images(MemoryImages(data), ImageConfig()).decoding
    assert Decoding.from_json(decoding.to_json()) == decoding
    assert Decoding.from_json(None) == Decoding()


class Counted(FileImages):
    """Files that count which of them are read whole."""

    read_whole = 0

    def read(self, index: int) -> bytes:
        self.read_whole += 1
        return super().read(index)


def test_8_bit_images_are_not_even_read(tmp_path: Path) -> None:
    import pyarrow as pa

    names = []
    for form in ("PNG", "JPEG", "BMP", "GIF", "WEBP"):
        names.append(f"a.{form}")
        (tmp_path / names[-1]).write_bytes(saved(photo(), form))
    images = Counted(tmp_path, pa.array([name.encode() for name in names], pa.binary()))
    survey = survey_images(images, ImageConfig())
    assert survey.decoding == Decoding()
    assert survey.assumptions == ()
    assert images.read_whole == 0


def test_few_deep_images_among_many_are_found() -> None:
    plain, deep = saved(photo(), "PNG"), png_16(photo().astype(np.uint16) * 16)
    data = [plain] * (LOOKED_AT - 3) + [deep]
    assert "0..4095" in said(data)
    many = [plain] * 4000 + [deep] * 50  # one class of many, all in one place
    assert survey_images(MemoryImages(many), ImageConfig()).decoding.values.ranges
    alone = np.asarray(decode_image(deep))  # one that was missed is scaled by its own range
    np.testing.assert_array_equal(alone[..., 0], photo())


@pytest.mark.parametrize("bands", [2, 4, 5, 12])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_of_many_bands_the_first_three_are_taken(bands: int, kind: type) -> None:
    values = RNG.integers(0, 256, (10, 14, bands)).astype(kind)
    data = tiff(values)
    (rgb,) = decoded([data])
    expected = values[..., :3] if bands > 2 else np.repeat(values[..., :1], 3, axis=2)
    np.testing.assert_array_equal(rgb, expected)
    if bands > 4:
        assert f"of images with {bands} bands the first three bands were taken" in said([data])


def test_0_may_be_white() -> None:
    picture = photo().astype(np.uint16)
    (rgb,) = decoded([tiff(picture, photometric=0)])
    np.testing.assert_array_equal(rgb[..., 0], 255 - picture)


@pytest.mark.parametrize("order", "<>")
def test_predictors_and_tiles(order: str) -> None:
    """Written by hand, as Pillow writes neither for these numbers; read by any TIFF reader."""
    values = RNG.integers(0, 4096, (16, 32)).astype(np.uint16)
    plain = tiff(values, order)
    difference = np.diff(values, axis=1, prepend=np.uint16(0))
    data = bytearray(tiff(difference, order))
    # the entry of PlanarConfiguration, whose usual value it has, becomes that of the predictor
    entry = struct.pack(f"{order}HHIH", 284, 3, 1, 1)
    assert data.count(entry) == 1
    at = data.index(entry)
    data[at : at + len(entry)] = struct.pack(f"{order}HHIH", 317, 3, 1, 2)
    one, other = decoded([plain]), decoded([bytes(data)])
    np.testing.assert_array_equal(one, other)


KINDS = [np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    low=st.integers(-2000, 20_000),
    width=st.integers(64, 12_000),
    nodata=st.sampled_from([None, -9999, -32768, 32767, 65535, float("nan"), float("inf")]),
    count=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_order_grey_levels_and_equal_values(kind, low, width, nodata, count, seed) -> None:
    rng = np.random.default_rng(seed)
    if np.dtype(kind).kind == "u":
        low = abs(low)
    pictures = [rng.integers(low, low + width + 1, (20, 20)) for _ in range(count)]
    pictures[0][0, :2] = low, low + width
    stored = [picture.astype(kind) for picture in pictures]
    fits = nodata is not None and (
        np.dtype(kind).kind == "f"
        or (np.isfinite(nodata) and np.iinfo(kind).min <= nodata <= np.iinfo(kind).max)
    )
    is_far = fits and (not np.isfinite(nodata) or not low - width <= nodata <= low + 2 * width)
    if is_far:
        stored[-1][10:, 15:] = nodata
    outcome = decoded([tiff(one) for one in stored])
    seen: dict[int, set[int]] = {}
    for picture, raw, rgb in zip(pictures, stored, outcome, strict=True):
        grey = rgb[..., 0].reshape(-1).astype(int)
        is_value = (raw == picture.astype(kind)).reshape(-1)
        values = picture.reshape(-1)[is_value]
        order = np.argsort(values, kind="stable")
        assert (np.diff(grey[is_value][order]) >= 0).all()
        assert len(np.unique(grey[is_value])) >= 32
        for value, level in zip(values.tolist(), grey[is_value].tolist(), strict=True):
            seen.setdefault(value, set()).add(level)
    assert all(len(levels) == 1 for levels in seen.values())


def test_constant_images_are_neither_a_fault_nor_a_warning() -> None:
    for value in (0, 7, 4000, 65535):
        decode_image(tiff(np.full((5, 5), value, np.uint16)))
    decode_image(tiff(np.full((5, 5), np.nan, np.float32)))
    assert ValueRanges().of(np.zeros((0, 0), np.float32)).high == 1
