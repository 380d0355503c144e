"""What cannot be read is named for what it is, by content, with the remedy; bombs do no harm."""

import io
import resource
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from tiff_files import tiff

from labelfix.config import ImageConfig
from labelfix.errors import ConfigError, UnreadableSample
from labelfix.modalities.image.decode import USUAL, Decoding, decode_image

NOISE = np.random.default_rng(0)


def reason_of(data: bytes, decoding: Decoding = USUAL) -> str:
    with pytest.raises(UnreadableSample) as caught:
        decode_image(data, decoding=decoding)
    return str(caught.value)


def saved(
    form: str, size: tuple[int, int] = (24, 18), mode: str = "RGB", **options: object
) -> bytes:
    pixels = NOISE.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 4)))
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
HTML = b"\n<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>"
SVG = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'
)
NAMED = {
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "pillow-heif"),
    "heif": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100), "HEIC"),
    "jxl codestream": (b"\xff\x0a" + bytes(99), "pillow-jxl-plugin"),
    "jxl container": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "JPEG XL"),
    "dicom": (bytes(128) + b"DICM" + bytes(99), "DICOM"),
    "svg": (SVG, "SVG"),
    "svg alone": (b"<svg width='3'></svg>", "SVG"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
    "lfs": (LFS, "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s3--ab.jpg\n", "git annex get"),
    "nifti": (struct.pack("<i", 348) + bytes(340) + b"n+1\0" + bytes(99), "NIfTI"),
    "exr": (b"\x76\x2f\x31\x01\2\0\0\0" + bytes(99), "OpenEXR"),
    "hdr": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "Radiance"),
    "cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(99), "raw file"),
    "cr3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(99), "raw file"),
    "raf": (b"FUJIFILMCCD-RAW 0201" + bytes(99), "raw file"),
    "mp4": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(99), "video"),
    "mov": (b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(99), "video"),
    "avi": (b"RIFF\x10\0\0\0AVI LIST" + bytes(99), "video"),
    "mkv": (b"\x1a\x45\xdf\xa3" + bytes(99), "video"),
    "wav": (b"RIFF\x10\0\0\0WAVEfmt " + bytes(99), "sound"),
    "npy": (npy(), "NumPy"),
    "html": (HTML, "HTML"),
    "html with a mark": (b"\xef\xbb\xbf<html><body>no</body></html>", "HTML"),
    "s3": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "error"),
    "json": (b'{"error": "not found"}', "JSON"),
    "zip": (b"PK\x03\x04" + bytes(99), "ZIP"),
    "gz": (b"\x1f\x8b\x08\0" + bytes(99), "gzip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "zeros": (bytes(5000), "zero bytes"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\n", "EPS"),
    "appledouble": (b"\0\x05\x16\x07\0\2\0\0Mac OS X        " + bytes(99), "AppleDouble"),
    "git link": (b"../images/cat.jpg", "Git writes a link"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_files_are_named_for_what_they_are(name: str) -> None:
    data, said = NAMED[name]
    reason = reason_of(data)
    assert reason.startswith("not an image: ")
    assert said in reason


@pytest.mark.parametrize(
    "form", ["AVIF", "WEBP", "JPEG2000", "PCX", "DDS", "ICO", "TGA", "SGI", "IM"]
)
def test_forms_that_pillow_reads_are_read(form: str) -> None:
    assert decode_image(saved(form, (32, 32))).size == (32, 32)


def test_an_animated_webp_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert decode_image(buffer.getvalue()).getpixel((3, 3)) == (255, 0, 0)


def test_a_preview_in_a_raw_file_is_not_taken_for_the_picture() -> None:
    data = bytearray(tiff(np.zeros((4, 4, 3), np.uint8)))
    entry = struct.pack("<HHIH", 284, 3, 1, 1)
    for tag, value in ((254, 1), (330, 8)):  # a reduced image, and where the whole one is
        at = (
            data.index(entry)
            if entry in data
            else data.index(struct.pack("<HHIH", 339, 3, 3, 0)[:8])
        )
        data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, value)
    assert "raw file" in reason_of(bytes(data))


def test_a_long_text_in_a_png_is_passed_over() -> None:
    data = saved("PNG")
    body = b"note\0\0" + zlib.compress(bytes(3 << 20))
    text = (
        struct.pack(">I", len(body))
        + b"zTXt"
        + body
        + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    )
    assert decode_image(data[:33] + text + data[33:]).size == (24, 18)


def test_the_limit_of_pixels_can_be_raised_and_lowered() -> None:
    data = saved("PNG", (40, 30))
    reason = reason_of(data, Decoding(max_pixels=1199))
    assert reason == "too large: 40 x 30 pixels; --max-pixels 1200 reads it"
    assert decode_image(data, decoding=Decoding(max_pixels=1200)).size == (40, 30)
    with pytest.raises(ConfigError, match="max_pixels 0 would leave out every image"):
        ImageConfig(max_pixels=0)


