"""Encoded images in memory, whose color tells their number, for tests of what reads images."""

import io

import numpy as np
from PIL import Image

from labelfix.errors import UnreadableSample

TORN = b"\x89PNG\r\n\x1a\n torn"


def numbered(row, width=24, height=24):
    """Return a PNG of one color, which ``number_of`` tells again."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (row % 256, row // 256, 77)).save(buffer, "PNG")
    return buffer.getvalue()


def number_of(pixels):
    """Return the ``(B,)`` numbers of ``(B, S, S, 3)`` pixels; fails unless each has one color."""
    pixels = np.asarray(pixels).astype(int)
    assert (pixels == pixels[:, :1, :1]).all()
    return pixels[:, 0, 0, 0] + 256 * pixels[:, 0, 0, 1]


class MemoryImages:
    """A store that counts its reads and can fail like a killed process."""

    def __init__(self, encoded, stop_at=None):
        self.encoded, self.stop_at, self.reads = encoded, stop_at, []

    def __len__(self):
        return len(self.encoded)

    def read(self, index):
        if index == self.stop_at:
            raise KeyboardInterrupt
        self.reads.append(index)
        if self.encoded[index] is None:
            raise UnreadableSample("file is missing")
        return self.encoded[index]

    def location(self, index):
        return f"memory:{index}"
