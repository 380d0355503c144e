"""Encoded images: decode them to RGB, or say in words why that cannot be; digest their bytes.

Nothing here changes a setting of Pillow, so that threads and other users of Pillow are left alone.
"""

import hashlib
import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from labelfix.errors import UnreadableImage

MAX_PIXELS = 178_956_970
"""Larger images are taken for decompression bombs (the limit at which Pillow raises)."""

DIGEST_BYTES = 16
"""The length of a ``content_digest``."""

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")
_HEADER_BYTES = 512  # a file that ends sooner was cut off, not damaged
_NOT_MINE = (SyntaxError, IndexError, TypeError, struct.error)  # a Pillow plugin passes
_REFUSED = frozenset({"EPS"})  # a program that Ghostscript would run, not a picture
_EXIF_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def content_digest(data: bytes) -> bytes:
    """Return the 16-byte BLAKE2b digest of an encoded image; equal means byte-identical."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def decode_image(data: bytes, *, at_least: int | None = None) -> Image.Image:
    """Decode an encoded image as `decode_with_size` does, and return it alone."""
    return decode_with_size(data, at_least=at_least)[0]


def decode_with_size(
    data: bytes, *, at_least: int | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode an encoded image to upright 8-bit RGB, the first frame of an animation.

    Beside it comes the width and height in pixels that it was stored with, not yet turned upright.

    Transparency is laid on white. 16-bit grey is divided by 256. 32-bit grey is divided by 256 if
    it lies in 0 to 65535; other 32-bit and float grey is stretched from its least to its largest
    finite value.

    Args:
        data: The encoded image, in any format that Pillow reads.
        at_least: Pixels that both sides must keep; lets a large JPEG decode faster at a half, a
            quarter or an eighth of its size. ``None`` or 0 keeps the full size.

    Raises:
        UnreadableImage: The data is empty, not an image, truncated, broken or a decompression bomb.
    """
    if not data:
        raise UnreadableImage("empty file (0 bytes)")
    image = _open(data)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"decompression bomb: {width} x {height} pixels")
    try:
        if at_least and min(width, height) >= 2 * at_least:
            image.draft(None, (at_least, at_least))
        image.load()
        return _upright(image, _to_rgb(image)), (width, height)
    except MemoryError:
        raise  # says something of the machine, nothing of the image
    except Exception as error:  # Pillow's plugins raise whatever their parser ran into
        raise UnreadableImage(_reason(error, data)) from error


def _open(data: bytes) -> ImageFile.ImageFile:
    """Read the header, like ``Image.open`` but without its warning on merely large images."""
    for load_plugins in (Image.preinit, Image.init):  # the common formats first
        load_plugins()
        for name in Image.ID:
            image = _try_plugin(name, data)
            if image is not None:
                return image
    if not _is_signed(data):
        raise UnreadableImage("not an image")
    is_stub = len(data) < _HEADER_BYTES
    raise UnreadableImage("truncated image" if is_stub else "broken image: a bad header")


def _try_plugin(name: str, data: bytes) -> ImageFile.ImageFile | None:
    factory, accepts = Image.OPEN[name]
    try:
        answer = accepts is None or accepts(data[:16])
        if isinstance(answer, str):  # the format is known, its decoder is not installed
            raise UnreadableImage(f"broken image: {answer}")
        if not answer:
            return None
        if name in _REFUSED:
            raise UnreadableImage(f"broken image: {name} files are not read")
        return factory(io.BytesIO(data), "")
    except _NOT_MINE:
        return None
    except (MemoryError, UnreadableImage):
        raise
    except Exception as error:
        raise UnreadableImage(
            _reason(error, data) if _is_signed(data) else "not an image"
        ) from error


def _is_signed(data: bytes) -> bool:
    """Return whether the data begins like an image, so that a bad header means damage."""
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return True
    return any(data[: len(sign)] == sign[: len(data)] for sign in _SIGNATURES)


def _reason(error: Exception, data: bytes) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"decompression bomb: {text}"
    cut_short = ("truncated", "not enough", "not large enough", "unexpected end", "eof", "only got")
    if (
        isinstance(error, (EOFError, IndexError, struct.error))
        or any(sign in text.lower() for sign in cut_short)
        or (data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"))
    ):
        return "truncated image"
    return f"broken image: {text}"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    clear = image.convert("RGBA")
    page = Image.new("RGBA", clear.size, "white")
    return Image.alpha_composite(page, clear).convert("RGB")


def _to_8_bit(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    values = grey.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if grey.dtype.kind in "iu" and low >= 0 and high <= 65535:
        return (values / 256).astype(np.uint8)
    span = (high - low) or 1.0
    stretched = np.nan_to_num((values - low) / span, nan=0.0, posinf=1.0, neginf=0.0)
    return np.rint(stretched * 255).astype(np.uint8)


def _upright(image: Image.Image, rgb: Image.Image) -> Image.Image:
    """Turn ``rgb`` as the EXIF data of ``image`` says, if they can be read."""
    if not any(key in image.info for key in _EXIF_KEYS):
        return rgb
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return rgb
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return rgb if turn is None else rgb.transpose(turn)
