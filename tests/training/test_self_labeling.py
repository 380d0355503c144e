import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelfix.config import SelfLabelingConfig
from labelfix.errors import ConfigError, TrainingError
from labelfix.training.self_labeling import SelfLabeler, temperature_at
from labelfix.types import MISSING

COUNT, CLASSES, BATCH = 24, 4, 6


def logits_of(*probs):
    return torch.tensor(probs, dtype=torch.float64).log().float()


def training_steps(seed, epochs, *, count=COUNT, sharpness=3.0):
    """Yield epoch, rows and logits of several epochs in random order; the last batch is short."""
    source = torch.Generator().manual_seed(seed)
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(count, generator=source).split(BATCH + 1):
            yield epoch, rows, torch.randn(len(rows), CLASSES, generator=source) * sharpness


def labels_for(seed, count=COUNT):
    return torch.randint(0, CLASSES, (count,), generator=torch.Generator().manual_seed(seed))


class NaivePaper:
    """The loop that regsl.md copies from the authors' code, one sample at a time."""

    def __init__(self, given_label, config):
        self.labels, self.config = given_label.tolist(), config
        self.tau = config.temperature

    def step(self, rows, logits, epoch):
        losses = []
        for row, values in zip(rows.tolist(), logits, strict=True):
            log_probs = torch.log_softmax(values, dim=0)
            probs = log_probs.exp().tolist()
            k = max(range(CLASSES), key=probs.__getitem__)
            allowed = epoch >= self.config.correct_from
            if allowed and probs[k] > self.config.threshold and k != self.labels[row]:
                self.labels[row] = k
            losses.append(-float(log_probs[self.labels[row]]))
        label = [self.labels[row] for row in rows.tolist()]
        if epoch < self.config.reweight_from:
            return label, [1 / len(label)] * len(label)
        powers = [math.exp(-loss / self.tau) for loss in losses]
        return label, [power / sum(powers) for power in powers]

    def end_epoch(self, epoch):
        since = epoch - self.config.reweight_from
        if self.config.decay and since > 0:
            self.tau = self.config.temperature * max(0.5, math.exp(-0.1 * since))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    correct_from=st.integers(1, 5),
    reweight_from=st.integers(1, 5),
    threshold=st.sampled_from([0.5, 0.7, 0.9]),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    decay=st.booleans(),
)
def test_paper_is_the_authors_loop(
    seed, correct_from, reweight_from, threshold, temperature, decay
):
    config = SelfLabelingConfig.paper(
        correct_from=correct_from,
        reweight_from=reweight_from,
        threshold=threshold,
        temperature=temperature,
        decay=decay,
    )
    given_label = labels_for(seed)
    labeler, naive = SelfLabeler(given_label, CLASSES, config), NaivePaper(given_label, config)
    epoch = 1
    for now, rows, logits in training_steps(seed, 8):
        if now > epoch:
            naive.end_epoch(epoch)
            epoch = now
        label, weight = labeler.step(rows, logits, now)
        naive_label, naive_weight = naive.step(rows, logits, now)
        assert label.tolist() == naive_label
        torch.testing.assert_close(weight, torch.tensor(naive_weight))
        torch.testing.assert_close(weight.sum(), torch.tensor(1.0))
    assert labeler.labels().tolist() == naive.labels


def test_the_temperature_falls_as_the_authors_s_does():
    config = SelfLabelingConfig.paper()
    found = [round(temperature_at(config, epoch), 2) for epoch in range(1, 16)]
    expected = [2.0] * 6 + [1.81, 1.64, 1.48, 1.34, 1.21, 1.10, 1.0, 1.0, 1.0]
    assert found == expected
    constant = SelfLabelingConfig.paper(decay=False)
    assert {temperature_at(constant, epoch) for epoch in range(1, 31)} == {2.0}


