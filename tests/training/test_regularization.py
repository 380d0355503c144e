import math

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labelfix.config import RegularizationConfig
from labelfix.errors import ConfigError, TrainingError
from labelfix.training.layers import LayerParameter, group_layers, radii
from labelfix.training.regularization import LayerBalls, project_onto_balls

FAMILIES = ["test_resnet", "test_vit", "test_efficientnet"]


def naive(weight, radius, center):
    moved = []
    for w, d, c in zip(weight, radius, center, strict=True):
        away = w - c
        distance = float(away.pow(2).sum().sqrt())
        moved.append(c + away * min(1.0, float(d) / distance) if distance > 0 else w)
    return torch.stack(moved)


@given(
    seed=st.integers(0, 10_000),
    radii=st.lists(st.floats(0, 50), min_size=3, max_size=3),
    centerd=st.booleans(),
)
def test_projection_matches_a_naive_loop_and_stays_in_the_ball(seed, radii, centerd):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 4, 5, generator=generator) * 10
    center = torch.randn(3, 4, 5, generator=generator) if centerd else None
    radius = torch.tensor(radii)
    origin = torch.zeros_like(weight) if center is None else center
    expected = naive(weight, radius, origin)
    project_onto_balls(weight, radius, center)
    torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-4)
    distance = (weight - origin).flatten(1).norm(dim=1)
    assert bool((distance <= radius * (1 + 1e-4) + 1e-5).all())


def test_projection_is_idempotent():
    weight = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))
    radius = torch.tensor([0.5, 100.0])
    project_onto_balls(weight, radius)
    once = weight.clone()
    project_onto_balls(weight, radius)
    torch.testing.assert_close(weight, once, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("centerd", [True, False])
def test_radius_zero_returns_to_the_center_and_infinity_changes_nothing(centerd):
    generator = torch.Generator().manual_seed(2)
    before = torch.randn(2, 6, generator=generator)
    center = torch.randn(2, 6, generator=generator) if centerd else None
    weight = before.clone()
    project_onto_balls(weight, torch.tensor([0.0, torch.inf]), center)
    origin = torch.zeros(6) if center is None else center[0]
    torch.testing.assert_close(weight[0], origin)
    assert torch.equal(weight[1], before[1])


def test_weights_at_the_center_stay_there():
    weight = torch.zeros(1, 4)
    project_onto_balls(weight, torch.tensor([0.0]))
    assert torch.equal(weight, torch.zeros(1, 4))


def moved_network(name, far=0.05):
    """Return a network that has moved from its first state, running variances too; that state."""
    torch.manual_seed(3)
    model = timm.create_model(name, pretrained=False, num_classes=5)
    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if key.endswith("running_var"):
                buffer.uniform_(0.5, 2)
        start = {key: value.clone() for key, value in model.state_dict().items()}
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * far)
        for key, buffer in model.named_buffers():
            if key.endswith("running_var"):
                buffer.mul_(torch.empty_like(buffer).uniform_(0.5, 2))
    return model.to(memory_format=torch.channels_last), start


