"""What frozen stages make of images depends on the images alone, and is kept."""

import io
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from encoded_images import MemoryImages
from PIL import Image

from labelfix.config import AuditConfig, BackboneConfig
from labelfix.errors import RunError
from labelfix.modalities.base import NetworkCut
from labelfix.modalities.image.activations import FrozenStages, ViewPlan, stored_activations
from labelfix.modalities.image.encoder import ImageTrainer
from labelfix.training.cut import LowerNetwork, possible_cuts, upper_network
from labelfix.training.layers import group_layers
from labelfix.types import MISSING
from labelfix.utils.progress import no_progress

SIDE, CPU = 32, torch.device("cpu")
PLAN = ViewPlan(4, 0.35)


def pixels_of(seed, side=40):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [png(pixels_of(seed)) for seed in range(21)]


def trainer_of(name="test_resnet"):
    config = AuditConfig(
        backbone=BackboneConfig(name=name, pretrained=False, image_size=SIDE, device="cpu")
    )
    return ImageTrainer.load(config, MemoryImages(IMAGES))


@pytest.fixture(scope="module", params=["test_resnet", "test_vit"])
def stages(request):
    """The stages below a cut, counting the images that go through them."""
    trainer = trainer_of(request.param)
    cut = possible_cuts(trainer.fresh_network(2, CPU), trainer.probe(1))[1]
    lower = LowerNetwork(trainer.fresh_network(2, CPU), cut)
    return FrozenStages(
        forward=Counted(lower),
        shape=cut.shape,
        key="key",
        preprocessing=trainer.network.preprocessing,
        device=CPU,
        dtype=torch.float32,
    )


class Counted:
    def __init__(self, forward):
        self.forward, self.passes = forward, 0

    def __call__(self, inputs):
        self.passes += 1
        return self.forward(inputs)


def stored(images, stages, cache, plan=PLAN, batch_size=4):
    return stored_activations(
        MemoryImages(images),
        "data",
        stages,
        plan,
        cache=cache,
        batch_size=batch_size,
        on_progress=no_progress,
    )


def values_of(*arguments, **settings):
    return np.array(stored(*arguments, **settings).arrays["values"])


def test_the_second_view_is_the_first_one_of_the_mirror_image(stages, tmp_path):
    pixels = [pixels_of(seed) for seed in range(3)]
    plain, mirrored = (
        values_of([png(picture) for picture in pictures], stages, tmp_path)
        for pictures in (pixels, [np.ascontiguousarray(picture[:, ::-1]) for picture in pixels])
    )
    assert plain.shape == (3, 4, *stages.shape)
    np.testing.assert_array_equal(plain[:, 1], mirrored[:, 0])
    np.testing.assert_array_equal(plain[:, 0], mirrored[:, 1])
    assert (plain[:, 2] != plain[:, 0]).any(), "further views are crops"


def test_views_are_what_the_lower_stages_make_of_the_pixels(stages, tmp_path):
    color = [png(np.full((SIDE, SIDE, 3), 9 * seed, np.uint8)) for seed in range(4)]
    found = torch.from_numpy(values_of(color, stages, tmp_path).view(np.int16))
    preprocessing = stages.preprocessing
    mean, std = (
        torch.tensor(part)[:, None, None] for part in (preprocessing.mean, preprocessing.std)
    )
    inputs = torch.stack([(torch.full((3, SIDE, SIDE), 9 * seed / 255) - mean) / std
                          for seed in range(4)])  # fmt: skip
    with torch.inference_mode():
        expected = stages.forward(inputs)
    for view in range(4):  # any crop of one color is that color
        values = found[:, view].view(torch.bfloat16).float()
        torch.testing.assert_close(values, expected, rtol=2e-2, atol=2e-2)


