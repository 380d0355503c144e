from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import timm
import torch
import torch._inductor.config as inductor
from torch import nn

from labelfix.config import FineTuningConfig, RegularizationConfig, SelfLabelingConfig
from labelfix.errors import TrainingError
from labelfix.training.finetune import FineTuning, TrainingSetup, predict
from labelfix.training.gradients import uses_compile
from labelfix.training.recorder import EvidenceRecorder
from labelfix.training.regularization import LayerBalls
from labelfix.training.self_labeling import SelfLabeler
from labelfix.utils.torch_utils import CorePool, one_core_threads, warm_up_and_cosine

COUNT, CLASSES, SIDE = 96, 3, 32


def pictures(seed=0):
    """Pictures whose class is their color, with noise."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(COUNT) % CLASSES
    inputs = 0.3 * torch.randn(COUNT, 3, SIDE, SIDE, generator=generator)
    inputs[torch.arange(COUNT), label] += 1.0
    return inputs, label


def tuning_of(
    epochs=4,
    inputs=None,
    limit=None,
    seed=0,
    name="test_resnet",
    network=None,
    rules=SelfLabelingConfig(),  # noqa: B008 - frozen
    steps=(16,) * (COUNT // 16),
    pool=None,
    **settings,
):
    torch.manual_seed(seed)
    size = {"img_size": SIDE} if name == "test_vit" else {}
    if network is None:
        model = timm.create_model(name, pretrained=False, num_classes=CLASSES, **size)
    else:
        model = network()
    inputs, label = pictures() if inputs is None else inputs
    settings = {"batch_size": 16, "learning_rate": 3e-3} | settings

    def batches(epoch):
        order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(COUNT))
        for rows in order[: sum(steps)].split(steps):
            yield rows, inputs[rows]

    limit = limit(model) if limit else None
    setup = TrainingSetup(
        given_label=label,
        batches=batches,
        step_sizes=steps,
        labeler=SelfLabeler(label, CLASSES, rules),
        recorder=EvidenceRecorder(COUNT, CLASSES),
        limit=limit,
        penalised=isinstance(limit, LayerBalls) and limit.config.form == "penalty",
    )
    config = FineTuningConfig(epochs=epochs, **settings)
    return FineTuning(model, setup, config, wrapped=model, pool=pool)


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
    evidence = tuning.setup.recorder.result()
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
        (whole.setup.recorder.state_dict(), rest.setup.recorder.state_dict()),
        (whole.setup.labeler.state_dict(), rest.setup.labeler.state_dict()),
    ):
        for name, value in expected.items():
            assert torch.equal(value, found[name]), name


def test_a_loss_that_is_not_finite_stops_with_step_and_rate():
    inputs, label = pictures()
    inputs[5] = torch.nan
    tuning = tuning_of(inputs=(inputs, label))
    with pytest.raises(TrainingError, match=r"loss is nan at step \d+ \(epoch 1, learning rate"):
        tuning.run_epoch(silent)


def test_weights_that_the_last_step_made_infinite_stop_with_step_and_rate():
    """The loss of that step is still finite: no later one would tell."""
    inputs, label = pictures()
    steep = {"inputs": (1e6 * inputs, label), "optimizer": "sgd", "learning_rate": 1e35}
    tuning = tuning_of(epochs=1, steps=(COUNT,), network=Colors, **steep)
    with pytest.raises(TrainingError, match=r"weight is no longer finite at step 1 \(epoch 1, le"):
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
    assert tuning.setup.limit.calls == COUNT // 16
    for name, value in tuning.model.named_parameters():
        assert torch.equal(value, tuning.setup.limit.start[name])


def test_the_schedule_rises_to_1_and_falls_to_0():
    factor = warm_up_and_cosine(100)
    values = [factor(step) for step in range(101)]
    assert max(values) == pytest.approx(1, abs=0.05)
    assert values[0] < 0.2
    assert values[100] == pytest.approx(0, abs=1e-9)
    assert all(a >= b for a, b in pairwise(values[10:]))


class SmallMemory:
    """Memory for so many images: a forward pass of more raises what a GPU would."""

    def __init__(self, model, most):
        self.most = most
        self.trained_on, self.refused = [], 0
        model.register_forward_pre_hook(self.look)

    def look(self, model, arguments):
        if len(arguments[0]) > self.most:
            self.refused += 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        if model.training and torch.is_grad_enabled():
            self.trained_on.append(len(arguments[0]))


def penalty_of(model):
    config = RegularizationConfig(form="penalty", schedule="constant", distance=0.01)
    return LayerBalls(model, {k: v.clone() for k, v in model.state_dict().items()}, config)


@pytest.mark.parametrize(
    ("rules", "limit"),
    [
        (SelfLabelingConfig(), None),
        (SelfLabelingConfig.paper(correct_from=2, reweight_from=1, threshold=0.5), None),
        (SelfLabelingConfig(), penalty_of),
    ],
    ids=["safe", "paper", "penalty"],
)
@pytest.mark.parametrize(("most", "size"), [(8, 8), (5, 4)])
def test_portions_of_a_batch_add_up_to_the_step_of_the_whole(rules, limit, most, size):
    """A network without batch norm: nothing but rounding tells the two apart."""
    # not Adam, which makes a whole step of a gradient that is nothing but rounding
    settings = {"name": "test_vit", "rules": rules, "limit": limit, "optimizer": "sgd"}
    whole, cut = tuning_of(**settings), tuning_of(**settings)
    memory = SmallMemory(cut.model, most)
    losses = [[tuning.run_epoch(silent).loss for _ in range(2)] for tuning in (whole, cut)]
    assert memory.refused == (16 // size) // 2, "what does not fit is tried once"
    assert set(memory.trained_on) == {size}
    assert (whole.micro_batch_size, cut.micro_batch_size) == (None, size)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for expected, found in (
        (whole.model.state_dict(), cut.model.state_dict()),
        (whole.setup.recorder.state_dict(), cut.setup.recorder.state_dict()),
        (whole.setup.labeler.state_dict(), cut.setup.labeler.state_dict()),
    ):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("rules", "limit"),
    [
        (SelfLabelingConfig(), None),
        (SelfLabelingConfig.paper(correct_from=2, reweight_from=1, threshold=0.5), None),
        (SelfLabelingConfig(), penalty_of),
    ],
    ids=["safe", "paper", "penalty"],
)
def test_portions_on_several_cores_add_up_to_the_step_of_the_whole(rules, limit):
    settings = {"name": "test_vit", "rules": rules, "limit": limit, "optimizer": "sgd"}
    found = []
    with one_core_threads(1) as one, one_core_threads(2) as two:
        for pool in (None, CorePool(one, 5), CorePool(two, 5)):
            tuning = tuning_of(**settings, pool=pool)
            losses = [tuning.run_epoch(silent).loss for _ in range(2)]
            found.append((losses, tuning.state_dict()))
    (whole, state), (cut, on_one_core), (again, on_two) = found
    assert cut == again
    assert cut == pytest.approx(whole, rel=1e-5)
    for part in ("model", "recorder", "labeler"):
        for name, value in state[part].items():
            torch.testing.assert_close(on_one_core[part][name], on_two[part][name], rtol=0, atol=0)
            torch.testing.assert_close(on_one_core[part][name], value, rtol=1e-3, atol=1e-3)


def test_memory_that_runs_out_in_the_backward_pass_shows_no_sample_twice():
    tuning = tuning_of(epochs=1)
    failures = iter([True, True])

    def fail(gradient):
        if next(failures, False):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    next(tuning.model.parameters()).register_hook(fail)
    tuning.run_epoch(silent)
    assert tuning.micro_batch_size == 4
    assert (tuning.setup.recorder.result().num_updates == 1).all()
    assert (tuning.setup.labeler.state_dict()["updates"] == 1).all()


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
@pytest.mark.parametrize("rules", [SelfLabelingConfig(), SelfLabelingConfig.paper()])
def test_a_batch_norm_never_trains_on_one_image(name, rules):
    tuning = tuning_of(name=name, rules=rules, epochs=1, steps=(6, 3, 2))
    norms = [module for module in tuning.model.modules() if isinstance(module, nn.BatchNorm2d)]
    seen = set()
    for norm in norms:
        norm.register_forward_pre_hook(lambda norm, given: seen.add(len(given[0])))
    SmallMemory(tuning.model, 3)
    tuning.run_epoch(silent)
    assert tuning.micro_batch_size == 3
    assert seen == {2, 3}
    assert {int(norm.num_batches_tracked) for norm in norms} == {4}, "once a portion, and no more"
    tight = tuning_of(name=name, rules=rules, epochs=1, steps=(7, 2))
    SmallMemory(tight.model, 1)
    with pytest.raises(TrainingError, match="memory runs out with 3 images at a time"):
        tight.run_epoch(silent)


def test_several_processes_leave_batches_whole():
    tuning = tuning_of()
    alone = tuning.setup
    shared = FineTuning(
        tuning.model, replace(alone, processes=2), tuning.config, wrapped=tuning.model
    )
    SmallMemory(tuning.model, 8)
    with pytest.raises(TrainingError, match="with 16 images at a time, and fewer cannot be taken"):
        shared.run_epoch(silent)


def test_evaluation_goes_on_in_smaller_portions():
    tuning = tuning_of()
    inputs, _ = pictures()
    batch = (torch.arange(COUNT), inputs)
    ((_, whole),) = predict(tuning.model, iter([batch]), tuning.config)
    SmallMemory(tuning.model, 7)
    ((rows, cut),) = predict(tuning.model, iter([batch]), tuning.config)
    assert torch.equal(rows, batch[0])
    torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-5)


class Colors(nn.Module):
    """A network that is compiled in no time: it looks at nothing but the mean color."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, CLASSES)

    def forward(self, inputs):
        return self.head(inputs.mean(dim=(2, 3)))

    def get_classifier(self):
        return self.head


def test_a_network_that_cannot_be_compiled_is_trained_as_it_is():
    plain, broken = tuning_of(network=Colors), tuning_of(network=Colors, compile=True)
    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}):
        logs = [tuning.run_epoch(silent) for tuning in (plain, broken)]
    assert logs[0].loss == logs[1].loss
    assert (plain.compile_fault, broken.compile_fault) == (None, "InductorError")
    for name, value in plain.model.state_dict().items():
        assert torch.equal(broken.model.state_dict()[name], value), name
    assert (broken.setup.labeler.state_dict()["updates"] == 1).all()


def test_compiling_is_for_long_runs_on_a_gpu():
    config = FineTuningConfig(folds=2, epochs=10)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert [uses_compile(config, device, 101) for device in (gpu, cpu)] == [True, False]
    assert not uses_compile(config, gpu, 100)
    assert uses_compile(replace(config, compile=True), cpu, 1)
    assert not uses_compile(replace(config, compile=False), gpu, 10**6)
