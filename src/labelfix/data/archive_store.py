"""Images inside ZIP and tar archives, read in place: nothing is unpacked to the disk."""

import bz2
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelfix.data.files import text_of_paths
from labelfix.errors import DatasetError, UnreadableSample

LARGEST = 1 << 30
"""Bytes that one file in an archive may unpack to."""

_PLAIN = -1  # the method of a tar: the bytes lie at the offset as they are
_LOCAL = struct.Struct("<4s22xHH")  # the header before each file of a ZIP archive
_BLOCK = 512  # bytes of which a tar is made
_UTF8_FLAG, _ENCRYPTED_FLAG = 0x800, 0x1
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, NotImplementedError, ValueError, KeyError, EOFError,
    OverflowError, RuntimeError, struct.error, OSError, IndexError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Args:
        name: Its path in the archive, with slashes.
        offset: The byte at which it begins: its contents, or its header in a ZIP archive.
        packed: How many bytes it takes there.
        size: How many bytes it has.
        method: How it is packed, as ZIP counts; -1 is not at all, without a header.
        check: Its CRC-32, 0 in a tar.
    """

    name: str
    offset: int
    packed: int
    size: int
    method: int
    check: int


class ArchiveImages:
    """Images in archives, each found by its place in the file.

    Every read opens the archive anew, so that threads and processes do not disturb each other.

    Args:
        archives: The archives, absolute.
        archive: ``(N,)`` which of them each row is in.
        members: N files; ``None`` where the archive has no such file.
        names: N names for a row without a file.
    """

    def __init__(
        self,
        archives: Sequence[Path],
        archive: NDArray[np.int64],
        members: Sequence[Member | None],
        names: pa.StringArray,
    ) -> None:
        self._archives = tuple(archives)
        self._archive = archive
        self._names = names
        self._numbers = np.array(
            [
                (-1, 0, 0, _PLAIN, 0)
                if member is None
                else (member.offset, member.packed, member.size, member.method, member.check)
                for member in members
            ],
            np.int64,
        ).reshape(-1, 5)

    def __len__(self) -> int:
        """Return N."""
        return len(self._names)

    def read(self, index: int) -> bytes:
        """Return the bytes of one file.

        Raises:
            UnreadableSample: There is no such file, or this part of the archive is damaged.
        """
        offset, packed, size, method, check = self._numbers[index].tolist()
        if self._names[index].as_py() is None:
            raise UnreadableSample("no image path is given")
        if offset < 0:
            raise UnreadableSample("file is missing")
        path = self._archives[self._archive[index]]
        return read_member(path, Member("", offset, packed, size, method, check))

    def location(self, index: int) -> str:
        """Return the archive and the path in it: ``photos.zip/cat/1.jpg``."""
        name = self._names[index].as_py()
        return "" if name is None else f"{self._archives[self._archive[index]]}/{name}"


def read_member(path: Path, member: Member) -> bytes:
    """Return the bytes of one file in an archive.

    Raises:
        UnreadableSample: The archive is damaged here, or the file is larger than `LARGEST`.
    """
    if member.size > LARGEST:
        raise UnreadableSample(f"unpacks to more than {LARGEST >> 30} GiB")
    try:
        with path.open("rb") as file:
            file.seek(member.offset)
            if member.method == _PLAIN:
                data = file.read(member.size)
            else:
                sign, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
                if sign != b"PK\x03\x04":
                    raise UnreadableSample("the archive is damaged here")
                file.seek(name + extra, io.SEEK_CUR)
                data = _unpacked(file.read(member.packed), member)
    except FileNotFoundError as error:
        raise UnreadableSample("the archive is gone") from error
    except (OSError, ValueError, EOFError, OverflowError, struct.error, zlib.error) as error:
        raise UnreadableSample(f"cannot be read from the archive: {error}") from error
    if len(data) != member.size or (member.method != _PLAIN and zlib.crc32(data) != member.check):
        raise UnreadableSample("the archive is damaged or cut off here")
    return data


def _unpacked(data: bytes, member: Member) -> bytes:
    """Return unpacked bytes, at most one more than the archive says that there are."""
    if member.method == zipfile.ZIP_STORED:
        return data
    if member.method == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
    if member.method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(data, member.size + 1)
    raise UnreadableSample(f"packed in a way that is not read (method {member.method})")


def index_zip(path: Path) -> list[Member]:
    """Return the files of a ZIP archive in its order; of two of one name the last.

    Raises:
        DatasetError: It is no ZIP archive, damaged, or encrypted.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except _DAMAGE as error:
        raise _damaged(path, "ZIP", error) from error
    if any(info.flag_bits & _ENCRYPTED_FLAG for info in infos):
        raise DatasetError(
            f"{path} is encrypted", hint="unpack it with its password, and give the folder"
        )
    names = [_name_in_zip(info) for info in infos]
    if not any("/" in name for name in names):  # some tools of Windows write backslashes
        names = [name.replace("\\", "/") for name in names]
    return _last_of_each(
        Member(name, info.header_offset, info.compress_size, info.file_size, info.compress_type,
               info.CRC)
        for name, info in zip(names, infos, strict=True)
    )  # fmt: skip


