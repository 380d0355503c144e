from itertools import pairwise

import numpy as np
import pytest
import torch

from labelfix.errors import ConfigError, TrainingError
from labelfix.training.recorder import EvidenceRecorder, MarginRecorder


def test_margins_equal_a_naive_loop_over_batches_and_heads():
    rng = np.random.default_rng(0)
    count, heads, classes = 7, 3, 4
    given_label = torch.from_numpy(rng.integers(0, classes, count))
    recorder = MarginRecorder(count)
    seen: dict[int, list[float]] = {}
    for _ in range(5):
        rows = torch.from_numpy(rng.choice(count, size=3, replace=False))
        logits = torch.from_numpy(rng.normal(size=(3, heads, classes)))
        counts = torch.from_numpy(rng.random((3, heads)) < 0.6)
        recorder.update(rows, logits, given_label[rows], counts)
        for i, row in enumerate(rows.tolist()):
            for head in range(heads):
                if counts[i, head]:
                    values = logits[i, head].tolist()
                    own = values.pop(int(given_label[row]))
                    seen.setdefault(row, []).append(own - max(values))
    expected = [np.mean(seen[row]) if row in seen else np.nan for row in range(count)]
    np.testing.assert_allclose(recorder.margin(), expected, rtol=1e-5)


def test_a_batch_of_one_and_a_sample_never_seen():
    recorder = MarginRecorder(2)
    recorder.update(
        torch.tensor([1]), torch.tensor([[[3.0, 1.0]]]), torch.tensor([0]), torch.tensor([[True]])
    )
    np.testing.assert_array_equal(recorder.margin(), [np.nan, 2.0])


COUNT, CLASSES, EPOCHS = 9, 4, 3


def passes(seed, epochs=EPOCHS):
    """Yield epoch, rows, logits and given labels; the last batch of an epoch is a single sample."""
    source = torch.Generator().manual_seed(seed)
    label = torch.randint(0, CLASSES, (COUNT,), generator=torch.Generator().manual_seed(0))
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(COUNT - 1, generator=source).split([4, 3, 1]):
            logits = torch.randn(len(rows), CLASSES, generator=source)
            yield epoch, rows, logits, label[rows]


def naive_means(batches):
    """Return what each row saw, one sample at a time: margins, given probabilities, all of them."""
    seen = {}
    for epoch, rows, logits, labels in batches:
        for row, values, label in zip(rows.tolist(), logits, labels.tolist(), strict=True):
            others = [float(v) for k, v in enumerate(values) if k != label]
            probs = values.double().softmax(0).numpy()
            seen.setdefault(row, []).append((epoch, float(values[label]) - max(others), probs))
    return seen


def test_recorded_evidence_equals_a_naive_loop():
    batches = list(passes(1))
    recorder = EvidenceRecorder(COUNT, CLASSES, epochs=EPOCHS)
    for epoch, rows, logits, labels in batches:
        recorder.update(rows, logits.clone().requires_grad_(), labels, epoch=epoch)
    found, seen = recorder.result(), naive_means(batches)
    labels = dict(
        pair
        for _, rows, _, given_label in batches
        for pair in zip(rows.tolist(), given_label.tolist(), strict=True)
    )
    for row, values in seen.items():
        probs = np.mean([p for _, _, p in values], axis=0)
        np.testing.assert_allclose(found.margin[row], np.mean([m for _, m, _ in values]), rtol=1e-5)
        np.testing.assert_allclose(found.mean_probs[row], probs, rtol=1e-5)
        np.testing.assert_allclose(found.given_probability[row], probs[labels[row]], rtol=1e-5)
        for epoch, margin, _ in values:
            np.testing.assert_allclose(found.epoch_margin[epoch - 1, row], margin, rtol=2e-3)
        is_wrong = [m < 0 for _, m, _ in sorted(values, key=lambda seen: seen[0])]
        assert found.wrong_predictions[row] == sum(is_wrong)
        forgotten = sum(later and not one for one, later in pairwise(is_wrong))
        assert found.forgetting_events[row] == forgotten
    assert found.num_updates.tolist() == [EPOCHS] * (COUNT - 1) + [0]
    assert np.isnan(found.margin[-1])
    assert np.isnan(found.mean_probs[-1]).all()
    assert np.isnan(found.epoch_margin[:, -1]).all()
    assert (found.wrong_predictions[-1], found.forgetting_events[-1]) == (0, 0)
    assert (found.mean_probs.dtype, found.epoch_margin.dtype) == (np.float32, np.float16)


