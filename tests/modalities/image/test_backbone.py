import json

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform

from labelfix.config import BackboneConfig
from labelfix.errors import BackboneError, ConfigError
from labelfix.modalities.image.backbone import embedded_model, load_backbone, load_network
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


def test_the_embedded_weights_see_what_is_in_a_picture():
    """Strictly loaded, folded and in the device's own precision: the same as plain timm."""
    backbone = load_backbone(BackboneConfig(device="cpu"), 224)
    assert backbone.preprocessing.size == 224
    assert backbone.preprocessing.crop_share == pytest.approx(0.875)
    assert backbone.preprocessing.mean == (0.5, 0.5, 0.5)
    pixels = torch.from_numpy(backbone.preprocessing.pixels(smooth_image(300, 260)))[None]
    plain = embedded_model()
    with torch.inference_mode():
        inputs = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        expected = plain(inputs)
    last = backbone.features(pixels)[:, -expected.shape[1] :].float()
    assert float(torch.nn.functional.cosine_similarity(last, expected)) > 0.995


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


def test_weights_that_cannot_be_fetched_say_what_can_be_done(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
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
