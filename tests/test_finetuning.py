from itertools import pairwise

import numpy as np
import pytest
import timm
import torch

from labelfix.config import FineTuningConfig, SelfLabelingConfig
from labelfix.errors import TrainingError
from labelfix.evidence import EvidenceRecorder
from labelfix.finetuning import FineTuning, Lesson, predict
from labelfix.schedules import warm_up_and_cosine
from labelfix.self_labeler import SelfLabeler

COUNT, CLASSES, SIDE = 96, 3, 32


def pictures(seed=0):
    """Pictures whose class is their colour, with noise."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(COUNT) % CLASSES
    inputs = 0.3 * torch.randn(COUNT, 3, SIDE, SIDE, generator=generator)
    inputs[torch.arange(COUNT), label] += 1.0
    return inputs, label


def tuning_of(epochs=4, inputs=None, limit=None, seed=0):
    torch.manual_seed(seed)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=CLASSES)
    inputs, label = pictures() if inputs is None else inputs
    config = FineTuningConfig(epochs=epochs, batch_size=16, learning_rate=3e-3)

    def batches(epoch):
        order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(COUNT))
        for start in range(0, COUNT, 16):
            rows = order[start : start + 16]
            yield rows, inputs[rows]

    lesson = Lesson(
        given_label=label,
        batches=batches,
        step_sizes=[16] * (COUNT // 16),
        labeler=SelfLabeler(label, CLASSES, SelfLabelingConfig()),
        recorder=EvidenceRecorder(COUNT, CLASSES),
        limit=limit(model) if limit else None,
    )
    return FineTuning(model, lesson, config, wrapped=model)


def silent(step, loss, speed):
    pass


def test_a_network_learns_and_its_evidence_says_so():
    tuning = tuning_of(epochs=8)
    losses = [tuning.run_epoch(silent).loss for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
    inputs, label = pictures()
    ((_, probs),) = predict(
        tuning.average.module, iter([(torch.arange(COUNT), inputs)]), tuning.config
    )
    assert (probs.argmax(dim=1) == label).float().mean() > 0.9
    evidence = tuning.lesson.recorder.result()
    assert (evidence.num_updates == 8).all()
    assert evidence.margin.mean() > 0


def test_going_on_from_a_checkpoint_equals_never_having_stopped(tmp_path):
    whole = tuning_of()
    for _ in range(4):
        whole.run_epoch(silent)
    half = tuning_of()
    for _ in range(2):
        half.run_epoch(silent)
    torch.save(half.state_dict(), tmp_path / "state.pt")
    rest = tuning_of(seed=0)
    rest.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(2):
        rest.run_epoch(silent)
    for expected, found in (
        (whole.model.state_dict(), rest.model.state_dict()),
        (whole.average.state_dict(), rest.average.state_dict()),
        (whole.lesson.recorder.state_dict(), rest.lesson.recorder.state_dict()),
        (whole.lesson.labeler.state_dict(), rest.lesson.labeler.state_dict()),
    ):
        for name, value in expected.items():
            assert torch.equal(value, found[name]), name


def test_a_loss_that_is_not_finite_stops_with_step_and_rate():
    inputs, label = pictures()
    inputs[5] = torch.nan
    tuning = tuning_of(inputs=(inputs, label))
    with pytest.raises(TrainingError, match=r"loss is nan at step \d+ \(epoch 1, learning rate"):
        tuning.run_epoch(silent)


def test_a_limit_is_applied_after_every_step():
    class Counter:
        calls = 0

        def __init__(self, model):
            self.start = {name: value.clone() for name, value in model.named_parameters()}
            self.model = model

        def project(self):
            self.calls += 1
            with torch.no_grad():
                for name, value in self.model.named_parameters():
                    value.copy_(self.start[name])

        def penalty(self):
            raise AssertionError

    tuning = tuning_of(epochs=1, limit=Counter)
    tuning.run_epoch(silent)
    assert tuning.lesson.limit.calls == COUNT // 16
    for name, value in tuning.model.named_parameters():
        assert torch.equal(value, tuning.lesson.limit.start[name])


def test_the_schedule_rises_to_1_and_falls_to_0():
    factor = warm_up_and_cosine(100)
    values = [factor(step) for step in range(101)]
    assert max(values) == pytest.approx(1, abs=0.05)
    assert values[0] < 0.2
    assert values[100] == pytest.approx(0, abs=1e-9)
    assert all(a >= b for a, b in pairwise(values[10:]))
