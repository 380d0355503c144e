import torch
from hypothesis import given
from hypothesis import strategies as st

from labelfix.training.self_labeling import SelfLabeling, self_label


def believed(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_a_label_is_corrected_only_above_the_threshold():
    belief = believed([0.05, 0.95, 0.0], [0.1, 0.9, 0.0], [0.3, 0.3, 0.4])
    label, _ = self_label(belief, torch.tensor([0, 0, 0]), SelfLabeling(threshold=0.9))
    assert label.tolist() == [1, 0, 0]


def test_the_weight_is_the_tempered_softmax_of_the_loss():
    belief = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.01, 0.01, 0.98]])
    given_label = torch.tensor([0, 0, 2])
    label, weight = self_label(belief, given_label, SelfLabeling(temperature=2.0))
    loss = torch.nn.functional.nll_loss(belief.log(), label, reduction="none")
    torch.testing.assert_close(weight / weight.sum(), torch.softmax(-loss / 2.0, dim=0))


@given(st.floats(0.5, 4.0), st.integers(0, 1000))
def test_weights_lie_between_0_and_1_and_fall_with_belief(temperature, seed):
    belief = torch.rand(50, 4, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)
    given_label = torch.arange(50) % 4
    label, weight = self_label(belief, given_label, SelfLabeling(temperature=temperature))
    own = belief[torch.arange(50), label]
    assert bool(((weight >= 0) & (weight <= 1)).all())
    assert torch.equal(weight.argsort(stable=True), own.argsort(stable=True))


def test_given_labels_are_not_written_to_and_extra_dimensions_are_kept():
    belief = torch.tensor([[[0.01, 0.99], [0.99, 0.01]]])
    given_label = torch.tensor([[0, 0]])
    label, weight = self_label(belief, given_label, SelfLabeling())
    assert given_label.tolist() == [[0, 0]]
    assert label.tolist() == [[1, 0]]
    assert weight.shape == (1, 2)
