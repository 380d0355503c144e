"""The images of an export: copied, linked or written into text; and names that fit in a path."""

import base64
import hashlib
import mimetypes
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from labelfix.dataset_files import FileImages
from labelfix.errors import UnreadableImage
from labelfix.records import ImageStore

_SAFE = " !#$&'()+,;=@[]^`{}"
_LONGEST = 200  # bytes; file systems take 255, and a number and a suffix may follow
_IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".jp2", ".avif", ".heic", ".ico", ".tga",
})  # fmt: skip
_SIGNATURES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"RIFF", ".webp"),
)


@dataclass(frozen=True, slots=True)
class TakenImage:
    """One image on its way into an export.

    Args:
        location: Where it lies, as `labelfix.records.ImageStore` says.
        data: Its bytes, not decoded; nothing if it is only linked to.
        original: The file to link to, if that was wished.
    """

    location: str
    data: bytes
    original: Path | None

    @property
    def suffix(self) -> str:
        """Return the ending that a file of these bytes should have, "" if they are not known."""
        return next((end for sign, end in _SIGNATURES if self.data.startswith(sign)), "")

    def put(self, path: Path) -> None:
        """Write or link the image; a hard link, or a symbolic one where that cannot be."""
        if self.original is None:
            path.write_bytes(self.data)
            return
        try:
            path.hardlink_to(self.original)
        except OSError:
            path.symlink_to(self.original)

    def as_uri(self) -> str:
        """Return the bytes as a ``data:`` address."""
        kind = mimetypes.guess_type(f"image{self.suffix}")[0] or "application/octet-stream"
        return f"data:{kind};base64,{base64.b64encode(self.data).decode()}"


def take_image(images: ImageStore, row: int, *, link: bool = False) -> TakenImage | None:
    """Return the image of a row, ``None`` if there is none to copy or link to.

    Images that are no files of their own are copied where ``link`` is asked for, too.
    """
    location = images.location(row)
    try:
        if link and isinstance(images, FileImages):
            return TakenImage(location, b"", _original(images.file(row)))
        return TakenImage(location, images.read(row), None)
    except UnreadableImage:
        return None


def has_image_suffix(name: str) -> bool:
    """Return whether a file name ends like an image."""
    return PurePosixPath(name).suffix.lower() in _IMAGE_SUFFIXES


def safe_name(text: str) -> str:
    """Return text as one part of a path, different for different texts.

    Slashes, control characters and what some file systems refuse are percent-encoded, so are a dot
    in front and a dot or space at the end; the empty text becomes ``%``. A name that is too long
    for a file system ends in a digest instead.
    """
    if not text:
        return "%"
    name = "".join(char if char > "\x7f" else quote(char, safe=_SAFE) for char in text)
    if name[0] == ".":
        name = "%2E" + name[1:]
    if name[-1] in ". ":
        name = name[:-1] + f"%{ord(name[-1]):02X}"
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{name.encode()[: _LONGEST - 17].decode(errors='ignore')}%{digest}"


def _original(file: Path) -> Path:
    path = Path(os.path.realpath(file))  # never raises for a loop of links, unlike Path.resolve
    if not path.is_file():
        raise UnreadableImage("file is missing")
    return path