def test_paper_corrects_from_its_epoch_at_once_for_good_and_again():
    config = SelfLabelingConfig.paper(correct_from=3, reweight_from=None)
    labeler = SelfLabeler(torch.tensor([0]), 3, config)
    row = torch.tensor([0])
    sure_of_1, sure_of_2 = logits_of([0.02, 0.96, 0.02]), logits_of([0.02, 0.02, 0.96])
    unsure = logits_of([0.8, 0.1, 0.1])
    seen = [
        int(labeler.step(row, logits, epoch)[0])
        for epoch, logits in enumerate([sure_of_1, sure_of_1, sure_of_1, unsure, sure_of_2], 1)
    ]
    assert seen == [0, 0, 1, 1, 2]


def test_the_paper_s_threshold_is_strict():
    logits = logits_of([0.0625, 0.875, 0.0625])
    reached = float(logits.log_softmax(1).exp().max())
    for threshold, label in [(reached, 0), (math.nextafter(reached, 0.0) - 1e-6, 1)]:
        config = SelfLabelingConfig.paper(correct_from=1, threshold=threshold)
        labeler = SelfLabeler(torch.tensor([0]), 3, config)
        assert labeler.step(torch.tensor([0]), logits, 1)[0].tolist() == [label]


@pytest.mark.parametrize("epoch", [1, 2])
def test_paper_weights_from_its_epoch_and_for_any_temperature(epoch):
    rows, logits = torch.arange(5), torch.randn(5, CLASSES, generator=torch.Generator())
    hot = SelfLabelingConfig.paper(reweight_from=2, correct_from=None, temperature=math.inf)
    warm = SelfLabelingConfig.paper(reweight_from=2, correct_from=None)
    equal = torch.full((5,), 0.2)
    _, weight = SelfLabeler(torch.zeros(5, dtype=int), CLASSES, hot).step(rows, logits, epoch)
    torch.testing.assert_close(weight, equal)
    _, weight = SelfLabeler(torch.zeros(5, dtype=int), CLASSES, warm).step(rows, logits, epoch)
    assert torch.allclose(weight, equal) is (epoch == 1)


