import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelfix.regularization import project_onto_balls


def naive(weight, radius, centre):
    moved = []
    for w, d, c in zip(weight, radius, centre, strict=True):
        away = w - c
        distance = float(away.pow(2).sum().sqrt())
        moved.append(c + away * min(1.0, float(d) / distance) if distance > 0 else w)
    return torch.stack(moved)


@given(
    seed=st.integers(0, 10_000),
    radii=st.lists(st.floats(0, 50), min_size=3, max_size=3),
    centred=st.booleans(),
)
def test_projection_matches_a_naive_loop_and_stays_in_the_ball(seed, radii, centred):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 4, 5, generator=generator) * 10
    centre = torch.randn(3, 4, 5, generator=generator) if centred else None
    radius = torch.tensor(radii)
    origin = torch.zeros_like(weight) if centre is None else centre
    expected = naive(weight, radius, origin)
    project_onto_balls(weight, radius, centre)
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


@pytest.mark.parametrize("centred", [True, False])
def test_radius_zero_returns_to_the_centre_and_infinity_changes_nothing(centred):
    generator = torch.Generator().manual_seed(2)
    before = torch.randn(2, 6, generator=generator)
    centre = torch.randn(2, 6, generator=generator) if centred else None
    weight = before.clone()
    project_onto_balls(weight, torch.tensor([0.0, torch.inf]), centre)
    origin = torch.zeros(6) if centre is None else centre[0]
    torch.testing.assert_close(weight[0], origin)
    assert torch.equal(weight[1], before[1])


def test_weights_at_the_centre_stay_there():
    weight = torch.zeros(1, 4)
    project_onto_balls(weight, torch.tensor([0.0]))
    assert torch.equal(weight, torch.zeros(1, 4))