def test_a_sample_may_come_twice_in_a_batch_and_bfloat16_is_taken():
    recorder = EvidenceRecorder(1, 2, keep_probs=False)
    logits = torch.tensor([[3.0, 1.0], [1.0, 3.0]], dtype=torch.bfloat16)
    recorder.update(torch.tensor([0, 0]), logits, torch.tensor([0, 0]))
    found = recorder.result()
    assert (found.margin.tolist(), found.num_updates.tolist()) == ([0.0], [2])
    np.testing.assert_allclose(found.given_probability, [0.5], rtol=1e-6)
    assert found.mean_probs is None
    assert found.epoch_margin is None
    assert found.forgetting_events is None
    assert found.wrong_predictions.tolist() == [1]


def test_a_result_does_not_change_when_training_goes_on():
    recorder = EvidenceRecorder(COUNT, CLASSES)
    batches = list(passes(2))
    for _, rows, logits, labels in batches[:4]:
        recorder.update(rows, logits, labels)
    found = recorder.result()
    copies = [found.margin.copy(), found.mean_probs.copy(), found.num_updates.copy()]
    for _, rows, logits, labels in batches[4:]:
        recorder.update(rows, logits, labels)
    for value, copied in zip(
        [found.margin, found.mean_probs, found.num_updates], copies, strict=True
    ):
        np.testing.assert_array_equal(value, copied)


def recorded(batches):
    recorder = EvidenceRecorder(COUNT, CLASSES, epochs=EPOCHS)
    for epoch, rows, logits, labels in batches:
        recorder.update(rows, logits, labels, epoch=epoch)
    return recorder


def test_the_states_of_two_processes_add_up():
    batches = list(passes(3))
    whole, part = recorded(batches), recorded(batches[::2])
    part.merge(recorded(batches[1::2]).state_dict())
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(part.state_dict()[name], value, msg=name)


def test_a_saved_recorder_goes_on_just_the_same():
    batches = list(passes(4))
    whole, first = recorded(batches), recorded(batches[:4])
    resumed = EvidenceRecorder(COUNT, CLASSES, epochs=EPOCHS)
    resumed.load_state_dict({name: v.clone() for name, v in first.state_dict().items()})
    for epoch, rows, logits, labels in batches[4:]:
        resumed.update(rows, logits, labels, epoch=epoch)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_what_does_not_fit_is_refused():
    recorder = EvidenceRecorder(COUNT, CLASSES, epochs=EPOCHS)
    rows, logits = torch.arange(2), torch.zeros(2, CLASSES)
    with pytest.raises(ConfigError, match="do not fit together"):
        recorder.update(rows, logits[:, :3], rows, epoch=1)
    with pytest.raises(ConfigError, match="do not fit together"):
        recorder.update(rows, logits, torch.tensor(1), epoch=1)
    for epoch in (None, 0, EPOCHS + 1):
        with pytest.raises(ConfigError, match="not one of the 3"):
            recorder.update(rows, logits, rows, epoch=epoch)
    with pytest.raises(TrainingError, match="other samples, classes or epochs"):
        recorder.load_state_dict(EvidenceRecorder(COUNT, CLASSES).state_dict())
    with pytest.raises(TrainingError, match="other samples, classes or epochs"):
        recorder.merge(EvidenceRecorder(COUNT + 1, CLASSES, epochs=EPOCHS).state_dict())
    with pytest.raises(ConfigError, match="1 classes"):
        EvidenceRecorder(COUNT, 1)