@pytest.mark.parametrize("config", [SelfLabelingConfig(), SelfLabelingConfig.paper()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_gradient_flows_and_given_labels_stay(config, dtype):
    given_label = labels_for(1)
    before = given_label.clone()
    labeler = SelfLabeler(given_label, CLASSES, config)
    for epoch, rows, logits in training_steps(1, 12, sharpness=8.0):
        label, weight = labeler.step(rows, logits.to(dtype).requires_grad_(), epoch)
        assert not weight.requires_grad
        assert (label.dtype, weight.dtype) == (torch.int64, torch.float32)
    assert torch.equal(given_label, before)
    assert torch.equal(labeler.state_dict()["given"].long(), before)


def naive_safe(given_label, config, steps):
    """Return the labels, weights and beliefs of the safe form, with plain loops and no float16.

    A label is ``None`` where the belief is so near to the threshold that float16 decides.
    """
    history = {row: [] for row in range(len(given_label))}
    belief, results = {}, []
    epoch, threshold, mean = 0, None, None
    tau = config.temperature

    def decide(row, now):
        best = max(range(CLASSES), key=belief[row].__getitem__)
        corrects = now >= config.correct_from and threshold is not None
        changes = corrects and belief[row][best] > threshold[best]
        label = best if changes else int(given_label[row])
        value = belief[row][label] ** (1 / tau)
        is_close = corrects and abs(belief[row][best] - threshold[best]) < 3e-3
        return None if is_close else label, value

    for now, rows, logits in steps:
        if now > epoch and belief:
            threshold = []
            for k in range(CLASSES):
                sure = [p[k] for r, p in belief.items() if given_label[r] == k == p.index(max(p))]
                confidence = sum(sure) / len(sure) if sure else 1.0
                threshold.append(max(config.floor, config.threshold * confidence))
            values = [decide(row, now)[1] for row in belief]
            mean = sum(values) / len(values)
        epoch = now
        labels, weights = [], []
        for row, values in zip(rows.tolist(), logits, strict=True):
            history[row].append(values.softmax(0))
            t = len(history[row])
            shares = [config.momentum ** (t - 1 - i) for i in range(t)]
            average = sum(s * p for s, p in zip(shares, history[row], strict=True)) / sum(shares)
            belief[row] = average.tolist()
            label, value = decide(row, now)
            share = value / mean if mean and now >= config.reweight_from else 1.0
            labels.append(label)
            weights.append(share / len(rows))
        results.append((labels, weights))
    return results, belief


@settings(deadline=None, max_examples=10, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    correct_from=st.integers(1, 4),
    reweight_from=st.integers(1, 4),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
)
def test_safe_is_a_naive_loop(seed, correct_from, reweight_from, momentum):
    config = SelfLabelingConfig(
        correct_from=correct_from, reweight_from=reweight_from, momentum=momentum
    )
    given_label, steps = labels_for(seed), list(training_steps(seed, 6))
    labeler = SelfLabeler(given_label, CLASSES, config)
    results, belief = naive_safe(given_label, config, steps)
    for (epoch, rows, logits), (naive_label, naive_weight) in zip(steps, results, strict=True):
        label, weight = labeler.step(rows, logits, epoch)
        clear = [i for i, k in enumerate(naive_label) if k is not None]
        assert [int(label[i]) for i in clear] == [naive_label[i] for i in clear]
        expected = torch.tensor(naive_weight)
        torch.testing.assert_close(weight[clear], expected[clear], rtol=0.02, atol=1e-4)
    expected = torch.tensor([belief[row] for row in range(COUNT)])
    torch.testing.assert_close(labeler.state_dict()["belief"].float(), expected, rtol=0, atol=2e-3)


def settled(config, *, classes=3):
    """Return a labeler that has seen one epoch: ten sure samples a class, given their own class."""
    given_label = torch.arange(classes).repeat_interleave(10)
    labeler = SelfLabeler(given_label, classes, config)
    logits = torch.nn.functional.one_hot(given_label, classes) * 4.0
    labeler.step(torch.arange(10 * classes), logits, 1)
    return labeler


def test_safe_takes_a_correction_back():
    config = SelfLabelingConfig(correct_from=2, momentum=0.0)
    labeler = settled(config)
    row = torch.tensor([0])
    doubtful, plain = torch.tensor([[0.0, 6.0, 0.0]]), torch.tensor([[4.0, 0.0, 0.0]])
    assert labeler.step(row, doubtful, 2)[0].tolist() == [1]
    assert labeler.statistics().corrected == 1
    assert labeler.step(row, plain, 3)[0].tolist() == [0]
    assert labeler.statistics().corrected == 0


def test_one_loud_view_does_not_correct_what_many_quiet_ones_say():
    labeler = settled(SelfLabelingConfig(correct_from=2, momentum=0.7))
    label, _ = labeler.step(torch.tensor([0]), torch.tensor([[0.0, 20.0, 0.0]]), 2)
    assert label.tolist() == [0]


def test_thresholds_follow_how_confident_the_model_is_of_each_class():
    given_label = torch.tensor([0] * 5 + [1] * 5 + [2])
    config = SelfLabelingConfig(correct_from=2, momentum=0.0, floor=0.2)
    labeler = SelfLabeler(given_label, 3, config)
    sure, quiet = [0.98, 0.01, 0.01], [0.2, 0.6, 0.2]
    doubted = [0.5, 0.25, 0.25]  # class 2: no sample on which model and label agree
    labeler.step(torch.arange(11), logits_of(*[sure] * 5, *[quiet] * 5, doubted), 1)
    rows = torch.tensor([10, 10, 0, 0])
    views = logits_of([0.8, 0.1, 0.1], [0.2, 0.58, 0.22], [0.1, 0.05, 0.85], [0.04, 0.04, 0.92])
    seen = [int(labeler.step(rows[i : i + 1], views[i : i + 1], 2)[0]) for i in range(4)]
    assert seen == [2, 1, 0, 2], "thresholds .88, .54 and .9"
    expected = torch.tensor([0.9 * 0.98, 0.9 * 0.6, 0.9])
    torch.testing.assert_close(labeler.state_dict()["threshold"], expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("preset", ["safe", "paper"])
def test_a_batch_of_only_wrong_labels_takes_a_full_step_in_the_paper_alone(preset):
    config = SelfLabelingConfig(preset=preset, correct_from=None, reweight_from=2)
    given_label = torch.tensor([0] * 16 + [1] * 4)  # the last four look like class 0 too
    labeler = SelfLabeler(given_label, 2, config)
    logits = torch.tensor([[3.0, 0.0]]).expand(20, 2)
    labeler.step(torch.arange(20), logits, 1)
    _, good = labeler.step(torch.arange(4), logits[:4], 2)
    _, bad = labeler.step(torch.arange(16, 20), logits[16:], 2)
    if preset == "paper":
        torch.testing.assert_close((good.sum(), bad.sum()), (torch.ones(()), torch.ones(())))
    else:
        assert float(bad.sum()) < 0.4 < 1.0 < float(good.sum()) < 1.3


def test_safe_weights_are_one_on_average_over_the_data_set():
    labeler = SelfLabeler(labels_for(5), CLASSES, SelfLabelingConfig(momentum=0.0))
    for epoch in range(1, 4):  # the same views again and again: beliefs stand still
        for _, rows, logits in training_steps(5, 1):
            labeler.step(rows, logits, epoch)
    torch.testing.assert_close(
        labeler.state_dict()["weight"].mean(), torch.tensor(1.0), rtol=2e-3, atol=0
    )


CONFIGS = [
    SelfLabelingConfig(),
    SelfLabelingConfig.paper(correct_from=3, reweight_from=2, threshold=0.7),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["safe", "paper"])
@pytest.mark.parametrize("stop", [7, 12, 13])
def test_a_saved_state_goes_on_just_the_same(config, stop):
    steps = list(training_steps(3, 6))
    whole = SelfLabeler(labels_for(3), CLASSES, config)
    for epoch, rows, logits in steps[:stop]:
        whole.step(rows, logits, epoch)
    saved = copy.deepcopy(whole.state_dict())
    assert all(isinstance(value, torch.Tensor) for value in saved.values())
    resumed = SelfLabeler(labels_for(3), CLASSES, config)
    resumed.load_state_dict(saved)
    for epoch, rows, logits in steps[stop:]:
        for one, other in zip(
            whole.step(rows, logits, epoch), resumed.step(rows, logits, epoch), strict=True
        ):
            assert torch.equal(one, other)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert whole.statistics() == resumed.statistics()


def test_a_state_of_other_settings_or_other_labels_is_refused():
    paper = SelfLabeler(labels_for(3), CLASSES, SelfLabelingConfig.paper())
    safe = SelfLabeler(labels_for(3), CLASSES, SelfLabelingConfig())
    with pytest.raises(TrainingError, match="another form or size"):
        safe.load_state_dict(paper.state_dict())
    other = SelfLabeler(labels_for(4), CLASSES, SelfLabelingConfig())
    with pytest.raises(TrainingError, match="not those that the saved") as fault:
        other.load_state_dict(safe.state_dict())
    assert "the data have changed" in fault.value.hint


def test_two_processes_that_exchange_rows_know_what_one_knows():
    config = SelfLabelingConfig(momentum=0.5)
    given_label = labels_for(9)
    one = SelfLabeler(given_label, CLASSES, config)
    ranks = [SelfLabeler(given_label, CLASSES, config) for _ in range(2)]
    for epoch in range(1, 6):
        for rows, logits in [(r, x) for e, r, x in training_steps(9, 5) if e == epoch]:
            label, _ = one.step(rows, logits, epoch)
            halves = [rank.step(rows[i::2], logits[i::2], epoch)[0] for i, rank in enumerate(ranks)]
            for i, half in enumerate(halves):
                assert torch.equal(half, label[i::2])
        sent = [(rank.rows_touched(), rank.read_rows(rank.rows_touched())) for rank in ranks]
        assert sorted(torch.cat([rows for rows, _ in sent]).tolist()) == list(range(COUNT))
        for rank, (rows, values) in zip(ranks, reversed(sent), strict=True):
            rank.write_rows(rows, values)
    for rank in ranks:
        assert torch.equal(rank.state_dict()["belief"], one.state_dict()["belief"])
        assert torch.equal(rank.state_dict()["threshold"], one.state_dict()["threshold"])
        assert rank.labels().tolist() == one.labels().tolist()


def test_statistics_count_corrections_and_know_the_truth_only_when_told():
    config = SelfLabelingConfig.paper(correct_from=1, reweight_from=None)
    labeler = SelfLabeler(torch.tensor([0, 0, 0, 1, 1]), 2, config)
    logits = torch.tensor([[0.0, 9.0], [0.0, 9.0], [9.0, 0.0], [0.0, 9.0]])
    labeler.step(torch.arange(4), logits, 1)
    plain = labeler.statistics()
    assert (plain.trained, plain.corrected, plain.right_labels) == (4, 2, None)
    assert (plain.kept_weight, plain.corrected_weight) == (1.0, 1.0)
    told = labeler.statistics(torch.tensor([1, 0, 0, 1, 0]))
    assert told.right_labels == 3
    untrained = SelfLabeler(torch.tensor([0]), 2, config).statistics()
    assert untrained.trained == 0
    assert math.isnan(untrained.kept_weight)


def test_a_label_that_is_no_class_is_refused_and_a_missing_one_is_not():
    SelfLabeler(torch.tensor([0, -1]), 2, SelfLabelingConfig())
    with pytest.raises(ConfigError, match="not one of the 2 classes"):
        SelfLabeler(torch.tensor([0, 2]), 2, SelfLabelingConfig())


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "bold"},
        {"threshold": 1.5},
        {"floor": -0.1},
        {"temperature": 0.0},
        {"temperature": math.nan},
        {"momentum": 1.0},
        {"correct_from": 0},
        {"reweight_from": -1},
    ],
)
def test_settings_that_cannot_be_used_are_refused(wrong):
    with pytest.raises(ConfigError):
        SelfLabelingConfig(**wrong)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), preset=st.sampled_from(["safe", "paper"]))
