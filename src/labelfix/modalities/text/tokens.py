"""Texts as the tokens that a network reads, and batches of them.

Letters: N texts, B texts of a batch, T tokens of the longest of them, M tokens of all texts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelfix.errors import UnreadableSample
from labelfix.modalities.batching import (
    Rows,
    alike_in_length,
    epoch_order,
    evaluation_batches,
    prefetched,
    training_batches,
    training_steps,
)
from labelfix.modalities.text.network import FACTS
from labelfix.modalities.text.reading import decode_text
from labelfix.modalities.text.transformer import Transformer
from labelfix.types import Assumption, SampleStore
from labelfix.utils.progress import OnProgress, Progress
from labelfix.utils.sample_reader import (
    DIGEST_BYTES,
    digest_or_reason,
    digests_of_batch,
    read_batches,
)

STAGE = "reading the texts"
_BATCH = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """The tokens of N texts, one text after the other.

    Args:
        codes: ``(M,)`` int32.
        parts: ``(M,)`` uint8: 1 in the second of two texts that belong together.
        starts: ``(N + 1,)`` where those of each text begin; a text that cannot be read has none.
        content: ``(N,)`` 16-byte digests of the encoded texts; equal means byte-identical.
        unreadable: Row to reason, for the texts that could not be read.
        assumptions: What was taken for granted on the way here.
    """

    codes: NDArray[np.int32]
    parts: NDArray[np.uint8]
    starts: NDArray[np.int64]
    content: NDArray[np.bytes_]
    unreadable: Mapping[int, str]
    assumptions: tuple[Assumption, ...] = ()

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return ``(N,)`` how many tokens each text has."""
        return np.diff(self.starts)

    def padded(self, rows: Rows, length: int) -> Tensor:
        """Return ``(B, length, FACTS)`` int64 tokens of some texts, cut or filled up with zeros."""
        values = np.zeros((len(rows), length, FACTS), np.int64)
        for place, row in enumerate(rows):
            some = slice(self.starts[row], min(self.starts[row + 1], self.starts[row] + length))
            count = some.stop - some.start
            values[place, :count, 0] = self.codes[some]
            values[place, :count, 1] = 1
            values[place, :count, 2] = self.parts[some]
        return torch.from_numpy(values)


def read_tokens(
    store: SampleStore, transformer: Transformer, length: int, on_progress: OnProgress
) -> Tokens:
    """Read every text once, and cut it into tokens.

    Args:
        store: N encoded texts.
        transformer: Whose tokenizer is asked.
        length: Tokens of a text at most; what is longer is said.
        on_progress: Told how many texts were read.
    """
    codes: list[NDArray[np.int32]] = []
    parts: list[NDArray[np.uint8]] = []
    sizes = np.zeros(len(store), np.int64)
    contents, unreadable = [np.empty(0, f"S{DIGEST_BYTES}")], {}
    count = 0
    for start, encoded in read_batches(store, batch_size=_BATCH):
        _, content, faults = digests_of_batch(start, [digest_or_reason(data) for data in encoded])
        texts = decoded(encoded, faults)
        if texts:
            tokens, is_cut = transformer.tokenize(list(texts.values()), length)
            zeros = [[0] * len(ids) for ids in tokens["input_ids"]]
            codes += [np.array(ids, np.int32) for ids in tokens["input_ids"]]
            parts += [np.array(ids, np.uint8) for ids in tokens.get("token_type_ids", zeros)]
            sizes[start + np.array(list(texts))] = [len(ids) for ids in tokens["input_ids"]]
            count += int(is_cut.sum())
        contents.append(content)
        unreadable.update({start + place: why for place, why in faults.items()})
        on_progress(Progress(STAGE, start + len(encoded), len(store), "texts"))
    return Tokens(
        codes=np.concatenate([np.empty(0, np.int32), *codes]),
        parts=np.concatenate([np.empty(0, np.uint8), *parts]),
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        content=np.concatenate(contents),
        unreadable=unreadable,
        assumptions=said_of_cuts(count, length, transformer.name),
    )


def decoded(encoded: list[bytes | str], faults: dict[int, str]) -> dict[int, str]:
    """Return the texts of a batch by their place, and note why others cannot be read.

    Args:
        encoded: Of B samples; text is the reason why there is none.
        faults: Takes place and reason.
    """
    texts = {}
    for place, data in enumerate(encoded):
        if isinstance(data, str):
            continue
        try:
            texts[place] = decode_text(data)
        except UnreadableSample as error:
            faults[place] = str(error)
    return texts


def said_of_cuts(count: int, length: int, name: str) -> tuple[Assumption, ...]:
    """Return what a report says of texts that were too long to be read whole."""
    if not count:
        return ()
    what = "text is" if count == 1 else "texts are"
    said = f"{count:,} {what} longer than the {length} tokens that {name} reads"
    return (Assumption("values", f"{said}: it saw the beginning alone (--backbone)"),)


class TextViews:
    """Batches of texts that are about equally long, filled up to the longest of each batch.

    Args:
        lengths: ``(N,)`` tokens of each text.
        gather: Takes rows ``(B,)`` and T, and returns inputs ``(B, T, ...)``; called in a thread.
        convert: Makes inputs of what was gathered, on the device.
        device: Where inputs are wanted.
        rank: Which process this is, from 0.
        world_size: How many there are.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        gather: Callable[[Rows, int], Tensor],
        device: torch.device,
        *,
        convert: Callable[[Tensor], Tensor] = lambda inputs: inputs,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._lengths, self._gather, self._convert = lengths, gather, convert
        self._device = device
        self._rank, self._world_size = rank, world_size

    def step_sizes(self, rows: Rows, batch_size: int) -> list[int]:
        """Return how many rows each step of an epoch takes, over all processes."""
        return training_steps(len(rows), batch_size=batch_size, world_size=self._world_size)

    def training(
        self, rows: Rows, batch_size: int, *, seed: int, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows ``(B,)`` and inputs ``(B, T, ...)`` in a new order each epoch.

        Args:
            rows: Numbers of the samples to train on.
            batch_size: B.
            seed: Of the order.
            epoch: Each has its own.
        """
        order = epoch_order(np.unique(rows), seed=seed, epoch=epoch)
        steps = self.step_sizes(order, batch_size)
        order = alike_in_length(order, self._lengths, steps, seed=seed, epoch=epoch)
        yield from self._ahead(
            training_batches(
                order, batch_size=batch_size, rank=self._rank, world_size=self._world_size
            )
        )

    def evaluation(self, rows: Rows, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows ``(B,)`` and inputs, each row once over all processes, short texts first."""
        by_length = rows[np.lexsort((rows, self._lengths[rows]))]
        batches = evaluation_batches(
            np.arange(len(rows)),
            batch_size=batch_size,
            rank=self._rank,
            world_size=self._world_size,
        )
        yield from self._ahead(by_length[batch] for batch in batches)

    def _ahead(self, batches: Iterable[Rows]) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, inputs in prefetched(self._gathered, batches, self._device):
            yield rows, self._convert(inputs)

    def _gathered(self, rows: Rows) -> tuple[Tensor, Tensor]:
        inputs = self._gather(rows, int(self._lengths[rows].max(initial=1)))
        return torch.from_numpy(rows), inputs
