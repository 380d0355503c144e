"""From a decoded image to the square of pixels that a backbone was trained on.

Letters: S pixels a side.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

from labelfix.images import Decoding

SMALLEST_SIZE = 96
"""Below this, a network that divides its input by 32 sees hardly anything."""

ENLARGE_AT_MOST = 5
"""Small images are enlarged up to this factor: more costs time and shows nothing new."""

STEP = 32
"""Sizes are multiples of it, as the stride of most networks wants."""

_TORCH_MODE = {"bilinear": "bilinear", "bicubic": "bicubic"}
"""timm's names of the two that torch can do with antialiasing; any other becomes bicubic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What an image goes through before a network sees it.

    Args:
        size: S, pixels a side.
        crop_share: The share of the shorter side that the central square covers.
        interpolation: ``"bicubic"`` or ``"bilinear"``.
        mean: Of each channel, in [0, 1]; subtracted by the backbone.
        std: Of each channel, in [0, 1]; divided by in the backbone.
        decoding: How an encoded image becomes pixels to begin with.
    """

    size: int
    crop_share: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    decoding: Decoding = field(default_factory=Decoding)

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the ``(S, S, 3)`` central square of an RGB image.

        The square is cut first and resized then, which gives what timm's resize and centre crop
        give, up to rounding, and touches fewer pixels. torch resizes bytes many times faster than
        Pillow does.
        """
        width, height = image.size
        side = max(1, round(min(width, height) * self.crop_share))
        left, top = (width - side) // 2, (height - side) // 2
        square = torch.from_numpy(np.array(image)[top : top + side, left : left + side])
        resized = interpolate(
            square.permute(2, 0, 1).unsqueeze(0),
            size=(self.size, self.size),
            mode=_TORCH_MODE.get(self.interpolation, "bicubic"),
            antialias=True,
        )
        return resized.squeeze(0).permute(1, 2, 0).numpy()


def choose_image_size(
    image_side: int, *, native: int, is_fixed: bool, wanted: int | None
) -> tuple[int, bool]:
    """Return the input size in pixels, and whether it is the network's own.

    Args:
        image_side: The typical shorter side of the images, pixels.
        native: The size that the network was made for, pixels.
        is_fixed: The network takes no other size.
        wanted: What the user asked for; ``None`` leaves the choice to the data.
    """
    if wanted is not None:
        return wanted, wanted == native
    enlarged = -(-image_side * ENLARGE_AT_MOST // STEP) * STEP
    if is_fixed or enlarged >= native:
        return native, True
    return max(enlarged, min(SMALLEST_SIZE, native)), False