def test_an_image_has_the_same_activations_at_any_place_in_any_data_set(stages, tmp_path):
    usual = values_of(IMAGES, stages, tmp_path / "usual")
    turned = values_of(IMAGES[::-1], stages, tmp_path / "turned")
    np.testing.assert_array_equal(turned[::-1], usual)
    few = values_of([IMAGES[20], IMAGES[3], IMAGES[3]], stages, tmp_path / "few")
    np.testing.assert_array_equal(few, usual[[20, 3, 3]])
    between = values_of([b"", *IMAGES[:6]], stages, tmp_path / "between")
    np.testing.assert_array_equal(between[1:], usual[:6])


def test_activations_are_found_again_and_changed_images_are_computed_anew(stages, tmp_path):
    first = values_of(IMAGES[:8], stages, tmp_path)
    passes = stages.forward.passes
    again = values_of(IMAGES[:8], stages, tmp_path)
    assert stages.forward.passes == passes, "nothing is computed twice"
    np.testing.assert_array_equal(again, first)
    changed = values_of([*IMAGES[:5], IMAGES[9], *IMAGES[6:8]], stages, tmp_path)
    assert stages.forward.passes == passes + PLAN.count, "one batch holds what is new"
    kept = np.arange(8) != 5
    np.testing.assert_array_equal(changed[kept], first[kept])
    fresh = values_of([IMAGES[9]], stages, tmp_path / "fresh")
    np.testing.assert_array_equal(changed[5], fresh[0])


@pytest.mark.parametrize("change", [{"key": "other"}, {"dtype": torch.bfloat16}])
def test_activations_of_another_network_or_form_are_not_taken(stages, tmp_path, change):
    values_of(IMAGES[:4], stages, tmp_path)
    model_like = replace(stages, forward=Counted(lambda inputs: torch.ones(4, *stages.shape)))
    found = values_of(IMAGES[:4], replace(model_like, **change), tmp_path)
    assert (torch.from_numpy(found.view(np.int16)).view(torch.bfloat16) == 1).all()


def test_other_views_are_not_taken(stages, tmp_path):
    four, two, other = (
        values_of(IMAGES[:4], stages, tmp_path, plan=plan)
        for plan in (PLAN, ViewPlan(2, 0.35), ViewPlan(4, 0.8))
    )
    np.testing.assert_array_equal(two, four[:, :2])
    np.testing.assert_array_equal(other[:, :2], four[:, :2])
    assert (other[:, 2:] != four[:, 2:]).any()


def test_images_that_cannot_be_read_are_rows_with_a_reason(stages, tmp_path):
    images = [IMAGES[0], b"", None, b"no image", IMAGES[1]]
    found = stored(images, stages, tmp_path)
    assert dict(found.unreadable) == {
        1: "empty file (0 bytes)",
        2: "file is missing",
        3: "not an image",
    }
    assert (found.arrays["values"][1:4] == 0).all()
    whole = values_of([IMAGES[0], IMAGES[1]], stages, tmp_path / "whole")
    np.testing.assert_array_equal(found.arrays["values"][[0, 4]], whole)


def test_no_image_at_all_leaves_no_activations(stages, tmp_path):
    found = stored([b"", None], stages, tmp_path)
    assert set(found.unreadable) == {0, 1}
    assert (found.arrays["values"] == 0).all()


def test_too_little_space_is_a_clear_error_and_leaves_nothing(stages, tmp_path, monkeypatch):
    free = namedtuple("Usage", "free")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda place: free(1000))
        with pytest.raises(RunError, match="too little space in") as raised:
            stored(IMAGES, stages, tmp_path / "cache")
    assert "--cache" in raised.value.hint
    assert not (tmp_path / "cache").exists()
    assert len(stored(IMAGES, stages, tmp_path / "cache").arrays["values"]) == len(IMAGES)


# The trainer of the upper stages


