"""From a decoded image to the square of pixels that a backbone was trained on.

Letters: S pixels a side.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from labelfix.errors import ConfigError
from labelfix.modalities.image.decode import Decoding

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

        The square is cut first and resized then, which gives what timm's resize and center crop
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


MIRROR_LIMIT = 0.02
"""The systematic share of left-right difference from which images must not be mirrored.

CIFAR-10 and photographs of flowers have less than .001; handwritten digits have .36, and .04 with
all their labels shuffled.
"""

MIRROR_SAMPLES = 4096
"""Images that are looked at to decide it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """What training may do to an image: cut a part out, stretch it, mirror it.

    The defaults are those of torchvision, timm and the authors of RegSL.

    Args:
        scale: The least and the largest share of the area that a part covers.
        ratio: The least and the largest width by height of a part.
        flip: The probability of mirroring left and right: 0 for digits, text and whatever else is
            another thing in the mirror; ``flip_probability`` finds it from the images.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ConfigError(
                f"the scale of augmentation {self.scale} is not a range within 0 to 1",
                hint="try (0.08, 1.0)",
            )
        if not 0 < self.ratio[0] <= 1 <= self.ratio[1]:
            raise ConfigError(
                f"the ratio of augmentation {self.ratio} does not lie around 1",
                hint="try (0.75, 1.33)",
            )
        if not 0 <= self.flip <= 1:
            raise ConfigError(
                f"the flip {self.flip} is not a probability", hint="0.5 mirrors every other image"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """A part of each of B images. Lengths are shares of the stored side.

    Args:
        left: ``(B,)`` float32, at least 0.
        top: ``(B,)`` float32, at least 0.
        width: ``(B,)`` float32; ``left + width`` is at most 1.
        height: ``(B,)`` float32; ``top + height`` is at most 1.
        is_flipped: ``(B,)`` bool.
    """

    left: Tensor
    top: Tensor
    width: Tensor
    height: Tensor
    is_flipped: Tensor


CHANCES = 5
"""Random numbers that a crop takes: area, shape, two of place, and whether it is mirrored."""


def draw_chances(count: int, *, seed: int, epoch: int) -> NDArray[np.float64]:
    """Return ``(N, 5)`` uniform numbers in [0, 1): the same for a sample whatever else is drawn.

    Args:
        count: N, or more than the highest number of a sample.
        seed: Of the run.
        epoch: Each has its own.
    """
    stream = 1  # not that of the epoch's order
    return np.random.default_rng([seed, epoch, stream]).random((count, CHANCES))


def draw_crops(chances: NDArray[np.float64], augment: Augment) -> Crops:
    """Return the part of each image that an epoch shows, on the CPU.

    Args:
        chances: ``(B, 5)``, those of `draw_chances` of the samples in the batch.
        augment: What may be drawn.
    """
    area, shape, x, y, coin = chances.T
    area = augment.scale[0] + area * (augment.scale[1] - augment.scale[0])
    # at this area, any ratio between these fits into the square
    low = np.log(np.maximum(augment.ratio[0], area))
    high = np.log(np.minimum(augment.ratio[1], 1 / area))
    ratio = np.exp(low + shape * (high - low))
    width, height = np.minimum(1, np.sqrt(area * ratio)), np.minimum(1, np.sqrt(area / ratio))
    crops = [width, height, x * (1 - width), y * (1 - height)]
    wide, tall, left, top = (torch.from_numpy(part.astype(np.float32)) for part in crops)
    return Crops(left, top, wide, tall, is_flipped=torch.from_numpy(coin < augment.flip))


class BatchTransform:
    """Turns stored pixels into what a network sees.

    Args:
        preprocessing: T, the central square that the network was made for, mean and std.
        device: Where the views are made.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        self._size = preprocessing.size
        self._crop_share = preprocessing.crop_share
        std = torch.tensor(preprocessing.std, dtype=torch.float64)
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64)
        self._factor = (1 / (255 * std)).float().view(3, 1, 1).to(device)
        self._shift = (mean / std).float().view(3, 1, 1).to(device)
        self._device = device

    def train_inputs(self, pixels: Tensor, crops: Crops) -> Tensor:
        """Return ``(B, 3, T, T)`` float32: the crops, enlarged, flipped and normalized.

        Args:
            pixels: ``(B, S, S, 3)`` uint8.
            crops: Which part of each.
        """
        # (2, B, T): where in [-1, 1] each column and each row of a view lies in its image
        centers = (torch.arange(self._size) + 0.5) / self._size
        turned = torch.where(crops.is_flipped[:, None], 1 - centers, centers)
        columns = crops.left[:, None] + crops.width[:, None] * turned
        lines = crops.top[:, None] + crops.height[:, None] * centers
        axes = self.moved(torch.stack([columns, lines]).mul_(2).sub_(1))
        shape = (len(pixels), self._size, self._size)
        grid = torch.stack(
            [axes[0, :, None, :].expand(shape), axes[1, :, :, None].expand(shape)], dim=-1
        )
        images = self.moved(pixels).permute(0, 3, 1, 2).float()
        views = grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        return self._normalized(views)

    def eval_inputs(self, pixels: Tensor) -> Tensor:
        """Return ``(B, 3, T, T)`` float32: the central square, normalized.

        Args:
            pixels: ``(B, S, S, 3)`` uint8.
        """
        stored = pixels.shape[1]
        side = max(1, round(stored * self._crop_share))
        if abs(side - self._size) <= 1 and stored >= self._size:
            side = self._size  # the stored size was rounded: no reason to resize
        start = (stored - side) // 2
        part = self.moved(pixels)[:, start : start + side, start : start + side]
        images = part.permute(0, 3, 1, 2).float()
        if side != self._size:
            images = interpolate(
                images, size=(self._size, self._size), mode="bilinear", antialias=True
            )
        return self._normalized(images)

    def moved(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the device, without waiting for the copy."""
        if self._device.type == "cuda" and tensor.device.type == "cpu" and not tensor.is_pinned():
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)

    def _normalized(self, images: Tensor) -> Tensor:
        """Normalize in place; the values still run to 255."""
        images = images.mul_(self._factor).sub_(self._shift)
        return images.contiguous(memory_format=torch.channels_last)


def flip_probability(values: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Return 0.5 if images may be mirrored, 0 if they look as if that made other things of them.

    Photographs of things are as often turned left as right, so that the mean image of a class is
    near its own mirror image; that of a digit or a letter is not. Compared are the part of the
    left-right difference that is the same throughout a class and the whole of it.

    Args:
        values: ``(N, S, S, 3)`` uint8 pixels.
        labels: ``(N,)`` given labels; negative ones are left out. Some may be wrong.
    """
    return 0.0 if mirror_asymmetry(values, labels) > MIRROR_LIMIT else 0.5


def mirror_asymmetry(values: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Return which share of the left-right difference is systematic, around 0 where nothing is.

    Args:
        values: ``(N, S, S, 3)`` uint8 pixels.
        labels: ``(N,)`` given labels; negative ones are left out.
    """
    chosen = np.flatnonzero(labels >= 0)
    if len(chosen) > MIRROR_SAMPLES:
        chosen = chosen[np.linspace(0, len(chosen) - 1, MIRROR_SAMPLES).astype(int)]
    systematic = total = 0.0
    for label in np.unique(labels[chosen]):
        rows = chosen[labels[chosen] == label]
        if len(rows) < 2:
            continue
        difference = _left_right(values, rows)
        power = float(np.square(difference).sum(axis=1).mean())
        of_mean = float(np.square(difference.mean(axis=0)).sum())
        # the mean of n differences that cancel out still has a share of 1 / n of their power
        systematic += len(rows) * (of_mean - power / len(rows)) / (1 - 1 / len(rows))
        total += len(rows) * power
    return systematic / total if total else 0.0


def _left_right(values: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return ``(n, 256)``: small grey images less their mirror images."""
    parts = []
    for start in range(0, len(rows), 64):  # few at a time: as floats they are large
        grey = torch.from_numpy(values[rows[start : start + 64]]).float().mean(dim=3)
        small = interpolate(grey[:, None], size=(16, 16), mode="area")[:, 0]
        parts.append((small - small.flip(-1)).flatten(1).numpy())
    return np.concatenate(parts)
