"""TIFF files whose bands Pillow cannot give: of more than 8 bits, of floats, or more than four.

Only the form of the numbers is worked out here; libtiff, through Pillow, unpacks the bytes, which
are handed to it as a grey image as wide as a row has bytes.
"""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from labelfix.errors import UnreadableSample

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _BANDS, _STRIP_ROWS, _COUNTS, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_SUBFILE, _SUB_IFDS, _EXTRA, _FORMAT, _NODATA, _DNG = 254, 330, 338, 339, 42113, 50706
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, deflate, packbits, LZMA, Zstandard
_CFA, _LINEAR_RAW = 32803, 34892
_MOST_ENTRIES_TIMES = 16  # the entries of a directory may point at the whole file so many times


@dataclass(frozen=True, slots=True, eq=False)
class TiffBands:
    """The first image of a TIFF file, not unpacked yet.

    Args:
        width: Pixels.
        height: Pixels.
        bands: How many numbers a pixel has.
        dtype: Of each, in the byte order of the file.
        nodata: What stands for no measurement, if the file says so.
        is_raw: The file is a camera's own (DNG, NEF, ARW): what Pillow finds is a small preview.
    """

    width: int
    height: int
    bands: int
    dtype: np.dtype[Any]
    nodata: float | None
    is_raw: bool
    _tags: dict[int, Any]
    _data: bytes

    @property
    def is_known(self) -> bool:
        """Return whether the form of its numbers is: whole bytes, all of one type."""
        return self.dtype.kind != "V"

    @property
    def is_plain(self) -> bool:
        """Return whether Pillow reads it as well."""
        is_color = self._tags.get(_PHOTOMETRIC) == 2 and self.bands in (3, 4)
        is_grey = self.bands == 1 or (self.bands == 2 and tuple(self._tags.get(_EXTRA, ())) == (2,))
        return self.dtype == np.uint8 and (is_color or is_grey)

    @property
    def size_in_bytes(self) -> int:
        """Return what its numbers take, unpacked."""
        across = _padded(self.width, self._tags.get(_TILE_WIDTH))
        down = _padded(self.height, self._tags.get(_TILE_HEIGHT))
        return across * down * self.bands * self.dtype.itemsize

    def can_unpack(self) -> bool:
        """Return whether `unpack` knows this form."""
        tags = self._tags
        predictor = tags.get(_PREDICTOR, 1)
        return (
            self.is_known
            and tags.get(_COMPRESSION, 1) in _LOSSLESS
            and tags.get(_PHOTOMETRIC, 1) in (0, 1, 2)
            and (predictor in (1, 2) or (predictor == 3 and _TILE_WIDTH not in tags))
        )

    def unpack(self) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Return the pixels, grey ``(H, W)`` or of the first three bands ``(H, W, 3)``, and alpha.

        Alpha is ``(H, W)``, 0 to 1, where the file says that a fourth band is that.

        Raises:
            Exception: Whatever Pillow says of damage.
        """
        kept = [0, 1, 2] if self.bands >= 3 else [0]
        extra = self._tags.get(_EXTRA) or ()
        has_alpha = self.bands == 4 and tuple(extra)[:1] in ((1,), (2,))
        if has_alpha:
            kept.append(3)
        if self._tags.get(_PLANAR, 1) == 2:
            pixels = np.stack([self._plane(band) for band in kept], axis=2)
        else:
            pixels = self._numbers(slice(None), self.bands)[:, :, kept]
        alpha = None
        if has_alpha:
            full = np.iinfo(self.dtype).max if self.dtype.kind in "iu" else 1
            alpha = np.clip(pixels[:, :, 3] / full, 0, 1).astype(np.float32)
            pixels = pixels[:, :, :3]
        return (pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), alpha

    @property
    def is_inverted(self) -> bool:
        """Return whether 0 is white."""
        return bool(self._tags.get(_PHOTOMETRIC, 1) == 0)

    def _plane(self, band: int) -> NDArray[Any]:
        offsets = self._tags[_TILE_OFFSETS if _TILE_WIDTH in self._tags else _OFFSETS]
        parts = len(offsets) // self.bands
        return self._numbers(slice(band * parts, (band + 1) * parts), 1)[:, :, 0]

    def _numbers(self, parts: slice, bands: int) -> NDArray[Any]:
        """Return ``(H, W, bands)`` numbers of some strips or tiles."""
        rows = self._bytes(parts, bands)
        predictor = self._tags.get(_PREDICTOR, 1)
        if predictor == 3:
            return _undo_float_predictor(rows, self.width, bands, self.dtype)
        numbers = rows.view(self.dtype).reshape(self.height, self.width, bands)
        if predictor == 2:
            whole = numbers.view(f"{self.dtype.byteorder}u{self.dtype.itemsize}")
            step = self._tags.get(_TILE_WIDTH, self.width)
            for start in range(0, self.width, step):
                part = whole[:, start : start + step]
                part[...] = np.cumsum(part, axis=1, dtype=whole.dtype.newbyteorder("="))
        return numbers

    def _bytes(self, parts: slice, bands: int) -> NDArray[np.uint8]:
        """Return ``(H, W * bands * itemsize)`` bytes, unpacked by libtiff as if they were grey."""
        tags, factor = self._tags, bands * self.dtype.itemsize
        wanted: dict[int, Any] = {
            _WIDTH: self.width * factor, _HEIGHT: self.height, _BITS: 8, _PHOTOMETRIC: 1,
            _COMPRESSION: tags.get(_COMPRESSION, 1), _BANDS: 1, _PLANAR: 1,
        }  # fmt: skip
        if _TILE_WIDTH in tags:
            wanted[_TILE_WIDTH] = tags[_TILE_WIDTH] * factor
            wanted[_TILE_HEIGHT] = tags[_TILE_HEIGHT]
            wanted[_TILE_OFFSETS] = tuple(tags[_TILE_OFFSETS])[parts]
            wanted[_TILE_COUNTS] = tuple(tags[_TILE_COUNTS])[parts]
        else:
            wanted[_STRIP_ROWS] = min(tags.get(_STRIP_ROWS, self.height), self.height)
            wanted[_OFFSETS] = tuple(tags[_OFFSETS])[parts]
            wanted[_COUNTS] = tuple(tags[_COUNTS])[parts]
        start = len(self._data) + len(self._data) % 2
        head = b"II*\0" + struct.pack("<I", start)
        body = self._data[8:].ljust(start - 8, b"\0")
        grey = TiffImagePlugin.TiffImageFile(io.BytesIO(head + body + _directory(wanted, start)))
        return np.array(grey).reshape(self.height, self.width * factor)


def open_bands(data: bytes) -> TiffBands | None:
    """Read the directory of a TIFF file, ``None`` if the data are none or damaged.

    Raises:
        UnreadableSample: The directory asks for far more than the file holds.
    """
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    try:
        _refuse_endless(data)
        head = data[: 16 if data[2:4] in (b"+\0", b"\0+") else 8]
        directory = TiffImagePlugin.ImageFileDirectory_v2(head)
        file = io.BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        tags = dict(directory)
        return _bands_of(tags, data)
    except UnreadableSample:
        raise
    except Exception:  # damage of any kind; Pillow is asked next and says what it is
        return None


def _bands_of(tags: dict[int, Any], data: bytes) -> TiffBands:
    bits = tags.get(_BITS, (1,))
    formats = tags.get(_FORMAT, (1,))
    bits, formats = np.atleast_1d(bits), np.atleast_1d(formats)
    letter = {1: "u", 2: "i", 3: "f", 4: "u"}.get(int(formats[0]), "")
    size = int(bits[0]) // 8
    is_known = bool((bits == bits[0]).all() and (formats == formats[0]).all()) and letter
    is_whole = int(bits[0]) in ((16, 32, 64) if letter == "f" else (8, 16, 32, 64))
    order = "<" if data[:2] == b"II" else ">"
    photometric = tags.get(_PHOTOMETRIC)
    return TiffBands(
        width=int(tags[_WIDTH]),
        height=int(tags[_HEIGHT]),
        bands=int(tags.get(_BANDS, 1)),
        dtype=np.dtype(f"{order}{letter}{size}" if is_known and is_whole else "V1"),
        nodata=_number(tags.get(_NODATA)),
        is_raw=(
            photometric in (_CFA, _LINEAR_RAW)
            or data[8:11] == b"CR\x02"
            or ((_DNG in tags or _SUB_IFDS in tags) and tags.get(_SUBFILE) == 1)
        ),
        _tags=tags,
        _data=data,
    )


def _refuse_endless(data: bytes) -> None:
    """Refuse a classic directory whose entries together claim many times what the file holds."""
    order = "<" if data[:2] == b"II" else ">"
    if data[2:4] not in (b"*\0", b"\0*"):
        return
    (start,) = struct.unpack(f"{order}I", data[4:8])
    (count,) = struct.unpack(f"{order}H", data[start : start + 2])
    body = data[start + 2 : start + 2 + 12 * count]
    form = [("tag", "u2"), ("type", "u2"), ("count", "u4"), ("value", "u4")]
    entries = np.frombuffer(
        body[: len(body) // 12 * 12], np.dtype(form).newbyteorder("<" if data[:2] == b"II" else ">")
    )
    claimed = np.minimum(entries["count"].astype(np.int64), len(data)).sum()
    if claimed > _MOST_ENTRIES_TIMES * len(data) + (1 << 20):
        raise UnreadableSample("broken image: its directory claims more than the file holds")


def _directory(tags: Mapping[int, Any], start: int) -> bytes:
    """Return a little-endian directory of 32-bit entries that lies ``start`` bytes into a file.

    Not by Pillow, which moves the offsets of strips to what it would write itself.
    """
    entries, values = [], b""
    after = start + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        value = np.atleast_1d(tags[tag]).astype("<u4")
        if len(value) == 1:
            entries.append(struct.pack("<HHI", tag, 4, 1) + value.tobytes())
        else:
            entries.append(struct.pack("<HHII", tag, 4, len(value), after + len(values)))
            values += value.tobytes()
    return struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4) + values


def _padded(side: int, tile: int | None) -> int:
    return side if not tile else -(-side // tile) * tile


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _undo_float_predictor(
    rows: NDArray[np.uint8], width: int, bands: int, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Undo Adobe's predictor 3: bytes of equal weight lie together, as differences."""
    height, size = len(rows), dtype.itemsize
    summed = np.cumsum(rows.reshape(height, width * size, bands), axis=1, dtype=np.uint8)
    planes = summed.reshape(height, size, width * bands).transpose(0, 2, 1)
    return np.ascontiguousarray(planes).view(f">f{size}").reshape(height, width, bands)
