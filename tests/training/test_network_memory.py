"""What a training of networks is said to take of memory before it begins."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from labelfix.config import FineTuningConfig
from labelfix.training.network_memory import NetworkMemory, network_memory

ONE = NetworkMemory(
    weights=1000, trained=800, kept=5000, input=100, batch_size=8, gradients=1, pretrained=1000
)


def memory_of(model, **changes):
    settings = {"batch_size": 8, "pretrained": model.state_dict()} | changes
    return network_memory(model, torch.ones(2, 6), FineTuningConfig(), **settings)


def test_a_pass_keeps_what_gradients_are_made_of():
    """The input of the first layer, and what the second one takes, once."""
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))
    told = memory_of(model)
    assert told.kept == 4 * (6 + 10)
    assert told.input == 4 * 6
    assert told.weights == told.trained == told.pretrained == 4 * (6 * 10 + 10 + 10 * 3 + 3)


def test_layers_that_are_not_trained_keep_nothing():
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 3))
    model[0].requires_grad_(False)
    told = memory_of(model)
    assert told.kept == 4 * 10
    assert told.trained == 4 * (10 * 3 + 3) < told.weights


@pytest.mark.parametrize(("portion", "gradients"), [(None, 1), (8, 1), (4, 2), (3, 3)])
def test_each_portion_of_a_batch_has_a_gradient_of_its_own(portion, gradients):
    assert memory_of(nn.Linear(6, 3), portion=portion).gradients == gradients


def test_looking_draws_no_chance_that_training_would_have_drawn():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    memory_of(model)
    assert torch.rand(1) == expected


def test_it_grows_with_networks_batches_samples_and_classes():
    least = ONE.of(1, 100, 4)
    assert least > ONE.batch_size * ONE.kept + ONE.weights + 3 * ONE.trained
    assert ONE.of(2, 100, 4) - least > ONE.batch_size * ONE.kept
    assert replace(ONE, batch_size=16).of(1, 100, 4) > least
    assert ONE.of(1, 200, 4) > least < ONE.of(1, 100, 8)
