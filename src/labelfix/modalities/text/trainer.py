"""How a Hugging Face encoder is trained on texts: as a whole, or its upper blocks.

Letters: N texts, T tokens of a text, H features of a token, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelfix.arguments import named
from labelfix.config import AuditConfig
from labelfix.errors import BackboneError
from labelfix.modalities.base import NetworkCut, NetworkTrainer
from labelfix.modalities.batching import Rows
from labelfix.modalities.text.activations import FrozenBlocks, stored_activations
from labelfix.modalities.text.network import fresh_network, made_up_tokens
from labelfix.modalities.text.tokens import TextViews, Tokens, decoded, read_tokens, said_of_cuts
from labelfix.modalities.text.transformer import Transformer, load_transformer
from labelfix.types import Assumption, SampleStore
from labelfix.utils.progress import OnProgress
from labelfix.utils.sample_reader import read_rows
from labelfix.utils.torch_utils import fastest_dtype

MOST_TOKENS = 256
"""Tokens of a text that a network is trained on, at most: a step takes as long as its longest."""

_LOOKED_AT = 512
_GRAIN = 8


@dataclass(frozen=True, slots=True, eq=False)
class TextTrainer:
    """A pretrained encoder, and the tokens that it is trained on.

    Args:
        transformer: As loaded.
        usual: Tokens of a text, in the mean of some.
        longest: Tokens of the longest of these.
        config: What was asked for.
    """

    transformer: Transformer
    usual: int
    longest: int
    config: AuditConfig

    @classmethod
    def load(cls, config: AuditConfig, store: SampleStore) -> "TextTrainer":
        """Load the encoder.

        Args:
            config: What was asked for.
            store: Some of its texts tell how long they are.

        Raises:
            BackboneError: It cannot be had, or is nothing that can be trained.
        """
        if not config.backbone.pretrained or config.backbone.weights is not None:
            raise BackboneError(
                "encoders of texts begin with the weights of their own folder",
                hint=f"name the folder with {named('backbone')}, without {named('weights')} or "
                f"{named('pretrained', value=False)}",
            )
        transformer = load_transformer(config.backbone)
        fresh_network(transformer.model, 2)  # refuses what is not made of blocks
        usual, longest = cls(transformer, 0, 0, config)._lengths(store)
        return cls(transformer, usual, longest, config)

    @property
    def name(self) -> str:
        """Which encoder it is."""
        return self.transformer.name

    @property
    def length(self) -> int:
        """Tokens of a text that are read at most."""
        return min(MOST_TOKENS, self.transformer.length)

    def encode(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> Tokens:
        """Read every text once, and cut it into tokens."""
        return read_tokens(store, self.transformer, self.length, on_progress)

    def views(
        self,
        store: SampleStore,
        seen: Tokens,
        given_label: NDArray[np.int64],
        device: torch.device,
        *,
        rank: int,
        world_size: int,
    ) -> TextViews:
        """Return batches of tokens; arguments as of `NetworkTrainer`."""
        return TextViews(seen.lengths, seen.padded, device, rank=rank, world_size=world_size)

    def pretrained_state(self) -> dict[str, Tensor]:
        """Return the weights that training begins with."""
        state = fresh_network(self.transformer.model, 2).state_dict()
        return {name: value for name, value in state.items() if not name.startswith("head.")}

    def fresh_network(self, classes: int, device: torch.device) -> nn.Module:
        """Return the network with a fresh head of K classes, on a device."""
        return fresh_network(self.transformer.model, classes).to(device)

    def settings(self) -> Mapping[str, Any]:
        """Return what shapes the inputs and names the weights, as JSON values."""
        return {"most_tokens": self.length, "weights_digest": self.transformer.digest}

    def notes(self) -> Sequence[str]:
        """Return nothing: all is told by the settings."""
        return ()

    def probe(self, count: int, *, is_longest: bool = False) -> Tensor:
        """Return ``(count, T, FACTS)`` tokens of texts of the usual length, or of the longest."""
        length = self.longest if is_longest else self.usual
        return made_up_tokens(count, length, self.transformer.model.config)

    @property
    def has_views(self) -> bool:
        """Return that a text is seen as it is."""
        return False

    def cut_at(self, cut: NetworkCut) -> NetworkTrainer:
        """Return a trainer of the upper blocks on activations of the lower ones."""
        return TextTopTrainer(self, cut)

    def recipe(self, classes: int, weights: str) -> str:
        """Return in words how the network is made of a file of weights."""
        return (
            f"transformers.AutoModel.from_pretrained({self.name!r}) with the weights of {weights} "
            "whose names begin with 'encoder.'; the mean of its last hidden state over the "
            f"tokens; a linear layer of {classes} outputs with the weights of 'head'"
        )

    def _lengths(self, store: SampleStore) -> tuple[int, int]:
        """Return the usual length and the longest of some texts."""
        rows = np.linspace(0, len(store) - 1, min(_LOOKED_AT, len(store))).astype(np.int64)
        texts = list(decoded(read_rows(store, rows.tolist()), {}).values())
        if not texts:
            return _GRAIN, _GRAIN
        tokens, _ = self.transformer.tokenize(texts, self.length)
        counts = [len(ids) for ids in tokens["input_ids"]]
        told = float(np.mean(counts)), float(max(counts))
        usual, longest = (min(self.length, _rounded_up(count)) for count in told)
        return usual, longest


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TextActivations:
    """What the frozen blocks make of N texts.

    Args:
        values: ``(N, T, H)`` uint16, the bits of bfloat16 numbers, mapped from disk; zeros follow
            the last token.
        lengths: ``(N,)`` tokens of each text, T at most.
        content: ``(N,)`` 16-byte digests of the encoded texts; equal means byte-identical.
        unreadable: Row to reason, for the texts that could not be read.
        assumptions: What was taken for granted on the way here.
    """

    values: NDArray[np.uint16]
    lengths: NDArray[np.int64]
    content: NDArray[np.bytes_]
    unreadable: Mapping[int, str]
    assumptions: tuple[Assumption, ...] = ()

    def padded(self, rows: Rows, length: int) -> Tensor:
        """Return ``(B, length, H)`` bits of the first tokens of some texts."""
        return torch.from_numpy(self.values[rows, :length].view(np.int16))


@dataclass(frozen=True, slots=True, eq=False)
class TextTopTrainer:
    """The upper blocks of an encoder, trained on what the frozen lower ones make of each text.

    Args:
        whole: The encoder.
        cut: Where it is cut.
    """

    whole: TextTrainer
    cut: NetworkCut

    @property
    def name(self) -> str:
        """Which encoder it is."""
        return self.whole.name

    @property
    def has_views(self) -> bool:
        """Return that a text is seen as it is."""
        return False

    def encode(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> TextActivations:
        """Run every text through the lower blocks, or find it in the cache.

        Of each text as many tokens are kept as the longest has, as far as the space that the
        settings allow for activations goes.

        Raises:
            RunError: The cache cannot be written to, or has too little space.
        """
        tokens = self.whole.encode(store, fingerprint, cache, on_progress)
        length, assumptions = self._kept_length(tokens)
        stored = stored_activations(
            store,
            tokens,
            fingerprint,
            self._frozen_blocks(),
            length,
            cache=cache / "activations",
            on_progress=on_progress,
        )
        return TextActivations(
            values=stored.arrays["values"],
            lengths=tokens.lengths.clip(max=length),
            content=stored.content,
            unreadable=stored.unreadable,
            assumptions=assumptions,
        )

    def views(
        self,
        store: SampleStore,
        seen: TextActivations,
        given_label: NDArray[np.int64],
        device: torch.device,
        *,
        rank: int,
        world_size: int,
    ) -> TextViews:
        """Return batches of activations; arguments as of `NetworkTrainer`."""
        return TextViews(
            seen.lengths,
            seen.padded,
            device,
            convert=lambda bits: bits.view(torch.bfloat16).float(),
            rank=rank,
            world_size=world_size,
        )

    def pretrained_state(self) -> dict[str, Tensor]:
        """Return the weights of the whole network."""
        return self.whole.pretrained_state()

    def fresh_network(self, classes: int, device: torch.device) -> nn.Module:
        """Return the upper blocks with a fresh head of K classes, on a device."""
        cpu = torch.device("cpu")
        return self.cut.upper(self.whole.fresh_network(classes, cpu)).to(device)

    def settings(self) -> Mapping[str, Any]:
        """Return what shapes the inputs and names the weights, as JSON values."""
        return {**self.whole.settings(), "cut": self.cut.module, "views": 1}

    def notes(self) -> Sequence[str]:
        """Return what a reader of the report would not think of, a sentence each."""
        return (f"the blocks below {self.cut.module} stayed as pretrained, and none has drop-out",)

    def probe(self, count: int, *, is_longest: bool = False) -> Tensor:
        """Return ``(count, T, FACTS)`` tokens of texts of the usual length, or of the longest."""
        return self.whole.probe(count, is_longest=is_longest)

    def cut_at(self, cut: NetworkCut) -> NetworkTrainer:
        """Return a trainer of the same encoder, cut elsewhere."""
        return self.whole.cut_at(cut)

    def recipe(self, classes: int, weights: str) -> str:
        """Return in words how the whole network is made of a file of weights."""
        return self.whole.recipe(classes, weights)

    def _kept_length(self, tokens: Tokens) -> tuple[int, tuple[Assumption, ...]]:
        longest = _rounded_up(float(tokens.lengths.max(initial=1)))
        bytes_of_token = 2 * self.cut.shape[-1] * max(1, len(tokens.content))
        fitting = self.whole.config.top.cache_bytes // bytes_of_token
        if longest <= fitting:
            return longest, tokens.assumptions
        count = int((tokens.lengths > fitting).sum())
        return fitting, said_of_cuts(count, fitting, self.name)

    def _frozen_blocks(self) -> FrozenBlocks:
        transformer, device = self.whole.transformer, self.cut.device
        dtype = fastest_dtype(device)
        model = self.whole.fresh_network(2, torch.device("cpu")).eval()
        asked = self.whole.config.backbone.batch_size
        return FrozenBlocks(
            forward=self.cut.lower(model.to(device=device, dtype=dtype)),
            width=self.cut.shape[-1],
            key=f"{transformer.digest} {self.cut.module}",
            device=device,
            dtype=dtype,
            batch_size=asked or (16 if device.type == "cpu" else 256),
        )


def _rounded_up(tokens: float) -> int:
    return -(-int(np.ceil(tokens)) // _GRAIN) * _GRAIN
