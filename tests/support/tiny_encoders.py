"""Encoders of texts with random weights, small enough to be trained within a second."""

from pathlib import Path
from typing import Any

import torch
from written_texts import COMMON, WORDS

FAMILIES = {
    "BertModel": {},
    "RobertaModel": {},
    "XLMRobertaModel": {},
    "ElectraModel": {"embedding_size": 16},
    "MPNetModel": {},
    "DistilBertModel": {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64},
    "ModernBertModel": {
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1,
        "sep_token_id": 2,
    },
}  # fmt: skip
"""Name of a class of transformers to settings that the others have not, or call otherwise."""

_USUAL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64,
}  # fmt: skip


def encoder_of(family: str, **settings: Any) -> Any:
    """Return an encoder of three blocks and 100 tokens, in eval mode."""
    import transformers

    own = FAMILIES.get(family, {})
    usual = {} if family == "DistilBertModel" else _USUAL
    model = getattr(transformers, family)
    torch.manual_seed(0)
    return model(model.config_class(vocab_size=100, **{**usual, **own, **settings})).eval()


def write_bert(place: Path, **settings: Any) -> Path:
    """Write a BERT of 3 blocks that reads 24 tokens, and its tokenizer; return the folder."""
    import transformers

    words = {word for text in WORDS.values() for word in text.split()} | set(COMMON.split())
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words), "number"]
    tokenizer = transformers.BertTokenizerFast(
        vocab={word: code for code, word in enumerate(vocabulary)}, model_max_length=24
    )
    tokenizer.save_pretrained(place)
    usual = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        intermediate_size=32,
        max_position_embeddings=24,
        **{**usual, **settings},
    )
    transformers.BertModel(config).save_pretrained(place, safe_serialization=True)
    return place
