"""Weights in a safetensors file that tells its own damage, and that other tools read as any.

The format has no checksum: a changed byte is a changed weight. So the metadata of the file, which
are there for whoever writes it, hold a digest of names, shapes and numbers.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from labelfix.utils.reading import parse_json

_DIGEST = "labelfix.blake2b"
_METADATA = "__metadata__"
_SIZE_BYTES = 8
_LONGEST_HEADER = 100_000_000  # which safetensors refuses too


def weights_bytes(state: Mapping[str, torch.Tensor]) -> bytes:
    """Return weights as a safetensors file with a digest of them."""
    tensors = {name: value.contiguous() for name, value in state.items()}
    plain = save(tensors)
    start = _SIZE_BYTES + int.from_bytes(plain[:_SIZE_BYTES], "little")
    digest = _header_digest(parse_json(plain[_SIZE_BYTES:start]))
    digest.update(memoryview(plain)[start:])
    return save(tensors, metadata={_DIGEST: digest.hexdigest()})


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a safetensors file; where it holds a digest, that is compared.

    Raises:
        SafetensorError: It is damaged, or no such file.
        OSError: It cannot be read.
    """
    _refuse_damaged(path)
    return load_file(path)


def _refuse_damaged(path: Path) -> None:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(_SIZE_BYTES), "little")
        if size > _LONGEST_HEADER:
            return  # which safetensors tells in its own words
        try:
            header = parse_json(file.read(size))
        except ValueError:
            return
        metadata = header.get(_METADATA) if isinstance(header, dict) else None
        if not isinstance(metadata, dict) or _DIGEST not in metadata:
            return
        digest = _header_digest(header)
        while part := file.read(1 << 20):
            digest.update(part)
    if digest.hexdigest() != metadata[_DIGEST]:
        raise SafetensorError("its checksum does not match: the file is damaged")


def _header_digest(header: Mapping[str, Any]) -> Any:
    named = {name: value for name, value in header.items() if name != _METADATA}
    return hashlib.blake2b(json.dumps(named, sort_keys=True).encode(), digest_size=16)
