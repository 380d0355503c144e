"""Run texts through the frozen lower blocks of an encoder once, and keep what comes out.

Letters: N texts, B texts of a batch, T tokens that are kept of a text, H features of a token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.errors import RunError
from labelfix.modalities.text.reading import fault_of
from labelfix.modalities.text.tokens import Tokens
from labelfix.types import SampleStore
from labelfix.utils.cache import Column, RowWork, StoredRows, cache_key, rows_of
from labelfix.utils.files import has_space
from labelfix.utils.progress import OnProgress
from labelfix.utils.shards import IsKnown, RowBatch
from labelfix.utils.threads import map_ahead
from labelfix.utils.torch_utils import MicroBatcher, one_core_threads

CACHE_VERSION = 1
"""Raised when the same texts and network would give other activations."""

STAGE = "running the frozen blocks"

_ROWS = 1024
_GRAIN = 8
"""Texts are filled up to a multiple of so many tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class FrozenBlocks:
    """The lower blocks of an encoder, ready to run.

    Args:
        forward: Takes ``(B, T, FACTS)`` tokens and returns ``(B, T, H)`` states.
        width: H.
        key: Names the network and the cut: equal keys mean equal activations.
        device: Where they run.
        dtype: The number format of their forward pass.
        batch_size: B.
    """

    forward: Callable[[Tensor], Tensor]
    width: int
    key: str
    device: torch.device
    dtype: torch.dtype
    batch_size: int


def stored_activations(
    store: SampleStore,
    tokens: Tokens,
    fingerprint: str,
    blocks: FrozenBlocks,
    length: int,
    *,
    cache: Path,
    on_progress: OnProgress,
) -> StoredRows:
    """Return ``values`` ``(N, T, H)``, bits of bfloat16 numbers; kept ones are not computed again.

    Zeros follow the last token of a text, and stand for one that cannot be read.

    Args:
        store: N encoded texts.
        tokens: What was read of them.
        fingerprint: Names the data set, so that an interrupted computation goes on.
        blocks: The frozen part of the network.
        length: T.
        cache: The folder that holds the activations of all runs.
        on_progress: Told about every batch.

    Raises:
        RunError: The cache cannot be written to, or has too little space.
        TrainingError: Memory is too small for a text.
    """
    wanted = len(store) * 2 * length * blocks.width
    key = cache_key(
        CACHE_VERSION, blocks.key, length, blocks.batch_size, str(blocks.dtype), blocks.device.type
    )
    work = RowWork(
        what="activations",
        stage=STAGE,
        columns={"values": Column(np.uint16, (length, blocks.width))},
        compute=partial(_compute, tokens=tokens, blocks=blocks, length=length),
        batch_size=_ROWS,
        fault=fault_of,
        may_write=lambda unfinished: has_space(unfinished, wanted),
    )
    stored = rows_of(cache / key, store, fingerprint, work, on_progress)
    if stored is None:
        raise RunError(
            f"the activations of {len(store):,} texts take {wanted / 1e9:.1f} GB, and there is "
            f"too little space in {cache}",
            hint="choose another place with --cache, or --tune head",
        )
    return stored


def _compute(
    store: SampleStore,
    rows: range,
    is_known: IsKnown,
    *,
    tokens: Tokens,
    blocks: FrozenBlocks,
    length: int,
) -> Iterator[RowBatch]:
    """Yield the activations of those of some texts that are not known yet, batch by batch.

    On a CPU each worker takes a batch on one core. What becomes of a text depends on nothing else:
    it is filled up to a length of its own, in a batch of always the same size.
    """
    portions = MicroBatcher()
    workers = torch.get_num_threads() if blocks.device.type == "cpu" else 1
    with one_core_threads(workers) as pool:
        for start in range(rows.start, rows.stop, _ROWS):
            content = tokens.content[start : min(start + _ROWS, rows.stop)]
            faults = {
                row - start: why
                for row, why in tokens.unreadable.items()
                if start <= row < start + len(content)
            }
            is_wanted = ~is_known(start, content)
            is_wanted[list(faults)] = False
            places = np.flatnonzero(is_wanted)
            values = np.zeros((len(places), length, blocks.width), np.uint16)
            batches = _of_one_length(
                tokens.lengths[start + places].clip(max=length), blocks.batch_size
            )

            def forward(
                batch: tuple[NDArray[np.int64], int], rows: NDArray[np.int64] = start + places
            ) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
                some, longest = batch
                filled = some[np.arange(blocks.batch_size) % len(some)]
                inputs = tokens.padded(rows[filled], min(longest, length))
                parts = portions.run(
                    len(inputs), lambda cut: [_states(inputs[part], blocks) for part in cut]
                )
                return some, np.concatenate(parts)[: len(some)]

            for some, states in map_ahead(pool, forward, batches, 2 * workers):
                values[some, : states.shape[1]] = states
            yield RowBatch(content, places, {"values": values}, faults)


def _of_one_length(
    lengths: NDArray[np.int64], batch_size: int
) -> list[tuple[NDArray[np.int64], int]]:
    """Return batches of texts, by their places, and how many tokens each is filled up to."""
    filled = -(-lengths // _GRAIN) * _GRAIN
    batches = []
    for longest in np.unique(filled).tolist():
        places = np.flatnonzero(filled == longest)
        batches += [
            (places[start : start + batch_size], longest)
            for start in range(0, len(places), batch_size)
        ]
    return batches


@torch.inference_mode()
def _states(inputs: Tensor, blocks: FrozenBlocks) -> NDArray[np.uint16]:
    """Return ``(B, T, H)`` bits of bfloat16 states, zeros where there is no token."""
    inputs = inputs.to(blocks.device)
    states = blocks.forward(inputs) * inputs[:, :, 1:2]
    bits: NDArray[np.uint16] = states.to(torch.bfloat16).view(torch.int16).cpu().numpy()
    return bits.view(np.uint16)
