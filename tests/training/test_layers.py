import pytest
import timm
import torch
from torch import nn

from labelfix.errors import BackboneError
from labelfix.training.layers import group_layers

FAMILIES = [
    "test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_byobnet", "test_nfnet",
    "test_mambaout", "resnet18", "convnext_atto", "mobilenetv3_small_050", "regnetx_002",
    "swin_tiny_patch4_window7_224", "densenet121", "vgg11_bn", "mixer_s32_224", "levit_128s",
    "deit_tiny_distilled_patch16_224", "hrnet_w18_small", "tf_efficientnet_lite0",
]  # fmt: skip


def network(name, classes=5):
    with torch.device("meta"):  # shapes are all that a grouping needs
        return timm.create_model(name, pretrained=False, num_classes=classes)


def by_name(name):
    return {layer.name: layer for layer in group_layers(network(name))}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_is_mapped_once_and_depths_leave_no_gap(name):
    model = network(name)
    layers = group_layers(model)
    assert [layer.name for layer in layers] == [name for name, _ in model.named_parameters()]
    depths = {layer.depth for layer in layers}
    assert depths == set(range(max(depths) + 1))
    heads = {layer.name for layer in layers if layer.role == "head"}
    assert {layer.depth for layer in layers if layer.name in heads} == {max(depths)}
    classifier = model.get_classifier()
    parts = classifier if isinstance(classifier, tuple) else (classifier,)
    assert len(heads) == sum(len(list(part.parameters())) for part in parts)
    # each stage holds something that can be regularized
    assert {layer.depth for layer in layers if layer.kind == "weight"} == depths


def test_a_resnet_has_a_stem_four_stages_and_a_head():
    layers = by_name("resnet18")
    expected = {
        "conv1.weight": ("stem", 0, "weight"),
        "bn1.weight": ("norm", 0, "batch_norm_scale"),
        "layer1.0.conv1.weight": ("stage", 1, "weight"),
        "layer2.0.downsample.0.weight": ("stage", 2, "weight"),
        "layer3.1.bn2.weight": ("norm", 3, "batch_norm_scale"),
        "layer3.1.bn2.bias": ("norm", 3, "vector"),
        "layer4.1.conv2.weight": ("stage", 4, "weight"),
        "fc.weight": ("head", 5, "weight"),
        "fc.bias": ("head", 5, "vector"),
    }
    seen = {name: (layers[name].role, layers[name].depth, layers[name].kind) for name in expected}
    assert seen == expected


def test_each_block_of_a_vit_is_a_stage_and_tokens_are_of_the_stem():
    layers = by_name("vit_tiny_patch16_224")
    expected = {
        "cls_token": ("stem", 0, "vector"),
        "pos_embed": ("stem", 0, "weight"),
        "patch_embed.proj.weight": ("stem", 0, "weight"),
        "patch_embed.proj.bias": ("bias", 0, "vector"),
        "blocks.0.norm1.weight": ("norm", 1, "vector"),
        "blocks.0.attn.qkv.weight": ("stage", 1, "weight"),
        "blocks.0.attn.qkv.bias": ("bias", 1, "vector"),
        "blocks.11.mlp.fc2.weight": ("stage", 12, "weight"),
        "norm.weight": ("norm", 12, "vector"),
        "head.weight": ("head", 13, "weight"),
    }
    seen = {name: (layers[name].role, layers[name].depth, layers[name].kind) for name in expected}
    assert seen == expected


def test_layer_scales_are_vectors_of_their_stage():
    scales = [layer for layer in by_name("convnext_tiny").values() if layer.name.endswith(".gamma")]
    assert scales
    assert {(s.role, s.kind) for s in scales} == {("stage", "vector")}


def test_what_stands_beside_the_classifier_belongs_to_the_last_stage():
    layers = by_name("mobilenetv3_small_050")
    assert layers["conv_head.weight"].role == "stage"
    assert layers["conv_head.weight"].depth == layers["classifier.weight"].depth - 1
    convnext = by_name("convnext_atto")
    assert (convnext["head.norm.weight"].role, convnext["head.norm.weight"].depth) == ("norm", 4)


def test_norms_are_told_by_their_module_whatever_they_are_called():
    model = network("test_resnet")
    model.layer1[0].bn1 = nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3))
    layers = {layer.name: layer for layer in group_layers(model)}
    assert layers["layer1.0.bn1.0.weight"].kind == "batch_norm_scale"
    assert layers["layer1.0.bn1.1.weight"].role == "norm"
    assert layers["layer1.0.bn1.2.weight"].role == "stage"
    assert layers["layer1.0.bn1.2.bias"].role == "bias"


def test_a_parameter_that_timm_gives_no_stage_is_an_error_with_its_name():
    model = network("test_resnet")
    model.register_parameter("stray", nn.Parameter(torch.zeros(3)))
    with pytest.raises(BackboneError, match="stray"):
        group_layers(model)


def test_a_network_without_classifier_or_without_groups_is_an_error():
    with pytest.raises(BackboneError, match="has no classifier"):
        group_layers(network("test_resnet", classes=0))
    with pytest.raises(BackboneError, match="timm does not say"):
        group_layers(network("pit_ti_224"))