def state_of(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def naive_projection(model, start, config, radius_of):
    """Project by the equations, one tensor and one row or channel at a time."""
    expected = state_of(model)
    for layer in group_layers(model):
        w, radius = expected[layer.name], radius_of[layer.name]
        if math.isinf(radius):
            continue
        w0 = torch.zeros_like(w) if layer.role == "head" else start[layer.name]
        if layer.kind == "batch_norm_scale" and config.batch_norm_rule:
            variance = layer.name.removesuffix("weight") + "running_var"
            now = (model.state_dict()[variance] + 1e-6).sqrt()
            s0 = w0 / (start[variance] + 1e-6).sqrt()
            for c in range(len(w)):
                s = min(max(float(w[c] / now[c]), float(s0[c]) - radius), float(s0[c]) + radius)
                w[c] = s * now[c]
        elif config.norm == "frobenius":
            distance = float((w - w0).pow(2).sum().sqrt())
            w.copy_(w0 + (w - w0) / max(1.0, distance / radius))
        else:
            for row in range(len(w)):
                amount = float((w[row] - w0[row]).abs().sum())
                w[row] = w0[row] + (w[row] - w0[row]) / max(1.0, amount / radius)
    return expected


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("norm", ["frobenius", "max_row_sum"])
@pytest.mark.parametrize("name", FAMILIES)
def test_all_layers_are_projected_as_a_naive_loop_does_and_only_once(name, norm, fused):
    model, start = moved_network(name)
    config = RegularizationConfig(
        schedule="geometric", distance=0.4, gamma=1.3, head_distance=0.7, norm=norm, hold_stem=True
    )
    balls = LayerBalls(model, start, config, fused=fused)
    before = state_of(model)
    expected = naive_projection(model, start, config, balls.radii)
    balls.project()
    once = state_of(model)
    torch.testing.assert_close(once, expected, rtol=1e-4, atol=1e-6)
    moved = {key for key in once if not torch.equal(once[key], before[key])}
    assert moved
    assert moved < set(once), "what was inside, or is free, is left alone"
    balls.project()
    assert all(torch.equal(value, once[key]) for key, value in state_of(model).items())
    held = [layer for layer in balls.distances() if math.isfinite(layer.radius)]
    assert {layer.name for layer in held if layer.at_boundary} == moved
    assert all(layer.distance <= layer.radius * (1 + 1e-4) for layer in held)


@pytest.mark.parametrize("norm", ["frobenius", "max_row_sum"])
@pytest.mark.parametrize("name", FAMILIES)
def test_radius_zero_freezes_every_layer_and_infinity_leaves_each_bit(name, norm):
    model, start = moved_network(name)
    before = state_of(model)
    free = RegularizationConfig(
        schedule="constant", distance=math.inf, head_distance=math.inf, norm=norm
    )
    balls = LayerBalls(model, start, free)
    balls.project()
    assert all(torch.equal(value, before[key]) for key, value in state_of(model).items())
    frozen = RegularizationConfig(
        schedule="constant", distance=0, head_distance=0, norm=norm, hold_stem=True,
        hold_vectors=True, batch_norm_rule=False,
    )  # fmt: skip
    LayerBalls(model, start, frozen).project()
    for key, value in state_of(model).items():
        is_head = key.startswith(("fc.", "head.", "classifier."))
        assert torch.equal(value, torch.zeros_like(value) if is_head else start[key]), key


def test_a_batch_norm_of_radius_zero_multiplies_as_it_did_at_the_start():
    model, start = moved_network("test_resnet")
    LayerBalls(model, start, RegularizationConfig(schedule="constant", distance=0)).project()
    norm = model.layer2[0].bn1
    factor = norm.weight.detach() / (norm.running_var + 1e-6).sqrt()
    first = start["layer2.0.bn1.weight"] / (start["layer2.0.bn1.running_var"] + 1e-6).sqrt()
    torch.testing.assert_close(factor, first)
    assert not torch.allclose(norm.weight, start["layer2.0.bn1.weight"])


def test_biases_stem_and_batch_norm_shifts_are_free_as_in_the_authors_code():
    model, start = moved_network("resnet18")
    config = RegularizationConfig(
        schedule="code", distance=0.0868, gamma=1.179, head_distance=9.455
    )
    balls = LayerBalls(model, start, config)
    free = {name for name, radius in balls.radii.items() if math.isinf(radius)}
    assert free == {
        name
        for name in balls.radii
        if name.endswith("bias") or name in ("conv1.weight", "bn1.weight")
    }


def test_the_head_is_held_around_zero_whatever_it_started_from():
    model, start = moved_network("test_vit")
    with torch.no_grad():
        model.head.weight.fill_(3.0)
    LayerBalls(model, start, RegularizationConfig(head_distance=2.0)).project()
    assert float(model.head.weight.detach().norm()) == pytest.approx(2.0, rel=1e-5)
    assert len(model.head.weight.unique()) == 1, "the direction from zero is kept"


def test_projection_follows_training_steps_and_weights_that_training_replaces_in_place():
    model, start = moved_network("test_resnet", far=0.0)
    config = RegularizationConfig(schedule="constant", distance=0.05, head_distance=0.5)
    balls = LayerBalls(model, start, config)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(2):
        model(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        balls.project()
    held = [layer for layer in balls.distances() if math.isfinite(layer.radius)]
    assert all(layer.distance <= layer.radius * (1 + 1e-4) for layer in held)
    assert sum(layer.at_boundary for layer in held) > len(held) / 2


def stages(count):
    layers = [LayerParameter("stem", "stem", 0, "weight")]
    layers += [LayerParameter(f"stage{i}", "stage", i, "weight") for i in range(1, count + 1)]
    return (*layers, LayerParameter("head", "head", count + 1, "weight"))


def radii_of(config, count=4, **measured):
    found = radii(stages(count), config, **measured)
    return [found[f"stage{i}"] for i in range(1, count + 1)]


@pytest.mark.parametrize(
    ("distance", "gamma", "expected"),
    [  # published settings of the paper's repository, D and gamma rounded
        (0.1368, 2.529, [0.137, 0.137, 0.346, 0.875]),  # MIT-Indoor
        (1.1833, 1.277, [1.183, 1.183, 1.511, 1.929]),  # Aircraft
        (0.2044, 4.738, [0.204, 0.204, 0.969, 4.589]),  # CUB
        (0.0868, 1.179, [0.087, 0.087, 0.102, 0.121]),  # Caltech-256
        (0.0561, 1.587, [0.056, 0.056, 0.089, 0.141]),  # Dogs
    ],
)
def test_the_schedule_of_the_code_gives_the_published_radii(distance, gamma, expected):
    config = RegularizationConfig(
        schedule="code", distance=distance, gamma=gamma, head_distance=6.408
    )
    assert radii_of(config) == pytest.approx(expected, abs=1e-3)
    found = radii(stages(4), config)
    assert found["stem"] == math.inf
    assert found["head"] == 6.408


def test_the_other_schedules():
    def config(schedule, **others):
        return RegularizationConfig(schedule=schedule, distance=0.5, gamma=2.0, **others)

    assert radii_of(config("constant")) == [0.5] * 4
    assert radii_of(config("geometric")) == [0.5, 1.0, 2.0, 4.0]
    assert radii_of(config("code"), 7) == [0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 2.0]
    norms = {"stem": 3.0, "stage1": 10.0, "stage2": 20.0, "stage3": 0.0, "stage4": 1.0}
    assert radii_of(config("relative"), norms=norms) == [5.0, 10.0, 0.0, 0.5]
    assert radii(stages(4), config("geometric", hold_stem=True))["stem"] == 0.5
    assert set(radii(stages(4), config("geometric", form="none")).values()) == {math.inf}
    with pytest.raises(TrainingError, match="stage1"):
        radii_of(config("relative"))


def test_relative_radii_are_shares_of_the_pretrained_norms():
    model, start = moved_network("test_efficientnet", far=1.0)
    balls = LayerBalls(model, start, RegularizationConfig(schedule="relative", distance=0.2))
    balls.project()
    held = [layer for layer in balls.distances() if layer.role == "stage" and layer.at_boundary]
    assert held
    assert [layer.relative for layer in held] == pytest.approx([0.2] * len(held), rel=1e-4)
    name = held[0].name
    assert held[0].radius == pytest.approx(0.2 * float(start[name].norm()))


def test_the_distances_of_a_free_run_are_measured_too():
    model, start = moved_network("test_resnet")
    free = LayerBalls(model, start, RegularizationConfig(form="none"))
    distances = {layer.name: layer.distance for layer in free.distances()}
    weight = model.layer3[0].conv1.weight.detach()
    assert distances["layer3.0.conv1.weight"] == pytest.approx(
        float((weight - start["layer3.0.conv1.weight"]).norm()), rel=1e-5
    )


@pytest.mark.parametrize("norm", ["frobenius", "max_row_sum"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_penalty_and_its_gradient_match_a_naive_loop(name, norm):
    model, start = moved_network(name)
    config = RegularizationConfig(
        form="penalty", schedule="geometric", distance=0.1, gamma=1.5, head_distance=0.01, norm=norm
    )
    balls = LayerBalls(model, start, config)
    expected = torch.zeros(())
    parameters = dict(model.named_parameters())
    for layer in balls.layers:
        if math.isinf(balls.radii[layer.name]):
            continue
        center = 0 if layer.role == "head" else start[layer.name]
        away = parameters[layer.name] - center
        if norm == "frobenius":
            size = away.square().sum()
        else:
            size = torch.stack([row.abs().sum() for row in away]).max()
        expected = expected + balls.radii[layer.name] * size
    held = [parameters[key] for key, value in balls.radii.items() if math.isfinite(value)]
    naive = torch.autograd.grad(expected, held)
    penalty = balls.penalty()
    torch.testing.assert_close(penalty, expected)
    torch.testing.assert_close(torch.autograd.grad(penalty, held), naive)
    before = state_of(model)
    balls.project()
    assert all(torch.equal(value, before[key]) for key, value in state_of(model).items())


def test_the_penalty_has_a_gradient_of_zero_at_the_start():
    model, start = moved_network("test_resnet", far=0.0)
    config = RegularizationConfig(
        form="penalty", schedule="constant", distance=1.0, head_distance=0.0
    )
    penalty = LayerBalls(model, start, config).penalty()
    penalty.backward()
    assert float(penalty.detach()) == 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(bool((gradient == 0).all()) for gradient in gradients)


def test_a_network_without_pretrained_values_has_no_center():
    model, start = moved_network("test_resnet")
    del start["layer1.0.conv1.weight"]
    with pytest.raises(TrainingError, match=r"layer1\.0\.conv1\.weight"):
        LayerBalls(model, start, RegularizationConfig())


def test_centers_are_copies_that_training_cannot_move():
    model, _ = moved_network("test_resnet")
    balls = LayerBalls(model, model.state_dict(), RegularizationConfig(distance=0.0))
    first = model.layer1[0].conv1.weight.detach().clone()
    with torch.no_grad():
        model.layer1[0].conv1.weight.add_(1.0)
    balls.project()
    assert torch.equal(model.layer1[0].conv1.weight, first)


def test_rows_are_those_of_the_weight_even_where_memory_is_laid_out_otherwise():
    model, start = moved_network("test_vit")
    fc = model.blocks[0].mlp.fc1
    fc.weight = nn.Parameter(fc.weight.detach().T.contiguous().T)
    assert not fc.weight.is_contiguous()
    config = RegularizationConfig(schedule="constant", distance=0.3, norm="max_row_sum")
    for fused in (False, True):
        balls = LayerBalls(model, start, config, fused=fused)
        expected = naive_projection(model, start, config, balls.radii)
        balls.project()
        torch.testing.assert_close(state_of(model), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"distance": -1.0}, "distance of -1"),
        ({"head_distance": math.nan}, "head_distance of nan"),
        ({"gamma": 0.0}, "gamma is 0.0, which is not above 0"),
        ({"schedule": "linear"}, "schedule is"),
        ({"form": "ball"}, "form is"),
        ({"form": "penalty"}, "'relative' gives radii"),
        ({"form": "penalty", "schedule": "constant", "distance": math.inf}, "infinite"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        RegularizationConfig(**settings)