def _name_in_zip(info: zipfile.ZipInfo) -> str:
    """Return a name that is UTF-8 without saying so as what it is."""
    if info.flag_bits & _UTF8_FLAG or info.filename.isascii():
        return _as_text(info.filename)
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return _as_text(info.filename)


def index_tar(path: Path, on_member: Callable[[int], None]) -> list[Member]:
    """Return the regular files of a tar in its order; of two of one name the last.

    Raises:
        DatasetError: It is no tar, is packed, damaged or cut off.
    """
    try:
        with tarfile.open(path, "r:", errors="surrogateescape", encoding="utf-8") as archive:
            members = list(_members_of_tar(archive, on_member))
            _refuse_cut_off(path, archive.offset, len(members))
    except (*_DAMAGE, RecursionError) as error:
        with path.open("rb") as file:
            is_packed = file.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5")
        if is_packed:
            raise DatasetError(
                f"{path} is a compressed tar, in which no image can be found without unpacking all",
                hint="unpack it once (gunzip and so on give a .tar), and give that or the folder",
            ) from error
        raise _damaged(path, "tar", error) from error
    return _last_of_each(members)


def _members_of_tar(archive: tarfile.TarFile, on_member: Callable[[int], None]) -> Iterator[Member]:
    by_name: dict[str, Member] = {}
    before = -1
    while (info := archive.next()) is not None:
        if archive.offset <= before:
            raise ValueError("a header points back")  # a size below 0 would be read for ever
        before = archive.offset
        archive.members.clear()  # type: ignore[attr-defined] # else it keeps all of them
        name = _as_text(info.name)
        if info.islnk() and info.linkname in by_name:
            target = by_name[info.linkname]
            member = Member(name, target.offset, target.size, target.size, _PLAIN, 0)
        elif info.isreg() and not info.issparse() and info.size >= 0:
            member = Member(name, info.offset_data, info.size, info.size, _PLAIN, 0)
        else:
            continue
        by_name[info.name] = member
        on_member(len(by_name))
        yield member


def _refuse_cut_off(path: Path, end: int, found: int) -> None:
    """Refuse a tar that stops in the middle: Python reads one without a word."""
    with path.open("rb") as file:
        file.seek(end)
        block = file.read(_BLOCK)
    if block.strip(b"\0"):
        raise DatasetError(
            f"{path} is damaged after {found:,} files, at byte {end:,}",
            hint="download or write it again",
        )


def _last_of_each(members: Iterator[Member] | list[Member]) -> list[Member]:
    return list({member.name: member for member in members}.values())


def _as_text(name: str) -> str:
    return str(text_of_paths(pa.array([name.encode("utf-8", "surrogateescape")], pa.binary()))[0])


def _damaged(path: Path, form: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"{path} is no {form} archive, or is damaged: {error}",
        hint="download or write it again, or unpack it and give the folder",
    )
