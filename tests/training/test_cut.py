"""Two halves of a network are the network."""

from dataclasses import replace
from functools import cache

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from labelfix.errors import BackboneError
from labelfix.training.cut import (
    Cut,
    LowerNetwork,
    choose_cut,
    draws_chances,
    possible_cuts,
    upper_network,
)
from labelfix.training.layers import group_layers

SIDE, CLASSES = 32, 3
VITS = ("vit_tiny_patch16_224", "test_vit", "test_vit3", "test_vit_relpos")
NETWORKS = (
    "resnet18", "tf_efficientnet_lite0", "convnext_atto", *VITS, "test_resnet",
    "test_efficientnet", "test_byobnet", "test_convnext", "test_mambaout",
)  # fmt: skip


@cache
def network(name):
    """Return a network whose norms have followed something."""
    torch.manual_seed(0)
    settings = {"img_size": SIDE, "depth": 3} if name in VITS else {}
    model = timm.create_model(name, num_classes=CLASSES, pretrained=False, **settings).eval()
    for norm in model.modules():
        if isinstance(norm, _BatchNorm):
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model


def noise(side):
    """Return an image that makes nothing equal by chance."""
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@cache
def cuts_of(name):
    return possible_cuts(network(name), noise(SIDE))


def halves(name, cut):
    model = network(name)
    upper = upper_network(model, group_layers(model), cut).eval()
    return LowerNetwork(copy_of(name), cut), upper


def copy_of(name):
    fresh = network.__wrapped__(name)
    fresh.load_state_dict(network(name).state_dict())
    return fresh


