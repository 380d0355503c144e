"""A Hugging Face encoder as a network that is trained: blocks, the mean over tokens, a head.

It answers what training asks of a network of timm: which module is its classifier, and which
parameters form a stage. A stage is one of its blocks; what runs before them is the stem.

Letters: B texts of a batch, T tokens, H features of a token, K classes.
"""

import copy
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from labelfix.arguments import named
from labelfix.errors import BackboneError

FACTS = 3
"""What is told of a token: its code, 1, and which of two texts it is of. Padding is zeros."""


class TextNetwork(nn.Module):
    """An encoder, the mean of its last states over the tokens of a text, and a linear head.

    Its input is one tensor: ``(B, T, FACTS)`` int64 tokens or, once `begin_at` was called,
    ``(B, T, H)`` states, of which zeros are padding. It returns ``(B, K)`` logits.

    Args:
        encoder: As `AutoModel` loads it; it is taken over, not copied.
        classes: K.

    Raises:
        BackboneError: The encoder is no row of blocks that run one after the other.
    """

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # type: ignore[assignment]  # of another use: no loss reaches it
        self.encoder: Any = encoder
        config: Any = encoder.config
        self.head = nn.Linear(int(config.hidden_size), classes)
        nn.init.zeros_(self.head.weight)  # before training, no class is likelier
        nn.init.zeros_(self.head.bias)
        self._pad = int(config.pad_token_id or 0)
        self._tells_parts = int(config.to_dict().get("type_vocab_size") or 0) > 1
        self._blocks = _names_of_blocks(encoder)
        self._last, self._is_tuple = self._watch_a_pass()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(B, K)`` logits."""
        if inputs.is_floating_point():
            is_token = (inputs != 0).any(dim=2)
            asked = {"inputs_embeds": inputs}
        else:
            codes, told, part = inputs.unbind(2)
            is_token = told.bool()
            asked = {"input_ids": codes.masked_fill(~is_token, self._pad)}
            if self._tells_parts:
                asked["token_type_ids"] = part
        states = self.encoder(**asked, attention_mask=is_token.long()).last_hidden_state
        weight = is_token.unsqueeze(2).to(states.dtype)
        means = (states * weight).sum(1) / weight.sum(1).clamp(min=1)
        logits: Tensor = self.head(means)
        return logits

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return self.head

    def group_matcher(self, *, coarse: bool = False) -> Callable[[str], float]:
        """Return which stage a parameter belongs to by its name: 0 is the stem, then the blocks."""

        def stage_of(name: str) -> float:
            for number, block in enumerate(self._blocks, start=1):
                if name.startswith(f"encoder.{block}."):
                    return number
            if name.startswith("head."):
                return float("inf")
            is_last = name.startswith(tuple(f"encoder.{module}." for module in self._last))
            return len(self._blocks) if is_last else 0

        return stage_of

    def begin_at(self, dropped: Iterable[str]) -> None:
        """Leave out modules that ran before a cut, and drop-out: inputs are states from now on.

        Upper blocks see one view of each text; without drop-out, networks can be trained at once.

        Args:
            dropped: Names of modules, blocks and others.
        """
        blocks = {f"encoder.{block}" for block in self._blocks}
        for name in dropped:
            module = self.get_submodule(name)
            parent, _, _ = name.rpartition(".")
            if name in blocks:
                _replace(module, _hand_on_in_tuple if self._is_tuple else _hand_on)
            elif parent == "encoder" and any(True for _ in module.parameters()):
                _replace(module, _hand_on_states)  # the embeddings
            elif any(block.startswith(f"{name}.") for block in blocks):
                raise _no_blocks(self.encoder)
        without_drop_out(self)

    def _watch_a_pass(self) -> tuple[tuple[str, ...], bool]:
        """Return which modules run after the blocks, and whether a block returns a tuple.

        Raises:
            BackboneError: The blocks do not run one after the other, once each.
        """
        entered: list[str] = []
        returned: list[bool] = []
        handles = []
        for name, module in self.encoder.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(_noting(entered, name)))
            if name in self._blocks:
                handles.append(
                    module.register_forward_hook(
                        lambda *seen: returned.append(isinstance(seen[-1], tuple))
                    )
                )
        was_training = self.training
        try:
            with torch.no_grad():
                self.eval()(made_up_tokens(1, 4, self.encoder.config))
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise _no_blocks(self.encoder) from error
        finally:
            self.train(was_training)
            for handle in handles:
                handle.remove()
        if [name for name in entered if name in self._blocks] != list(self._blocks):
            raise _no_blocks(self.encoder)
        end = len(entered) - entered[::-1].index(self._blocks[-1])
        after = [name for name in entered[end:] if not name.startswith(f"{self._blocks[-1]}.")]
        return tuple(after), returned[0]


def made_up_tokens(count: int, length: int, config: Any) -> Tensor:
    """Return ``(count, length, FACTS)`` tokens of texts without a meaning.

    Args:
        count: B.
        length: T.
        config: Of the encoder: how many tokens there are.
    """
    chance = torch.Generator().manual_seed(0)
    codes = torch.randint(int(config.vocab_size), (count, length), generator=chance)
    codes = codes.where(codes != (config.pad_token_id or 0), (codes + 1) % int(config.vocab_size))
    return torch.stack([codes, torch.ones_like(codes), torch.zeros_like(codes)], dim=2)


def fresh_network(encoder: nn.Module, classes: int) -> TextNetwork:
    """Return a network with a copy of an encoder in float32, and a head of zeros.

    Raises:
        BackboneError: The encoder is no row of blocks that run one after the other.
    """
    return TextNetwork(copy.deepcopy(encoder).cpu().float().requires_grad_(True), classes)


def without_drop_out(model: nn.Module) -> None:
    """Let a training pass draw no chances."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):  # handed to a function of torch
                setattr(module, name, 0.0)


def _names_of_blocks(encoder: nn.Module) -> tuple[str, ...]:
    """Return the names in the longest list of modules of one kind, of those within no other.

    Raises:
        BackboneError: There is none of two or more.
    """
    lists = [
        (name, module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(block) for block in module}) == 1
    ]
    if not lists or max(len(module) for _, module in lists) < 2:
        raise _no_blocks(encoder)
    name, module = max(lists, key=lambda found: len(found[1]))
    return tuple(f"{name}.{number}" for number in range(len(module)))


def _no_blocks(encoder: nn.Module) -> BackboneError:
    return BackboneError(
        f"{type(encoder).__name__} is not made of blocks that run one after the other",
        hint=f"train heads on its features with {named('tune', value='head')}, or choose a BERT, "
        f"such as {named('backbone', value='minilm')}",
    )


def _noting(entered: list[str], name: str) -> Callable[..., None]:
    return lambda *_: entered.append(name)


def _replace(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Empty a module, and let it do something else; what it tells of itself stays."""
    module._modules.clear()
    module._parameters.clear()
    module._buffers.clear()
    module.forward = forward


def _hand_on(states: Tensor, *_: Any, **__: Any) -> Tensor:
    return states


def _hand_on_in_tuple(states: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
    return (states,)


def _hand_on_states(*given: Any, **named: Any) -> Tensor:
    """Return the states among what embeddings, or what follows them, are given."""
    found = [
        value
        for value in chain(given, named.values())
        if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 3
    ]
    return found[0]
