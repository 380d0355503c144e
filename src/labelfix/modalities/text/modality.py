"""Texts as a modality: what their encoder, checks and renderer are.

What trains and encodes is imported only where it is asked for, so that who reads a report needs
none of it.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelfix.arguments import named
from labelfix.config import EMBEDDED_BACKBONE, AuditConfig
from labelfix.errors import BackboneError
from labelfix.modalities.base import (
    OF_TEXTS,
    Encoder,
    IssueCheck,
    Modality,
    NetworkTrainer,
    Renderer,
)
from labelfix.modalities.snippets import show_as_text
from labelfix.modalities.text.checks import TEXT_CHECKS
from labelfix.modalities.text.marked_words import WordMarker
from labelfix.modalities.text.reading import shown_text
from labelfix.modalities.text.statistics import shingle_similarity
from labelfix.types import SampleStore
from labelfix.utils.progress import OnProgress


class TextModality(Modality):
    """Texts: cells of a table, or files."""

    name = "text"
    noun, plural, content = OF_TEXTS.noun, OF_TEXTS.plural, OF_TEXTS.content
    libraries = ("py3langid", "scipy", "tokenizers", "wordllama")
    default_backbone = "wordllama"
    text_of = staticmethod(shown_text)

    def encoder(self, config: AuditConfig, store: SampleStore) -> Encoder:
        """Return word vectors beside n-grams; see `labelfix.modalities.text.encoder`."""
        module = import_module("labelfix.modalities.text.encoder")
        encoder: Encoder = module.TextEncoder.load(config)
        return encoder

    def has_network(self, config: AuditConfig) -> bool:
        """Return whether an encoder of Hugging Face was asked for; word vectors are no network."""
        return config.backbone.name not in (EMBEDDED_BACKBONE, self.default_backbone)

    def trainer(self, config: AuditConfig, store: SampleStore) -> NetworkTrainer | None:
        """Return the encoder that was asked for, and the tokens that it is trained on.

        Raises:
            BackboneError: It cannot be had or trained, or none was asked for and heads will not do.
        """
        if not self.has_network(config):
            if config.tune == "auto":
                return None
            raise BackboneError(
                "word vectors, the default for texts, are no network that can be trained",
                hint=f"name an encoder, such as {named('backbone', value='minilm')}, or train "
                f"heads with {named('tune', value='head')}",
            )
        module = import_module("labelfix.modalities.text.trainer")
        trainer: NetworkTrainer = module.TextTrainer.load(config, store)
        return trainer

    def checks(self) -> Sequence[IssueCheck]:
        """Return whether texts are of odd length, broken, in another script or boilerplate."""
        return TEXT_CHECKS

    def confirm_duplicates(
        self, statistics: Any, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return ``(E,)`` how many of their shingles the texts of each pair share."""
        return shingle_similarity(statistics, first, second)

    def renderer(
        self, store: SampleStore, settings: Mapping[str, Any], on_progress: OnProgress
    ) -> Renderer:
        """Return who shows texts, decoded as in the audit."""
        return show_as_text(store, shown_text, WordMarker.of)