def upper_trainer(views=4):
    whole = trainer_of()
    model = whole.fresh_network(2, CPU)
    layers, cut = group_layers(model), possible_cuts(model, torch.rand(1, 3, SIDE, SIDE))[1]
    return whole.cut_at(
        NetworkCut(
            module=cut.module,
            shape=cut.shape,
            views=views,
            device=CPU,
            lower=lambda lower: LowerNetwork(lower, cut),
            upper=lambda upper: upper_network(upper, layers, cut),
        )
    )


def half_bright(is_left, seed):
    """Return a picture that is brighter on one side, as a digit is."""
    pixels = pixels_of(seed) // 2
    pixels[:, slice(0, 20) if is_left else slice(20, 40)] += 120
    return png(pixels)


def shown(images, labels, cache, views=4):
    """Return how many views samples are scored by, and which are trained on."""
    trainer = upper_trainer(views)
    store = MemoryImages(images)
    seen = trainer.encode(store, "data", cache, no_progress)
    found = trainer.views(store, seen, np.array(labels), CPU, rank=0, world_size=1)
    rows = np.arange(len(images))
    scored = sum(len(batch) for batch, _ in found.evaluation(rows, 8)) / len(images)
    values = torch.from_numpy(np.array(seen.values).view(np.int16)).view(torch.bfloat16).float()
    trained = set()
    for epoch in range(1, 9):
        for batch, inputs in found.training(rows, 8, seed=0, epoch=epoch):
            is_view = (values[batch] == inputs[:, None]).flatten(2).all(dim=2)
            trained |= set(is_view.nonzero()[:, 1].tolist())
    return scored, trained


def test_mirror_images_are_left_out_where_classes_differ_in_a_mirror(tmp_path):
    digits = [half_bright(number % 2 == 0, number) for number in range(16)]
    labels = [number % 2 for number in range(16)]
    assert shown(digits, labels, tmp_path) == (1, {0, 2})
    assert shown(digits, labels, tmp_path, views=1) == (1, {0})
    things = [half_bright(number % 4 < 2, number) for number in range(16)]
    assert shown(things, labels, tmp_path) == (2, {0, 1, 2, 3})
    assert shown(things, labels, tmp_path, views=1) == (1, {0})
    assert shown(digits, [MISSING] * 16, tmp_path) == (2, {0, 1, 2, 3}), "no label tells of sides"


def test_the_upper_network_takes_what_is_stored_and_begins_with_a_head_of_zeros(tmp_path):
    trainer = upper_trainer()
    seen = trainer.encode(MemoryImages(IMAGES), "data", tmp_path, no_progress)
    found = trainer.views(MemoryImages(IMAGES), seen, np.zeros(21, int), CPU, rank=0, world_size=1)
    model = trainer.fresh_network(3, CPU).eval()
    _, inputs = next(found.evaluation(np.arange(21), 8))
    with torch.inference_mode():
        assert torch.equal(model(inputs), torch.zeros(8, 3))
    names = set(model.state_dict())
    assert names - set(trainer.pretrained_state()) == {"fc.weight", "fc.bias"}
    assert trainer.settings()["cut"] == "layer2"
    assert trainer.settings()["views"] == 4
    assert trainer.notes() == ("the stages below layer2 stayed as pretrained",)


@pytest.mark.parametrize(
    ("tune", "asked", "seen"), [("full", None, 224), ("top", None, 160), ("top", 192, 192)]
)
def test_upper_stages_see_large_images_smaller_unless_a_size_is_asked_for(tune, asked, seen):
    large = MemoryImages([png(pixels_of(seed, side=300)) for seed in range(3)])
    config = AuditConfig(tune=tune, backbone=BackboneConfig(image_size=asked))
    trainer = ImageTrainer.load(config, large)
    preprocessing = trainer.network.preprocessing
    assert preprocessing.size == seen
    told = [said.text for said in trainer.survey.assumptions if said.topic == "tune"]
    assert len(told) == (seen == 160)
    assert (preprocessing.crop_share == 1) == (seen != 224)