def images():
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_lower_half_and_then_the_upper_one_are_the_network(name):
    cuts = cuts_of(name)
    assert len(cuts) > 2
    with torch.inference_mode():
        whole = network(name)(images())
        for cut in cuts:
            lower, upper = halves(name, cut)
            activations = lower(images())
            assert tuple(activations.shape) == (2, *cut.shape)
            torch.testing.assert_close(upper(activations), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_upper_half_gets_the_gradients_of_the_network_and_keeps_its_names(name):
    model, label = copy_of(name), torch.tensor([0, 2])
    nn.functional.cross_entropy(model(images()), label).backward()
    whole = {key: parameter.grad for key, parameter in model.named_parameters()}
    depth_of = {layer.name: layer.depth for layer in group_layers(model)}
    cuts = cuts_of(name)
    for cut in (cuts[0], cuts[len(cuts) // 2], cuts[-1]):
        lower, upper = halves(name, cut)
        with torch.no_grad():
            activations = lower(images())
        nn.functional.cross_entropy(upper(activations), label).backward()
        parts = dict(upper.named_parameters())
        trained = {key for key, part in parts.items() if part.requires_grad}
        assert trained == {key for key, depth in depth_of.items() if depth > cut.depth}
        for key, part in parts.items():
            if key in trained and whole[key] is not None:
                torch.testing.assert_close(part.grad, whole[key], rtol=1e-3, atol=1e-6, msg=key)
            else:
                assert part.grad is None, key


@pytest.mark.parametrize("name", NETWORKS)
def test_each_cut_is_above_the_one_before_and_leaves_less_to_do(name):
    cuts = cuts_of(name)
    depths = [cut.depth for cut in cuts]
    assert depths == sorted(set(depths))
    shares = [cut.step_share for cut in cuts]
    assert shares == sorted(shares, reverse=True)
    assert all(0 < share < 1 for share in shares)


def test_a_network_that_is_cut_stays_as_it_is():
    model = copy_of("test_resnet")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    cuts = possible_cuts(model, noise(SIDE))
    upper = upper_network(model, group_layers(model), cuts[1])
    upper.fc.weight.data.zero_()
    assert all(part.requires_grad for part in model.parameters())
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_blocks_that_share_weights_are_not_cut_apart():
    model = timm.create_model("test_vit", num_classes=CLASSES, img_size=SIDE, depth=6).eval()
    model.blocks[3].mlp.fc1 = model.blocks[1].mlp.fc1
    cuts = possible_cuts(model, noise(SIDE))
    assert [cut.module for cut in cuts] == ["blocks", "blocks.1", "blocks.4", "blocks.5"]
    between = replace(cuts[1], depth=2, module="blocks.2", dropped=(*cuts[1].dropped, "blocks.1"))
    with pytest.raises(BackboneError, match=r"share weights: blocks\.3\.mlp\.fc1\.weight"):
        upper_network(model, group_layers(model), between)


# The choice


def cut_with(depth, share, numbers):
    return Cut(depth, f"stage{depth}", (), (numbers,), share)


CUTS = (cut_with(0, 0.9, 100), cut_with(1, 0.6, 50), cut_with(2, 0.3, 80), cut_with(3, 0.1, 10))


@pytest.mark.parametrize(
    ("share", "budget", "depth"),
    [
        (0.6, 10_000, 1),  # the lowest that is cheap enough
        (1.0, 10_000, 0),
        (0.5, 10_000, 2),
        (0.5, 159 * 10, 3),  # 80 numbers of two bytes do not fit
        (0.6, 100 * 10, 1),
        (0.6, 99 * 10, 3),
        (0.01, 10_000, 3),  # none is cheap enough
        (0.01, 10_000_000, 3),
    ],
)
def test_the_lowest_cut_that_is_cheap_and_fits_is_chosen(share, budget, depth):
    assert choose_cut(CUTS, 10, largest_share=share, budget=budget).depth == depth


def test_where_none_is_cheap_enough_the_highest_that_fits_is_chosen():
    growing = (cut_with(0, 0.9, 10), cut_with(1, 0.8, 90))
    assert choose_cut(growing, 10, largest_share=0.5, budget=10_000).depth == 1
    assert choose_cut(growing, 10, largest_share=0.5, budget=300).depth == 0


def test_activations_that_fit_nowhere_are_refused_with_their_size():
    with pytest.raises(
        BackboneError, match=r"200,000,000 samples would take 4\.0 GB or more, and "
    ) as raised:
        choose_cut(CUTS, 200_000_000, largest_share=0.6, budget=3_000_000_000)
    assert "top.cache_bytes" in raised.value.hint


def test_a_network_without_a_cut_is_refused():
    model = timm.create_model("eva02_tiny_patch14_224", num_classes=CLASSES, img_size=28, depth=2)
    cuts = possible_cuts(model, noise(28))
    assert cuts == ()
    with pytest.raises(BackboneError, match="cannot be cut between its stages") as raised:
        choose_cut(cuts, 10, largest_share=0.6, budget=10_000)
    assert "--tune head" in raised.value.hint


class Shortcut(nn.Module):
    """A network that leaves out its own stage."""

    def __init__(self):
        super().__init__()
        self.stage = nn.Linear(2, 2)

    def forward(self, inputs):
        return inputs


def test_a_lower_half_that_never_comes_to_its_end_is_refused():
    lower = LowerNetwork(Shortcut(), Cut(0, "stage", (), (2,), 0.5))
    with pytest.raises(BackboneError, match="never came to the module"):
        lower(torch.zeros(1, 2))


# Drop-out


@pytest.mark.parametrize(
    ("name", "settings", "draws"),
    [
        ("test_resnet", {}, False),
        ("test_vit", {}, False),
        ("test_resnet", {"drop_rate": 0.1}, True),  # a function in the forward pass of a ResNet
        ("test_efficientnet", {"drop_rate": 0.1}, True),
        ("test_vit", {"drop_path_rate": 0.5}, True),
        ("test_vit", {"drop_rate": 0.1}, True),
        ("test_vit", {"attn_drop_rate": 0.1}, True),
    ],
)
def test_networks_with_drop_out_are_told_by_what_they_do(name, settings, draws):
    model = timm.create_model(name, pretrained=False, num_classes=CLASSES, **settings)
    assert draws_chances(model) is draws
    torch.manual_seed(0)
    inputs = torch.rand(8, 3, 160, 160)
    with torch.inference_mode():
        first, again = model.train()(inputs), model(inputs)
    assert torch.equal(first, again) is not draws
