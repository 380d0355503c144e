"""Helpers of several tests, first written for test_deep_images."""

import struct

import numpy as np


def tiff(values: np.ndarray, order: str = "<", **tags: int) -> bytes:
    """Write an uncompressed TIFF file of any number type, grey or of several bands."""
    values = np.asarray(values)
    bands = values.shape[2] if values.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    body = values.astype(values.dtype.newbyteorder(order)).tobytes()
    size = values.dtype.itemsize * 8
    entries = {
        256: (4, [values.shape[1]]), 257: (4, [values.shape[0]]), 258: (3, [size] * bands),
        259: (3, [1]), 262: (3, [tags.get("photometric", 2 if bands == 3 else 1)]), 273: (4, [8]),
        277: (3, [bands]), 278: (4, [values.shape[0]]), 279: (4, [len(body)]),
        284: (3, [1]), 339: (3, [kind] * bands),
    }  # fmt: skip
    if bands > 3:
        entries[338] = (3, [tags.get("extra", 0)] * (bands - 3))
    start = 8 + len(body) + len(body) % 2
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    directory, after = b"", b""
    place = start + 2 + 12 * len(entries) + 4
    for tag, (form, numbers) in sorted(entries.items()):
        data = b"".join(struct.pack(f"{order}{'HI'[form - 3]}", number) for number in numbers)
        if len(data) > 4:
            data, after = struct.pack(f"{order}I", place + len(after)), after + data
        directory += struct.pack(f"{order}HHI", tag, form, len(numbers)) + data.ljust(4, b"\0")
    count = struct.pack(f"{order}H", len(entries))
    return head + body.ljust(start - 8, b"\0") + count + directory + bytes(4) + after
