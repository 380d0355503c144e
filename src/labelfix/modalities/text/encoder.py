"""What makes features of texts: a part that knows the language, and one that knows the data set.

Letters: N texts, n readable ones, D features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.arguments import named
from labelfix.config import EMBEDDED_BACKBONE, AuditConfig
from labelfix.errors import UnreadableSample
from labelfix.modalities.text.ngrams import CHARACTERS, WORDS, ngram_features
from labelfix.modalities.text.reading import decode_text
from labelfix.modalities.text.static_embeddings import NAME as STATIC
from labelfix.modalities.text.static_embeddings import StaticEmbeddings, load_static_embeddings
from labelfix.modalities.text.statistics import text_statistics
from labelfix.modalities.text.tokens import said_of_cuts
from labelfix.modalities.text.transformer import INSTALL, MINILM, Transformer, load_transformer
from labelfix.types import Assumption, Features, SampleStore
from labelfix.utils.progress import OnProgress, Progress
from labelfix.utils.sample_reader import (
    DIGEST_BYTES,
    digest_or_reason,
    digests_of_batch,
    read_batches,
)

STAGE = "looking at the texts"
_BATCH = 4096


@dataclass(frozen=True, slots=True, eq=False)
class ReadTexts:
    """N texts as they were read.

    Args:
        texts: ``None`` where one cannot be read.
        content: ``(N,)`` 16-byte digests of the encoded texts.
        unreadable: Row to reason.
    """

    texts: list[str | None]
    content: NDArray[np.bytes_]
    unreadable: Mapping[int, str]


def read_texts(store: SampleStore, on_progress: OnProgress) -> ReadTexts:
    """Read every text once."""
    texts: list[str | None] = []
    contents, unreadable = [np.empty(0, f"S{DIGEST_BYTES}")], {}
    for start, encoded in read_batches(store, batch_size=_BATCH):
        _, content, faults = digests_of_batch(start, [digest_or_reason(data) for data in encoded])
        for place, data in enumerate(encoded):
            try:
                texts.append(None if isinstance(data, str) else decode_text(data))
            except UnreadableSample as error:
                texts.append(None)
                faults[place] = str(error)
        contents.append(content)
        unreadable.update({start + place: why for place, why in faults.items()})
        on_progress(Progress(STAGE, len(texts), len(store), "texts"))
    return ReadTexts(texts, np.concatenate(contents), unreadable)


@dataclass(frozen=True, slots=True, eq=False)
class TextEncoder:
    """What knows the language, static word vectors or a transformer, beside n-grams of the data.

    Args:
        language: The word vectors, or the transformer.
        assumptions: What was taken for granted in its choice.
    """

    language: StaticEmbeddings | Transformer
    assumptions: tuple[Assumption, ...] = ()

    @classmethod
    def load(cls, config: AuditConfig) -> "TextEncoder":
        """Load the word vectors, or the encoder that was asked for.

        Raises:
            BackboneError: It cannot be had.
        """
        if config.backbone.name == EMBEDDED_BACKBONE:
            return cls(load_static_embeddings(), (_said_of_words(),))
        if config.backbone.name == STATIC:
            return cls(load_static_embeddings())
        return cls(load_transformer(config.backbone))

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.language.name} and n-grams"

    def encode(
        self, store: SampleStore, fingerprint: str, cache: Path, on_progress: OnProgress
    ) -> Features:
        """Return the features of every text; what a transformer makes of it is cached.

        Raises:
            RunError: The cache cannot be written to.
        """
        read = read_texts(store, on_progress)
        rows = [row for row, text in enumerate(read.texts) if text is not None]
        texts = [text for text in read.texts if text is not None]
        assumptions = self.assumptions
        if isinstance(self.language, Transformer):
            stored = self.language.stored(store, fingerprint, cache, on_progress)
            language = stored.arrays["values"][rows]
            count = int(stored.arrays["is_cut"].sum())
            assumptions += said_of_cuts(count, self.language.length, self.language.name)
        else:
            language = self.language.encode(texts)
        parts = (language, ngram_features(texts, WORDS), ngram_features(texts, CHARACTERS))
        values = np.zeros((len(read.texts), sum(part.shape[1] for part in parts)), np.float16)
        values[rows] = np.concatenate(parts, axis=1)
        return Features(
            values=values,
            content=read.content,
            unreadable=read.unreadable,
            statistics=text_statistics(read.texts),
            assumptions=assumptions,
        )

    def settings(self) -> Mapping[str, Any]:
        """Return what shaped the features, as JSON values."""
        return {"weights_digest": self.language.digest, "ngrams": ["word 1-2", "character 3-5"]}


def _said_of_words() -> Assumption:
    transformer = named("backbone", value=MINILM)
    said = "texts are seen as words, whatever their order"
    return Assumption("values", f"{said}; {transformer} ({INSTALL}) reads sentences, and is slower")
