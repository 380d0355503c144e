"""What images look like, for tests that do not look."""

import numpy as np

from labelfix.types import ImageStatistics


def plain_appearances(count):
    """Return the looks of ``count`` images that nothing is odd about."""
    return ImageStatistics(
        side=np.full(count, 64, np.float32),
        bright_end=np.full(count, 0.9, np.float32),
        dark_end=np.full(count, 0.1, np.float32),
        laplacian_variance=np.full(count, 500, np.float32),
        thumbnails=np.zeros((count, 32, 32), np.uint8),
    )
