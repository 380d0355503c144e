"""``labelfix.modalities.text.network``: encoders of several families with random weights."""

import copy

import pytest
import torch
from tiny_encoders import FAMILIES, encoder_of
from torch import nn

from labelfix.errors import BackboneError
from labelfix.modalities.text.network import fresh_network, made_up_tokens
from labelfix.training.cut import LowerNetwork, draws_chances, possible_cuts, upper_network
from labelfix.training.layers import group_layers

pytest.importorskip("transformers")


def network(family, **settings):
    model = fresh_network(encoder_of(family, **settings), 4)
    nn.init.normal_(model.head.weight)
    return model


def texts(model):
    """Return four made-up texts of 12, 7, 3 and 12 tokens."""
    tokens = made_up_tokens(4, 12, model.encoder.config)
    tokens[1, 7:] = tokens[2, 3:] = 0
    return tokens


def test_each_parameter_of_a_bert_has_its_role_and_block():
    layers = {layer.name: layer for layer in group_layers(network("BertModel"))}
    block = "encoder.encoder.layer.1"
    expected = {
        "encoder.embeddings.word_embeddings.weight": ("stem", 0, "weight"),
        "encoder.embeddings.position_embeddings.weight": ("stem", 0, "weight"),
        "encoder.embeddings.LayerNorm.weight": ("norm", 0, "vector"),
        f"{block}.attention.self.query.weight": ("stage", 2, "weight"),
        f"{block}.attention.self.query.bias": ("bias", 2, "vector"),
        f"{block}.output.LayerNorm.bias": ("norm", 2, "vector"),
        "head.weight": ("head", 4, "weight"),
        "head.bias": ("head", 4, "vector"),
    }
    assert {
        name: (layers[name].role, layers[name].depth, layers[name].kind) for name in expected
    } == expected
    assert not any("pooler" in name for name in layers)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_block_is_a_stage_that_can_be_held(family):
    layers = group_layers(network(family))
    assert {layer.depth for layer in layers if layer.kind == "weight"} == {0, 1, 2, 3, 4}
    after = [layer for layer in layers if "final_norm" in layer.name]
    assert all((layer.role, layer.depth) == ("norm", 3) for layer in after)


@pytest.mark.parametrize("family", FAMILIES)
def test_lower_and_upper_blocks_are_the_whole_also_for_texts_of_unequal_length(family):
    model = network(family).eval()
    layers = group_layers(model)
    cuts = possible_cuts(model, made_up_tokens(1, 12, model.encoder.config))
    assert len(cuts) >= 2
    tokens = texts(model)
    for cut in cuts:
        assert cut.shape == (12, 32)
        upper = upper_network(model, layers, cut).eval()
        lower = LowerNetwork(copy.deepcopy(model), cut)
        with torch.inference_mode():
            states = lower(tokens) * tokens[:, :, 1:2]
            torch.testing.assert_close(upper(states), model(tokens), rtol=1e-4, atol=1e-5)
        assert not draws_chances(upper), "so that networks can be trained at once"
        trained = {name for name, value in upper.named_parameters() if value.requires_grad}
        assert trained == {layer.name for layer in layers if layer.depth > cut.depth}


@pytest.mark.parametrize("family", ["BertModel", "RobertaModel", "ModernBertModel"])
def test_padding_changes_nothing(family):
    model = network(family).eval()
    tokens = texts(model)
    with torch.inference_mode():
        together = model(tokens)
        alone = torch.cat([model(text[None, : int(text[:, 1].sum())]) for text in tokens])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_second_of_two_texts_is_told_apart_where_the_encoder_does():
    for family, differs in (("BertModel", True), ("DistilBertModel", False)):
        model = network(family).eval()
        tokens = texts(model)
        other = tokens.clone()
        other[0, 6:, 2] = 1
        with torch.inference_mode():
            assert torch.equal(model(tokens), model(other)) != differs


def test_an_encoder_that_is_no_row_of_blocks_is_refused():
    encoder = encoder_of("AlbertModel", embedding_size=16)
    with pytest.raises(BackboneError, match="AlbertModel is not made of blocks") as caught:
        fresh_network(encoder, 2)
    assert 'tune="head"' in caught.value.hint
