"""Helpers of several tests, first written for test_near_duplicates."""

import io

import numpy as np
from PIL import Image


def photograph(seed, side=128):
    """Return noise with as much fine as coarse detail, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).resize(
                (side, side), Image.Resampling.BICUBIC
            ),
            dtype=np.float32,
        )
        for size in (4, 8, 16, 32, 64)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


def reencoded(image, quality=50):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def cropped(image, left, top, right, bottom):
    return image.crop((left, top, image.width - right, image.height - bottom))