def test_trusted_labels_are_never_corrected_and_weigh_as_if_surely_right(seed, preset):
    given_label, trusted = labels_for(seed), labels_for(seed + 1)
    trusted[labels_for(seed + 2) > 0] = MISSING  # about a quarter is trusted
    config = SelfLabelingConfig.paper(correct_from=1, reweight_from=1, threshold=0.5)
    if preset == "safe":
        config = SelfLabelingConfig(correct_from=1, reweight_from=1, threshold=0.1, floor=0.3)
    labeler = SelfLabeler(given_label, CLASSES, config, trusted)
    corrected = 0
    for epoch, rows, logits in training_steps(seed, 4):
        label, weight = labeler.step(rows, logits, epoch)
        is_trusted = trusted[rows] != MISSING
        assert torch.equal(label[is_trusted], trusted[rows][is_trusted])
        corrected += int((label != given_label[rows])[~is_trusted].sum())
        if is_trusted.any() and epoch > 1:
            assert float(weight[is_trusted].min()) >= float(weight.max()) - 1e-6
    assert corrected > 0
    is_trusted = trusted != MISSING
    assert (labeler.labels()[is_trusted] == trusted[is_trusted].numpy()).all()


@pytest.mark.parametrize("config", [SelfLabelingConfig(), SelfLabelingConfig.paper()])
def test_to_trust_nothing_changes_nothing(config):
    given_label = labels_for(3)
    plain = SelfLabeler(given_label, CLASSES, config)
    other = SelfLabeler(given_label, CLASSES, config, torch.full_like(given_label, MISSING))
    for epoch, rows, logits in training_steps(3, 12):
        for one, two in zip(
            plain.step(rows, logits, epoch), other.step(rows, logits, epoch), strict=True
        ):
            assert torch.equal(one, two)


def test_the_mean_weight_counts_trusted_samples():
    config = SelfLabelingConfig(reweight_from=2, correct_from=None)
    given_label = labels_for(4)
    trusted = torch.where(torch.arange(COUNT) % 3 == 0, given_label, MISSING)
    labeler = SelfLabeler(given_label, CLASSES, config, trusted)
    rows = torch.arange(COUNT)
    logits = torch.randn(COUNT, CLASSES, generator=torch.Generator().manual_seed(0))
    for epoch in (1, 2):
        _, weight = labeler.step(rows, logits, epoch)
    torch.testing.assert_close(weight.sum(), torch.tensor(1.0), atol=2e-3, rtol=0)