def claiming(width: int, height: int, bits: int = 8, bands: int = 3, form: int = 1) -> bytes:
    """Return a small TIFF file that says it is large."""
    kind = {8: np.uint8, 16: np.uint16, 64: np.float64}[bits]
    data = bytearray(tiff(np.zeros((4, 4, bands), kind) if bands > 1 else np.zeros((4, 4), kind)))
    for tag, value in ((256, width), (257, height), (278, height)):
        old = struct.pack("<HHII", tag, 4, 1, 4)
        at = data.index(old)
        data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, value)
    old = struct.pack("<HHIH", 259, 3, 1, 1)
    at = data.index(old)
    data[at : at + 10] = struct.pack("<HHIH", 259, 3, 1, form)
    return bytes(data).ljust(5000, b"\0")


def png_bomb() -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(4 << 20)))
    )


def webp_bomb() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9000, 9000)).save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()


BOMBS = {
    "tiff": claiming(60_000, 60_000),
    "tiff below the limit": claiming(13_000, 13_000),
    "deflated tiff": claiming(13_000, 13_000, form=8),
    "lzw tiff of 16 bits": claiming(13_000, 13_000, bits=16, form=5),
    "tiff of many bands": claiming(5000, 5000, bits=64, bands=60),
    "tiff with sides beyond 32 bits": claiming(4_294_967_295, 4_294_967_295),
    "png": png_bomb(),
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_ask_for_gigabytes_take_no_memory(name: str) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert reason_of(BOMBS[name]).startswith("too large: ")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert time.perf_counter() - start < 2


def test_a_plain_page_is_no_bomb() -> None:
    buffer = io.BytesIO()
    Image.new("1", (9000, 8000), 1).save(buffer, "TIFF", compression="group4")
    assert len(buffer.getvalue()) < 20_000
    assert decode_image(buffer.getvalue()).size == (9000, 8000)


def test_directories_that_point_at_the_whole_file_again_and_again_end() -> None:
    entries = 60_000
    body = b"".join(
        struct.pack("<HHII", 256 + number % 9000, 7, 1_000_000, 8) for number in range(entries)
    )
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + body
    data = data.ljust(1_000_100, b"\0")
    start = time.perf_counter()
    assert "claims more than the file holds" in reason_of(data)
    assert time.perf_counter() - start < 2


def test_many_frames_cost_no_time() -> None:
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\0"
    data = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * 100_000 + b";"
    start = time.perf_counter()
    assert decode_image(data).size == (1, 1)
    assert time.perf_counter() - start < 1


DAMAGED = """
import io, sys
import numpy as np
from PIL import Image
from labelfix.errors import UnreadableSample
from labelfix.modalities.image.decode import decode_image, quiet_pillow
rng = np.random.default_rng(0)
bad = 0
with quiet_pillow():
    for form in "raw tiff_lzw tiff_adobe_deflate packbits group4 jpeg png jpg".split():
        image = Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        if form in ("png", "jpg"):
            image.save(buffer, "PNG" if form == "png" else "JPEG")
        else:
            image = image.convert("1") if form == "group4" else image
            image.save(buffer, "TIFF", compression=form)
        for _ in range(100):
            data = bytearray(buffer.getvalue())
            for _ in range(rng.integers(1, 8)):
                data[rng.integers(0, len(data))] = rng.integers(0, 256)
            try:
                decode_image(bytes(data))
            except UnreadableSample:
                bad += 1
assert bad > 200, bad
print("ours", file=sys.stderr)
"""


def test_nothing_of_the_libraries_reaches_stderr() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED], capture_output=True, text=True, check=True
    )
    assert done.stderr == "ours\n"


FORMS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "ICNS", "PPM",
         "TGA", "PCX", "DDS", "SGI", "IM", "PSD"]  # fmt: skip


def samples() -> list[bytes]:
    """Return a small file of every form, and the odder ones."""
    made = [saved(form) for form in FORMS[:9] + FORMS[10:16]]
    made += [saved("ICNS", (32, 32), "RGBA"), saved("MPO"), saved("PNG", mode="P")]
    made += [saved("TIFF", compression=form) for form in ("tiff_lzw", "jpeg", "packbits", "zstd")]
    made += [tiff(np.zeros((6, 6), kind)) for kind in (np.uint16, np.int32, np.float32)]
    made += [tiff(NOISE.integers(0, 9, (6, 6, 5)).astype(np.uint16), ">"), *BOMBS.values()]
    return [*made, *(data for data, _ in NAMED.values())]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Return data with some bytes changed, cut, doubled or moved."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        if not changed:
            break
        at, kind = int(rng.integers(len(changed))), int(rng.integers(6))
        if kind < 3:
            near = int(rng.integers(min(len(changed), 400))) if kind else at
            changed[near] = int(rng.integers(256))
        elif kind == 3:
            changed = changed[:at] if rng.random() < 0.3 else changed
        elif kind == 4:
            stop = min(len(changed), at + int(rng.integers(1, 40)))
            changed[at:at] = changed[at:stop]
        else:
            changed[at : at + 4] = rng.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"]
            )
    return bytes(changed)


def fuzz(cases: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    originals = samples()
    for case in range(cases):
        data = mutated(originals[case % len(originals)], rng)
        start = time.perf_counter()
        with suppress(UnreadableSample):
            assert decode_image(data, at_least=32).mode == "RGB"
        assert time.perf_counter() - start < 20


@pytest.mark.filterwarnings("ignore")
def test_damage_of_any_kind_is_a_reason() -> None:
    fuzz(1500, seed=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(1, 5))
def test_damage_of_any_kind_is_a_reason_at_length(seed: int) -> None:
    fuzz(10_000, seed=seed)
