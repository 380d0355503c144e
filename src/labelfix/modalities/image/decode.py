"""Encoded images: decode them to RGB, or say in words why that cannot be; digest their bytes.

No setting of Pillow is changed, so that threads and other users of Pillow are left alone; only
libtiff, which Pillow brings along, is kept from writing to stderr by itself.
"""

import ctypes
import io
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps

from labelfix.errors import UnreadableSample
from labelfix.modalities.image.file_kinds import RAW_FILE, is_heic, is_jpeg_xl, kind_of_file
from labelfix.modalities.image.tiff_bands import TiffBands, open_bands
from labelfix.modalities.image.value_ranges import ValueRanges

THUMBNAIL = 32
"""T."""

LONGER_SIDE = 64
"""Pixels to which a picture is reduced before it is measured: large ones are all soft in full."""

BRIGHT_END, DARK_END = 0.99, 0.05
"""Shares of the pixels that are no brighter than what is measured."""

MEASURES = 4
"""How many figures `Appearance.measures` holds."""


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """One picture.

    Args:
        measures: ``(4,)`` float32: its side in pixels (the square root of its area, before any
            reduction); the luminance, 0 to 1, that 99 % of its pixels do not exceed; that which 5 %
            do not; the variance of the Laplacian of its luminance, in squares of 1 of 255.
        thumbnail: ``(T, T)`` luminance, the whole picture whatever its shape.
    """

    measures: NDArray[np.float32]
    thumbnail: NDArray[np.uint8]


def measure(image: Image.Image, size: tuple[int, int]) -> Appearance:
    """Return how a picture looks.

    Args:
        image: The decoded picture, RGB, maybe smaller than it was stored.
        size: Width and height as it was stored.
    """
    longest = max(image.size)
    if longest > LONGER_SIDE:
        reduced = [max(1, round(side * LONGER_SIDE / longest)) for side in image.size]
        image = image.resize((reduced[0], reduced[1]), Image.Resampling.BOX, reducing_gap=2.0)
    grey = image.convert("L")
    shares = np.cumsum(grey.histogram()) / (grey.width * grey.height)
    ends = np.searchsorted(shares, [BRIGHT_END, DARK_END]) / 255
    side = float(size[0] * size[1]) ** 0.5
    return Appearance(
        np.array([side, *ends, _laplacian_variance(np.asarray(grey))], np.float32),
        np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)),
    )


def _laplacian_variance(grey: NDArray[np.uint8]) -> float:
    """Return the variance of the 4-neighbor Laplacian; 0 where there is no inner pixel."""
    if min(grey.shape) < 3:
        return 0.0
    values = grey.astype(np.int32)
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    return float((around - 4 * values[1:-1, 1:-1]).var())


logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors go to stderr

MAX_PIXELS = 178_956_970
"""Larger images are refused unless the caller says so (the limit at which Pillow raises)."""

