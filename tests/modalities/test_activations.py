"""Batches of activations: which views of which samples, as which numbers."""

import numpy as np
import pytest
import torch

from labelfix.modalities.activations import ActivationViews

CPU = torch.device("cpu")
COUNT, VIEWS = 20, 4


def coded(*shape):
    """Return ``(20, 4, ...)`` bits whose first number tells sample and view."""
    values = torch.zeros(COUNT, VIEWS, *shape)
    numbers = torch.arange(COUNT)[:, None] * 10 + torch.arange(VIEWS)
    values.view(COUNT, VIEWS, -1)[:, :, 0] = numbers.float()
    return values.bfloat16().view(torch.int16).numpy().view(np.uint16)


def views_of(values, training=(0, 1, 2, 3), scoring=(0, 1), **place):
    return ActivationViews(
        values, training_views=training, evaluation_views=scoring, device=CPU, **place
    )


def drawn(batches):
    """Return the pairs of a row and the view that was shown of it."""
    pairs = []
    for rows, inputs in batches:
        codes = inputs.flatten(1)[:, 0].int()
        assert torch.equal(codes // 10, rows.int()), "each row has its own activations"
        pairs += zip(rows.tolist(), (codes % 10).tolist(), strict=True)
    return pairs


ROWS = np.array([0, 1, 3, 4, 7, 8, 11, 12, 13, 15, 18, 19])


@pytest.mark.parametrize("shape", [(5,), (3, 6), (4, 2, 2)])
def test_the_bits_of_bfloat16_become_the_same_numbers(shape):
    torch.manual_seed(0)
    numbers = (torch.randn(COUNT, 1, *shape) * 1e3).bfloat16()
    numbers.view(-1)[:4] = torch.tensor([0.0, -0.0, torch.inf, 1e-40])
    bits = numbers.view(torch.int16).numpy().view(np.uint16)
    batches = list(views_of(bits, scoring=(0,)).evaluation(np.arange(COUNT), 8))
    assert [len(rows) for rows, _ in batches] == [8, 8, 4]
    inputs = torch.cat([inputs for _, inputs in batches])
    assert inputs.dtype == torch.float32
    assert torch.equal(inputs, numbers[:, 0].float())
    if len(shape) == 3:
        assert batches[0][1].is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_shows_one_view_of_each_row_and_another_epoch_others():
    views = views_of(coded(2))
    epochs = [drawn(views.training(ROWS, 4, seed=0, epoch=epoch)) for epoch in range(1, 41)]
    for epoch in epochs:
        assert sorted(row for row, _ in epoch) == ROWS.tolist()
    seen = {pair for epoch in epochs for pair in epoch}
    assert seen == {(row, view) for row in ROWS.tolist() for view in range(VIEWS)}
    assert epochs[0] == drawn(views.training(ROWS, 4, seed=0, epoch=1))
    assert epochs[0] != epochs[1]
    assert epochs[0] != drawn(views.training(ROWS, 4, seed=1, epoch=1))


def test_training_and_evaluation_draw_from_their_own_views():
    views = views_of(coded(2), training=(0, 2), scoring=(1, 3))
    trained = [drawn(views.training(ROWS, 4, seed=0, epoch=epoch)) for epoch in range(1, 9)]
    assert {view for epoch in trained for _, view in epoch} == {0, 2}
    scored = drawn(views.evaluation(ROWS, 4))
    assert sorted(scored) == [(row, view) for row in ROWS.tolist() for view in (1, 3)]


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_share_the_batches_of_one(count):
    one = views_of(coded(2))
    several = [views_of(coded(2), rank=rank, world_size=count) for rank in range(count)]
    trained = list(one.training(ROWS, 2 * count, seed=0, epoch=1))
    parts = [list(views.training(ROWS, 2, seed=0, epoch=1)) for views in several]
    assert [len(rows) for rows, _ in trained] == several[0].step_sizes(ROWS, 2)
    for step, whole in enumerate(trained):
        assert sorted(drawn([part[step] for part in parts])) == sorted(drawn([whole]))
    scored = [pair for views in several for pair in drawn(views.evaluation(ROWS, 2))]
    assert scored == drawn(one.evaluation(ROWS, 2)), "each row once a view over all processes"
