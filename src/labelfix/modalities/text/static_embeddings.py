"""Word vectors that come with the package `wordllama`: a text is the mean of its tokens' vectors.

Its two files are read here; its own loader wants to download others.

Letters: N texts, V tokens of the vocabulary, D features.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from labelfix.errors import BackboneError

NAME = "wordllama"
"""What the report calls these vectors."""

_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_BATCH = 4096
_LONGEST = 20_000  # characters of a text that are looked at


@dataclass(frozen=True, slots=True, eq=False)
class StaticEmbeddings:
    """Vectors of tokens.

    Args:
        vectors: ``(V, D)`` float32.
        tokenizer: Cuts texts into tokens.
        digest: Of the two files.
        name: What the report calls them.
    """

    vectors: NDArray[np.float32]
    tokenizer: Any
    digest: str
    name: str = NAME

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return ``(N, D)`` the mean vector of the tokens of each text, zeros without a token."""
        values = np.zeros((len(texts), self.vectors.shape[1]), np.float32)
        for start in range(0, len(texts), _BATCH):
            some = [text[:_LONGEST] for text in texts[start : start + _BATCH]]
            found = self.tokenizer.encode_batch(some, add_special_tokens=False)
            for row, tokens in enumerate(found, start):
                if tokens.ids:
                    values[row] = self.vectors[tokens.ids].mean(axis=0)
        return values


@cache
def load_static_embeddings() -> StaticEmbeddings:
    """Return the vectors that the installed package holds.

    Raises:
        BackboneError: It is not installed, or its files are not those that are known.
    """
    spec = find_spec(NAME)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    if not places:
        raise BackboneError(f"{NAME} is not installed", hint="pip install wordllama")
    weights, tokenizer = (Path(places[0]) / name for name in (_WEIGHTS, _TOKENIZER))
    try:
        vectors = load_file(weights)["embedding.weight"]
        cutter = Tokenizer.from_file(str(tokenizer))
        digest = hashlib.blake2b(weights.read_bytes() + tokenizer.read_bytes(), digest_size=16)
    except (OSError, KeyError, SafetensorError, ValueError) as error:
        raise BackboneError(
            f"the vectors of {NAME} cannot be read: {error}",
            hint="pip install --force-reinstall wordllama",
        ) from error
    cutter.no_padding()
    cutter.no_truncation()
    return StaticEmbeddings(vectors.astype(np.float32), cutter, digest.hexdigest())
