"""What a file is that is no image which can be read, by its first bytes, and what to do about it.

Names of files say nothing here: the wrong suffix is half of the trouble.
"""

import re

_TEXT_HEAD = 2048
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_CONVERT = "convert it to PNG or JPEG"
_FRAMES = "take single frames out of it, as with ffmpeg"
_UNPACK = "unpack it first"
RAW_FILE = "a camera's raw file: export it as TIFF or JPEG"
"""What a file of a camera's own form is, such as DNG, CR2 or NEF."""

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs.github.com/spec", "a Git LFS pointer: run `git lfs pull`"),
    (0, b"/annex/objects/", "a git-annex pointer: run `git annex get`"),
    (0, b"\xff\x0a", "a JPEG XL image: pip install pillow-jxl-plugin, or convert it"),
    (0, b"\0\0\0\x0cJXL \r\n", "a JPEG XL image: pip install pillow-jxl-plugin, or convert it"),
    (128, b"DICM", f"a DICOM file: {_CONVERT}, as with dcm2img or pydicom"),
    (0, b"%PDF-", "a PDF document: export its pages as PNG, as with pdftoppm"),
    (0, b"%!PS", "PostScript (EPS), a program that is never run: export it as PNG"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS), a program that is never run: export it as PNG"),
    (344, b"n+1\0", "a NIfTI volume: export slices as PNG or TIFF, as with nibabel"),
    (344, b"ni1\0", "a NIfTI volume: export slices as PNG or TIFF, as with nibabel"),
    (4, b"n+2\0\r\n\x1a\n", "a NIfTI volume: export slices as PNG or TIFF, as with nibabel"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image: convert it to TIFF or PNG"),
    (0, b"#?RADIANCE", "a Radiance HDR image: convert it to TIFF or PNG"),
    (0, b"#?RGBE", "a Radiance HDR image: convert it to TIFF or PNG"),
    (8, b"CR\x02\0", RAW_FILE), (0, b"IIU\0", RAW_FILE), (0, b"IIRO", RAW_FILE),
    (0, b"IIRS", RAW_FILE),
    (0, b"MMOR", RAW_FILE), (0, b"FUJIFILMCCD-RAW", RAW_FILE), (0, b"FOVb", RAW_FILE),
    (4, b"ftypcrx ", RAW_FILE),
    (0, b"\x93NUMPY", f"a NumPy array: {_CONVERT}"),
    (0, b"\x89HDF\r\n\x1a\n", f"an HDF5 file: {_CONVERT}"),
    (0, b"\x1a\x45\xdf\xa3", f"a video (Matroska or WebM): {_FRAMES}"),
    (8, b"AVI LIST", f"a video (AVI): {_FRAMES}"),
    (0, b"\0\0\x01\xba", f"a video (MPEG): {_FRAMES}"),
    (0, b"\0\0\x01\xb3", f"a video (MPEG): {_FRAMES}"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", f"a video (WMV): {_FRAMES}"),
    (0, b"FLV\x01", f"a video (FLV): {_FRAMES}"),
    (4, b"moov", f"a video (QuickTime): {_FRAMES}"),
    (4, b"mdat", f"a video (QuickTime): {_FRAMES}"),
    (8, b"WAVE", "a sound"), (0, b"ID3", "a sound"), (0, b"OggS", "a sound or video"),
    (0, b"fLaC", "a sound"),
    (0, b"PK\x03\x04", f"a ZIP archive: {_UNPACK}"), (0, b"\x1f\x8b", f"gzip: {_UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive: {_UNPACK}"),
    (0, b"Rar!", f"a RAR archive: {_UNPACK}"),
    (0, b"BZh", f"bzip2: {_UNPACK}"), (0, b"\xfd7zXZ", f"xz: {_UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"Zstandard: {_UNPACK}"),
    (257, b"ustar", f"a tar archive: {_UNPACK}"),
    (0, b"PAR1", "a Parquet file: audit it on its own"),
    (0, b"\0\x05\x16\x07", "a note of macOS (AppleDouble), not the image itself: delete it"),
    (0, b"gimp xcf", f"a GIMP document: {_CONVERT}"),
    (0, b"\xd7\xcd\xc6\x9a", f"a Windows metafile: {_CONVERT}"),
    (40, b" EMF", f"a Windows metafile: {_CONVERT}"),
    (0, b"SQLite format 3\0", "a SQLite data base"), (0, b"\x7fELF", "a program"),
)  # fmt: skip

_TEXTS: tuple[tuple[str, str], ...] = (
    (r"(?:<\?xml.*?)?(?:<!--.*?-->\s*)*(?:<!doctype svg.*?)?<svg[\s>]",
     "an SVG drawing: export it as PNG, as with Inkscape or rsvg-convert"),
    (r"(?:<\?xml.*?)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|script)[\s>]",
     "a web page (HTML), perhaps of an error: download the image again"),
    (r"<\?xml|<error>", "XML text, perhaps of an error: download the image again"),
    (r"[{\[]\s*[\"{\[\]}0-9-]", "JSON text, perhaps of an error: download the image again"),
)  # fmt: skip


def kind_of_file(data: bytes) -> str | None:
    """Return what a file is that is no image to be read here, with the remedy; ``None`` if unknown.

    Args:
        data: The file, or its first kilobytes.
    """
    for offset, signature, what in _SIGNATURES:
        if data.startswith(signature, offset):
            return what
    if data[4:8] == b"ftyp":
        return _iso_kind(data)
    text = data[:_TEXT_HEAD].removeprefix(b"\xef\xbb\xbf").decode("latin-1").lstrip().lower()
    for pattern, what in _TEXTS:
        if re.match(pattern, text, re.DOTALL):
            return what
    if data and not data.strip(b"\0"):
        return "nothing but zero bytes: copy or download it again"
    if data.startswith((b"/", b"..")):
        return (
            "the path of a file, as Git writes a link: check out with links"
            if _is_path(data)
            else None
        )
    return None


def is_heic(data: bytes) -> bool:
    """Return whether data are an HEIC or HEIF image, which a plugin may read."""
    return data[4:8] == b"ftyp" and bool(_HEIC & _brands(data)) and not _is_avif(data)


def is_jpeg_xl(data: bytes) -> bool:
    """Return whether data are a JPEG XL image, which a plugin may read."""
    return data.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n"))


def _iso_kind(data: bytes) -> str | None:
    if _is_avif(data):
        return None
    if is_heic(data):
        return "an HEIC image: pip install pillow-heif, or convert it to JPEG"
    return f"a video (MP4 or QuickTime): {_FRAMES}"


def _is_avif(data: bytes) -> bool:
    return bool({b"avif", b"avis"} & _brands(data))


def _brands(data: bytes) -> set[bytes]:
    """Return the major and the compatible brands of an ISO media file."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    return {data[8:12]} | {data[at : at + 4] for at in range(16, end, 4)}


def _is_path(data: bytes) -> bool:
    return len(data) < 1024 and data.isascii() and b"\n" not in data.rstrip() and b"/" in data
