"""Bring many tensors back into their balls at once, without a word between device and host.

Letters: S segments (a segment is one tensor, or one row of one), N numbers in all tensors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

ROUNDING = 1e-5
"""A distance that exceeds its radius by less than this share is at it: so that projecting twice
changes nothing more, to the bit."""

SCALE_EPS = 1e-6
"""Added to the running variance under the square root in the rule for batch norm scales."""


class TensorBalls:
    """Balls around given centres that tensors are held in.

    Args:
        weights: The tensors; changed in place by ``project``.
        centres: The centres, with the shapes and strides of ``weights``.
        radii: One radius for each tensor, finite.
        by_row: Hold each row's sum of absolute values (rows lie along the first axis) instead of
            the tensor's Frobenius norm.
        fused: Take the path of few kernels, each over all tensors; for accelerators. It needs
            another 4 N bytes, and on a CPU the plain path is faster.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        centres: Sequence[Tensor],
        radii: Sequence[float],
        *,
        by_row: bool,
        fused: bool,
    ) -> None:
        self._weights, self._centres, self._by_row = list(weights), list(centres), by_row
        self._rows = [len(w) if by_row and w.dim() else 1 for w in weights]
        numbers = [w.numel() for w in weights]
        device = weights[0].device
        self._buffer = torch.empty(sum(numbers), device=device, dtype=weights[0].dtype)
        self._away = [
            part.as_strided(w.shape, _strides(w), part.storage_offset())
            for part, w in zip(torch.split(self._buffer, numbers), weights, strict=True)
        ]
        rows = torch.tensor(self._rows)
        self._radius = torch.tensor(radii, dtype=self._buffer.dtype).repeat_interleave(rows)
        self._radius = self._radius.to(device)
        lengths = (torch.tensor(numbers) // rows).repeat_interleave(rows)
        self._lengths = lengths.to(device)
        self._segment_of = (
            torch.arange(len(lengths), dtype=torch.int32).repeat_interleave(lengths).to(device)
            if fused
            else None
        )

    @torch.no_grad()
    def project(self) -> None:
        """Move each tensor (or row) to ``W0 + (W - W0) * min(1, D / distance)``.

        By Frobenius norm that is the nearest point of the ball. By row it shrinks the whole row
        (Gouk et al., ICLR 2021), which ends inside, though not at the nearest point.
        """
        torch._foreach_copy_(self._away, self._weights)
        torch._foreach_sub_(self._away, self._centres)
        distance = self._distances()
        outside = distance > self._radius * (1 + ROUNDING)
        # a share of exactly 0 leaves a tensor as it is, and of exactly 1 (D = 0) copies the centre
        share = torch.where(outside, 1 - self._radius / distance, 0.0)
        torch._foreach_lerp_(self._weights, self._centres, self._spread(share))

    def _distances(self) -> Tensor:
        """Return ``(S,)`` norms of what lies in the buffer."""
        if self._by_row:
            amounts = self._buffer.abs_()
            return torch.segment_reduce(amounts, "sum", lengths=self._lengths, unsafe=True)
        return torch.stack(torch._foreach_norm(self._away))

    def _spread(self, share: Tensor) -> list[Tensor]:
        """Return ``(S,)`` shares as tensors that broadcast against the weights.

        Kernels that run over many tensors at once want equal shapes: then each number's share is
        written into the buffer, which has served its turn.
        """
        if self._segment_of is not None:
            torch.index_select(share, 0, self._segment_of, out=self._buffer)
            return self._away
        if not self._by_row:
            return list(share.unbind())
        return [
            part.view(-1, *[1] * (w.dim() - 1)) if w.dim() else part[0]
            for part, w in zip(torch.split(share, self._rows), self._weights, strict=True)
        ]


class ScaleBands:
    """Bands that batch norm scales, seen as factors ``s = g / sqrt(running_var)``, are held in.

    Args:
        norms: The batch norms; their scales g are changed in place by ``project``.
        centres: ``s0`` for each, per channel.
        radii: One radius for each, finite: ``|s - s0| <= D`` in every channel.
    """

    def __init__(
        self, norms: Sequence[_BatchNorm], centres: Sequence[Tensor], radii: Sequence[float]
    ) -> None:
        self._norms = list(norms)
        pairs = list(zip(centres, radii, strict=True))
        self._least = [centre - radius for centre, radius in pairs]
        self._most = [centre + radius for centre, radius in pairs]

    @torch.no_grad()
    def project(self) -> None:
        """Clip every factor to its band; a scale within it is not touched."""
        scales: list[Tensor] = [norm.weight for norm in self._norms]
        spread = torch._foreach_add([running_var(norm) for norm in self._norms], SCALE_EPS)
        torch._foreach_sqrt_(spread)
        torch._foreach_minimum_(scales, list(torch._foreach_mul(spread, self._most)))
        torch._foreach_maximum_(scales, list(torch._foreach_mul(spread, self._least)))


def scale_factor(scale: Tensor, running_var: Tensor) -> Tensor:
    """Return by what a batch norm multiplies each channel: ``g / sqrt(running_var + 1e-6)``."""
    return scale / (running_var + SCALE_EPS).sqrt()


def largest_row_sum(tensor: Tensor) -> Tensor:
    """Return the largest sum of absolute values over a row; a vector's rows are its entries."""
    amounts = tensor.abs()
    return amounts.flatten(1).sum(1).max() if tensor.dim() > 1 else amounts.max()


def running_var(norm: _BatchNorm) -> Tensor:
    """Return the running variance of a batch norm that keeps one."""
    variance = norm.running_var
    assert variance is not None, "a batch norm without running statistics has no rule"
    return variance


def _strides(weight: Tensor) -> tuple[int, ...]:
    """Return strides under which a row lies in one piece: the weight's own wherever they do."""
    memory_formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    usual = memory_formats.get(weight.dim(), torch.contiguous_format)
    if weight.is_contiguous() or weight.is_contiguous(memory_format=usual):
        return weight.stride()
    return torch.empty(weight.shape, device="meta").stride()