_HARMLESS = 64 << 20  # bytes of pixels that any machine has
_MOST_BLOWN_UP = 3000  # times; more than deflate and LZW can
_PNG = b"\x89PNG\r\n\x1a\n"
_EIGHT_BIT = (b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIGNATURES = (b"\xff\xd8\xff", _PNG, b"GIF8", *_TIFF, b"RIFF")
_HEADER_BYTES = 512  # a file that ends sooner was cut off, not damaged
_NOT_MINE = (SyntaxError, IndexError, TypeError, struct.error)  # a Pillow plugin passes
_REFUSED = frozenset({"EPS"})  # a program that Ghostscript would run, not a picture
_EXIF_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")


@dataclass(frozen=True, slots=True)
class Decoding:
    """How encoded images become pixels.

    Args:
        max_pixels: Larger images are refused, and so is, up to the usual limit, one that a few
            bytes blow up: it says nothing and takes all memory.
        values: How pixels of more than 8 bits become bytes.
    """

    max_pixels: int = field(default=MAX_PIXELS, repr=False)  # changes no pixel of those it lets in
    values: ValueRanges = field(default_factory=ValueRanges)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {"max_pixels": self.max_pixels, "values": self.values.to_json()}

    @classmethod
    def from_json(cls, values: Any) -> "Decoding":
        """Return the settings that `to_json` wrote, the usual ones where there are none."""
        try:
            return cls(int(values["max_pixels"]), ValueRanges.from_json(values["values"]))
        except (KeyError, TypeError, ValueError):
            return cls()


USUAL = Decoding()
"""How images are decoded that belong to no data set."""


@dataclass(frozen=True, slots=True, eq=False)
class DeepPixels:
    """Pixels of more than 8 bits, or of more bands than Pillow gives.

    Args:
        values: ``(H, W)`` or ``(H, W, 3)``.
        alpha: ``(H, W)`` 0 to 1, ``None`` if nothing is transparent.
        nodata: What stands for no measurement, if the file says so.
        bands: How many bands there are in the file.
        is_inverted: 0 is white.
    """

    values: NDArray[Any]
    alpha: NDArray[np.float32] | None = None
    nodata: float | None = None
    bands: int = 1
    is_inverted: bool = False

    def to_rgb(self, ranges: ValueRanges) -> Image.Image:
        """Return them as 8-bit RGB, transparency laid on white."""
        values = self.values
        if values.dtype != np.uint8:
            values = ranges.of(values).to_8_bit(values)
        if self.is_inverted:
            values = 255 - values
        image = Image.fromarray(values).convert("RGB")
        if self.alpha is None:
            return image
        mask = Image.fromarray(np.rint(self.alpha * 255).astype(np.uint8))
        return Image.composite(image, Image.new("RGB", image.size, "white"), mask)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep what Pillow warns of from stderr in the block, in all threads: the report says it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b|labelfix\.(?:images|tiff_bands)\b")
        yield


def decode_image(
    data: bytes,
    *,
    at_least: int | None = None,
    decoding: Decoding = USUAL,
) -> Image.Image:
    """Decode an encoded image as `decode_with_size` does, and return it alone."""
    return decode_with_size(data, at_least=at_least, decoding=decoding)[0]


def decode_with_size(
    data: bytes,
    *,
    at_least: int | None = None,
    decoding: Decoding = USUAL,
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode an encoded image to upright 8-bit RGB, the first frame of an animation.

    Beside it comes the width and height in pixels that it was stored with, not yet turned upright.

    Transparency is laid on white. Pixels of more than 8 bits are scaled by the range that
    ``decoding`` has for their kind, else by their own. Of more than three bands the first three
    are taken, of two the first.

    Args:
        data: The encoded image, in any format that Pillow reads.
        at_least: Pixels that both sides must keep; lets a large JPEG decode faster at a half, a
            quarter or an eighth of its size. ``None`` or 0 keeps the full size.
        decoding: What is too large, and how values become bytes.

    Raises:
        UnreadableSample: The data is empty, not an image, truncated, broken or too large.
    """
    with _explained(data):
        bands = _deep_bands(data, decoding)
        if bands is not None:
            rgb = _unpacked(bands).to_rgb(decoding.values)
            return _upright(_orientation_of(data), rgb), (bands.width, bands.height)
        image = _open(data)
        size = image.size
        _refuse_large(*size, _bytes_of(image), len(data), decoding)
        if at_least and min(size) >= 2 * at_least:
            image.draft(None, (at_least, at_least))
        deep = _deep_pixels(image, data)
        if deep is not None:
            rgb = deep.to_rgb(decoding.values)
        else:
            rgb = _to_rgb(_smaller_page(image, at_least))
        return _upright(_orientation(image), rgb), size


def may_be_deep(head: bytes) -> bool:
    """Return whether the first 32 bytes leave it open that an image has more than 8 bits."""
    is_shallow_png = head.startswith(_PNG) and head[24:25] != b"\x10"
    return bool(head) and not is_shallow_png and not head.startswith(_EIGHT_BIT)


def read_deep(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DeepPixels | None:
    """Return the pixels of an image of more than 8 bits or four bands; ``None`` for all others.

    Others are told by their header, and not decoded.

    Raises:
        UnreadableSample: As for `decode_with_size`.
    """
    if not may_be_deep(data):
        return None
    decoding = Decoding(max_pixels)
    with _explained(data):
        bands = _deep_bands(data, decoding)
        if bands is not None:
            return _unpacked(bands)
        image = _open(data)
        if not _is_deep(image):
            return None
        _refuse_large(*image.size, _bytes_of(image), len(data), decoding)
        return _deep_pixels(image, data)


@contextmanager
def _explained(data: bytes) -> Iterator[None]:
    """Turn whatever decoding fails with into the reason that a report gives."""
    if not data:
        raise UnreadableSample("empty file (0 bytes)")
    try:
        yield
    except UnreadableSample:
        raise
    except MemoryError as error:
        raise UnreadableSample("too large: there is no memory for its pixels") from error
    except Exception as error:  # Pillow's plugins raise whatever their parser ran into
        raise UnreadableSample(_reason(error, data)) from error


def _refuse_large(width: int, height: int, unpacked: int, packed: int, decoding: Decoding) -> None:
    """Refuse what would take more memory than an image is worth.

    Raises:
        UnreadableSample: The pixels are too many, or far more than the bytes can tell of.
    """
    limit = decoding.max_pixels
    if width * height > limit or unpacked > 4 * limit:
        many = width * height if width * height > limit else unpacked // 4
        raise UnreadableSample(
            f"too large: {width} x {height} pixels; --max-pixels {many} reads it"
        )
    if limit <= MAX_PIXELS and unpacked > _HARMLESS and unpacked > _MOST_BLOWN_UP * packed:
        raise UnreadableSample(
            f"too large: {packed:,} bytes that claim {width} x {height} pixels; --max-pixels "
            f"{MAX_PIXELS + 1} reads it all the same"
        )


def _bytes_of(image: Image.Image) -> int:
    """Return what the pixels take; nothing for bilevel pages, which shrink as nothing else does."""
    if image.mode == "1":
        return 0
    bands = 1 if len(image.getbands()) == 1 else 4
    wide = 4 if image.mode in ("I", "F") else 2 if image.mode.startswith("I;") else 1
    return image.width * image.height * bands * wide


def _deep_bands(data: bytes, decoding: Decoding) -> TiffBands | None:
    """Return the bands of a TIFF file that Pillow would not give as they are.

    Raises:
        UnreadableSample: It is a camera's raw file, or too large.
    """
    bands = open_bands(data)
    if bands is None:
        return None
    if bands.is_raw:
        raise UnreadableSample(f"not an image: {RAW_FILE}")
    unpacked = bands.size_in_bytes if bands.is_known else 0
    _refuse_large(bands.width, bands.height, unpacked, len(data), decoding)
    return None if bands.is_plain or not bands.can_unpack() else bands


def _unpacked(bands: TiffBands) -> DeepPixels:
    _quiet_libtiff()
    values, alpha = bands.unpack()
    return DeepPixels(values, alpha, bands.nodata, bands.bands, bands.is_inverted)


def _is_deep(image: ImageFile.ImageFile) -> bool:
    return image.mode.startswith("I") or image.mode == "F" or _raw_mode(image).endswith(";16B")


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Return how a PNG file holds its numbers, "" for other files."""
    tile = image.tile
    return str(tile[0].args) if image.format == "PNG" and tile else ""


def _deep_pixels(image: ImageFile.ImageFile, data: bytes) -> DeepPixels | None:
    """Load an image, and return its pixels if they have more than 8 bits."""
    raw_mode = _raw_mode(image)
    if not raw_mode.endswith(";16B") or image.mode.startswith("I"):
        is_deep = _is_deep(image)
        image.load()
        return DeepPixels(np.asarray(image)) if is_deep else None
    if raw_mode.startswith("LA"):  # four bytes a pixel, as RGBA has
        image._mode, image.tile = "RGBA", [image.tile[0]._replace(args="RGBA")]
        image.load()
        grey = np.asarray(image).view(">u2")
        return DeepPixels(grey[:, :, 0], (grey[:, :, 1] / 65535).astype(np.float32))
    low = _open(data)  # Pillow drops the low byte of 16-bit colors: read it as if it were the high
    low.tile = [low.tile[0]._replace(args=raw_mode.removesuffix("B") + "L")]
    low.load()
    image.load()
    values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(low)
    has_alpha = image.mode == "RGBA"
    alpha = values[:, :, -1].astype(np.float32) / 65535 if has_alpha else None
    return DeepPixels(values[:, :, :3], alpha)


def _open(data: bytes) -> ImageFile.ImageFile:
    """Read the header, like ``Image.open`` but without its warning on merely large images."""
    if data[:4] in _TIFF:
        _quiet_libtiff()
    _load_plugin_for(data)
    for load_plugins in (Image.preinit, Image.init):  # the common formats first
        load_plugins()
        for name in Image.ID:
            image = _try_plugin(name, data)
            if image is not None:
                return image
    raise UnreadableSample(_unknown(data))


def _unknown(data: bytes) -> str:
    """Return why data that no plugin takes are no image."""
    kind = kind_of_file(data)
    if kind is not None:
        return f"not an image: {kind}"
    if not _is_signed(data):
        return "not an image"
    return "truncated image" if len(data) < _HEADER_BYTES else "broken image: a bad header"


def _try_plugin(name: str, data: bytes) -> ImageFile.ImageFile | None:
    factory, accepts = Image.OPEN[name]
    try:
        answer = accepts is None or accepts(data[:16])
        if isinstance(answer, str):  # the format is known, its decoder is not installed
            raise UnreadableSample(f"broken image: {answer}")
        if not answer or name in _REFUSED:
            return None
        return factory(io.BytesIO(data), "")
    except _NOT_MINE:
        return None
    except (MemoryError, UnreadableSample):
        raise
    except Exception as error:
        if name == "PNG" and (shorter := _without_texts(data)) is not None:
            return _try_plugin(name, shorter)
        raise UnreadableSample(
            _reason(error, data) if _is_signed(data) else _unknown(data)
        ) from error


def _without_texts(data: bytes) -> bytes | None:
    """Return a PNG file without its texts and profiles, which may be too long for Pillow to unpack.

    ``None`` if it holds none.
    """
    kept, at = [data[:8]], 8
    while at + 8 <= len(data):
        stop = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in (b"zTXt", b"iTXt", b"tEXt", b"iCCP"):
            kept.append(data[at:stop])
        at = stop
    shorter = b"".join(kept)
    return shorter if len(shorter) < len(data) else None


@cache
def _load_heif() -> None:
    with suppress(Exception):  # not installed, or not for this version of Pillow
        import_module("pillow_heif").register_heif_opener()


@cache
def _load_jpeg_xl() -> None:
    with suppress(Exception):
        import_module("pillow_jxl")


def _load_plugin_for(data: bytes) -> None:
    """Let packages that are installed read what Pillow alone cannot."""
    if is_heic(data):
        _load_heif()
    elif is_jpeg_xl(data):
        _load_jpeg_xl()


@cache
def _quiet_libtiff() -> None:
    """Keep libtiff from writing to stderr by itself: what ails a file is an exception, too.

    It is the copy that Pillow brings along or is linked to; where it is built in, nothing is done.
    """
    folder = Path(Image.__file__).parent
    brought = [*folder.parent.glob("[Pp]illow.libs/libtiff*"), *folder.glob(".dylibs/libtiff*")]
    for library in [*map(str, brought), "libtiff.so.6", "libtiff.so.5"]:
        with suppress(OSError, AttributeError):
            tiff = ctypes.CDLL(library, mode=getattr(os, "RTLD_NOLOAD", 0) | ctypes.DEFAULT_MODE)
            tiff.TIFFSetErrorHandler(None)
            tiff.TIFFSetWarningHandler(None)


def _is_signed(data: bytes) -> bool:
    """Return whether the data begins like an image, so that a bad header means damage."""
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return True
    return any(data[: len(sign)] == sign[: len(data)] for sign in _SIGNATURES)


def _reason(error: Exception, data: bytes) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: {text}"
    kind = kind_of_file(data)
    if kind is not None:
        return f"not an image: {kind}"
    cut_short = ("truncated", "not enough", "not large enough", "unexpected end", "eof", "only got")
    if (
        isinstance(error, (EOFError, IndexError, struct.error))
        or any(sign in text.lower() for sign in cut_short)
        or (data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"))
    ):
        return "truncated image"
    return f"broken image: {text}"


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded 8-bit image as RGB, transparency laid on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    page = Image.new("RGBA", clear.size, "white")
    return Image.alpha_composite(page, clear).convert("RGB")


def _smaller_page(image: Image.Image, at_least: int | None) -> Image.Image:
    """Return a large bilevel page in grey and smaller: in color it would take 30 times as much."""
    factor = min(image.size) // at_least if at_least else 1
    return image.convert("L").reduce(factor) if image.mode == "1" and factor >= 4 else image


def _orientation(image: Image.Image) -> object:
    """Return the orientation of the EXIF data of an image, if they can be read."""
    if not any(key in image.info for key in _EXIF_KEYS):
        return None
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None


def _orientation_of(data: bytes) -> object:
    """Return the orientation in the directory of a TIFF file that `open_bands` has read."""
    exif = Image.Exif()
    try:
        exif.load(b"Exif\0\0" + data)
        return exif.get(ExifTags.Base.Orientation)
    except Exception:
        return None


def _upright(orientation: object, rgb: Image.Image) -> Image.Image:
    """Turn an image in place as its orientation says, and return it."""
    if isinstance(orientation, int) and orientation != 1:
        rgb.info.clear()  # or Pillow would write the EXIF data anew, which may be damaged
        rgb.getexif()[ExifTags.Base.Orientation] = orientation
        ImageOps.exif_transpose(rgb, in_place=True)
    return rgb
