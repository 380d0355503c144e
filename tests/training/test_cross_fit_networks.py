import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from timm.models import register_model
from whole_networks import Killed, config_of, log_of, settings_of, write_weights

import labelfix
from labelfix.config import BackboneConfig
from labelfix.diagnose import diagnose
from labelfix.errors import ConfigError, RunError, TrainingError
from labelfix.pipeline.samples import audit
from labelfix.report.io import read_report_table
from labelfix.report.summary import summarize
from labelfix.report.view import ReportView


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"))


FITTING = 5


@register_model
def test_resnet_in_little_memory(**settings):
    """A network whose memory holds so many images at once."""

    def look(model, arguments):
        if len(arguments[0]) > FITTING:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    model = timm.create_model("test_resnet", **settings)
    model.register_forward_pre_hook(look)
    return model


test_resnet_in_little_memory.__test__ = False


@pytest.fixture(scope="module")
def whole(small_data, weights, tmp_path_factory):
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("full")
    audit(small_data, folder / "run", config_of(weights, folder / "cache"))
    return folder


def test_a_whole_network_run_scores_every_sample_and_leaves_its_model(whole, weights):
    run = whole / "run"
    report = read_report_table(run)
    probs = np.stack(report.table["pred_probs"].to_pylist())
    assert probs.shape == (90, 3)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-4)
    assert set(report.table["fold"].to_pylist()) == {0, 1}
    log = log_of(run)
    assert [(row["fold"], row["epoch"]) for row in log] == [
        (f, e) for f in (0, 1) for e in (1, 2, 3)
    ]
    layers = json.loads((run / "layers.json").read_text())
    assert any(layer["distance"] > 0 for layer in layers)
    assert not (run / "checkpoints").exists()
    model = timm.create_model(
        "test_resnet", num_classes=3, checkpoint_path=run / "model.safetensors"
    )
    assert model.get_classifier().weight.abs().sum() > 0
    assert "checkpoint_path" in json.loads((run / "run.json").read_text())["model"]


def test_a_run_killed_after_any_epoch_resumes_to_the_same_report(
    whole, small_data, weights, tmp_path
):
    def die_at(epoch_of_second_network):
        def on_progress(progress):
            if progress.stage == "fine-tuning network 2 of 2" and progress.total is not None:
                steps = progress.total // 3
                if progress.done >= steps * epoch_of_second_network:
                    raise Killed

        return on_progress

    config = config_of(weights, whole / "cache")
    run = tmp_path / "run"
    with pytest.raises(Killed):
        audit(small_data, run, config, on_progress=die_at(2))
    assert not (run / "report.parquet").exists()
    assert {path.name for path in (run / "checkpoints").iterdir()} == {
        "fold-0-of-2.pt",
        "fold-1-of-2.pt",
    }
    audit(small_data, run, config, resume=True)
    expected = (whole / "run" / "report.parquet").read_bytes()
    assert (run / "report.parquet").read_bytes() == expected


def test_every_process_finds_a_finished_run(whole, small_data, weights, monkeypatch):
    """None of them waits for one that has nothing left to do."""
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    result = audit(small_data, whole / "run", config_of(weights, whole / "cache"), resume=True)
    assert len(result.report) == 90


def test_a_run_of_other_settings_is_not_resumed(whole, small_data, weights):
    config = config_of(weights, whole / "cache", epochs=4)
    with pytest.raises(RunError, match="another run: the settings differ"):
        audit(small_data, whole / "run", config, resume=True)


def test_a_run_that_memory_has_no_room_for_goes_on_in_smaller_portions(
    whole, small_data, weights, tmp_path
):
    notes = []
    config = config_of(weights, whole / "cache", backbone="test_resnet_in_little_memory")
    audit(small_data, tmp_path, config, on_progress=lambda progress: notes.append(progress.note))
    tight, loose = (json.loads((run / "run.json").read_text()) for run in (tmp_path, whole / "run"))
    assert loose["settings"]["micro_batch_size"] == 16
    assert tight["settings"]["micro_batch_size"] == 4
    assert any("4 at a time as memory is short" in note for note in notes)
    report = read_report_table(tmp_path)
    assert np.isfinite(np.stack(report.table["pred_probs"].to_pylist())).all()


def test_training_that_diverges_goes_on_at_half_the_learning_rate(
    whole, small_data, weights, tmp_path
):
    wild = {"backbone": "test_vit", "optimizer": "sgd", "form": "none", "epochs": 8}
    config = config_of(weights, whole / "cache", learning_rate=1.0, **wild)
    run = tmp_path / "run"
    what = r"(the loss is nan|a weight is no longer finite) at step \d+ \(epoch \d, learning rate "
    with pytest.raises(TrainingError, match=what) as first:
        audit(small_data, run, config)
    assert "of network 1 of 2; the last good checkpoint: none" in str(first.value)
    assert "--resume --halve-learning-rate trains network 1 anew" in first.value.hint
    with pytest.raises(TrainingError) as again:
        audit(small_data, run, config, resume=True)
    assert str(again.value) == str(first.value), "the same settings come to the same end"

    halvings = 0
    while not (run / "run.json").exists():
        assert halvings < 10
        halvings += 1
        try:
            audit(
                small_data,
                run,
                config,
                resume=True,
                halve_learning_rate=True,
                on_progress=kill_once(),
            )
        except Killed:  # what is gone on with keeps its rate
            with contextlib.suppress(TrainingError):
                audit(small_data, run, config, resume=True)
        except TrainingError as error:
            assert "--halve-learning-rate" in error.hint  # noqa: PT017 - both may happen
    settings = settings_of(run)
    assert halvings > 0
    assert settings["rate_halvings"] == halvings
    assert settings["learning_rate"] == 1.0 / 2**halvings
    log = log_of(run)
    assert [(row["fold"], row["epoch"]) for row in log] == [
        (fold, epoch) for fold in (0, 1) for epoch in range(1, 9)
    ]
    assert all(np.isfinite(row["loss"]) for row in log)
    assert max(row["learning_rate"] for row in log if row["fold"] == 1) <= 1.0 / 2**halvings
    with pytest.raises(RunError, match="holds a finished run: there is no training to go on with"):
        audit(small_data, run, config, resume=True, halve_learning_rate=True)


def kill_once():
    """Return what kills the first run that comes to its second network."""
    calls = []

    def on_progress(progress):
        if progress.stage == "fine-tuning network 2 of 2" and not calls:
            calls.append(progress)
            raise Killed

    return on_progress


def test_training_that_diverges_at_once_leaves_nothing_to_go_on_with(
    whole, small_data, weights, tmp_path
):
    wild = {"backbone": "test_vit", "optimizer": "sgd", "form": "none"}
    config = config_of(weights, whole / "cache", learning_rate=1e6, **wild)
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match="of network 1 of 2, before the first") as raised:
        audit(small_data, run, config)
    assert "--learning-rate, such as 2e+05" in raised.value.hint
    assert not run.exists()
    with pytest.raises(RunError, match="holds no run"):
        audit(small_data, run, config, resume=True, halve_learning_rate=True)
    assert not run.exists()


def test_half_the_rate_is_of_whole_networks_that_are_gone_on_with(small_data, weights, tmp_path):
    config = config_of(weights, tmp_path / "cache")
    for asked, resume in ((config, False), (replace(config, tune="head"), True)):
        with pytest.raises(ConfigError, match="only for resuming the training of networks"):
            audit(small_data, tmp_path / "run", asked, resume=resume, halve_learning_rate=True)


def test_a_start_from_random_weights_holds_nothing_but_the_head(whole, small_data, tmp_path):
    run = tmp_path / "run"
    config = config_of(None, whole / "cache", pretrained=False)
    audit(small_data, run, config)
    layers = json.loads((run / "layers.json").read_text())
    held = [layer["name"] for layer in layers if layer["radius"] is not None]
    assert held == ["fc.weight"]
    settings = settings_of(run)
    assert settings["regularization"]["distance"] == "inf", "JSON has no such number"
    assert settings["notes"] == [
        "the networks began with random weights: only their heads were held",
        "images were compared with each other by tf_efficientnet_lite0",
    ]
    assert list(summarize(ReportView(read_report_table(run))).notes) == settings["notes"]
    audit(small_data, tmp_path / "again", config)
    first, again = ((tmp_path / name / "report.parquet").read_bytes() for name in ("run", "again"))
    assert first == again
    moved = diagnose(run, samples=10, draws=2, device="cpu").layers  # finds the same start again
    assert all(0 < layer.distance < 10 for layer in moved if layer.name == "conv1.0.weight")


def test_random_weights_are_only_for_whole_networks(small_data, tmp_path):
    config = replace(config_of(None, tmp_path / "cache", pretrained=False), tune="head")
    with pytest.raises(ConfigError, match="random weights say nothing") as raised:
        audit(small_data, tmp_path / "run", config)
    assert "--tune full" in raised.value.hint
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="exclude each other"):
        BackboneConfig(weights=tmp_path / "w.safetensors", pretrained=False)


def test_the_options_of_whole_networks_reach_the_training(whole, small_data, weights, tmp_path):
    result = labelfix.audit(
        small_data,
        tmp_path / "run",
        backbone="test_resnet",
        weights=weights / "test_resnet.safetensors",
        image_size=32,
        device="cpu",
        tune="full",
        folds=2,
        epochs=2,
        learning_rate=1e-3,
        train_batch_size=20,
        max_weight_change=0,
        self_labeling="off",
        cache=whole / "cache",
    )
    settings = settings_of(result.run)
    found = {name: settings[name] for name in ("folds", "epochs", "learning_rate", "batch_size")}
    assert found == {"folds": 2, "epochs": 2, "learning_rate": 1e-3, "batch_size": 20}
    layers = json.loads((result.run / "layers.json").read_text())
    held = [layer for layer in layers if layer["role"] == "stage"]
    assert len(held) > 3
    assert all(layer["distance"] == 0 for layer in held), "a distance of 0 freezes"
    log = log_of(result.run)
    assert {(row["corrected"], round(row["mean_weight_kept"], 5)) for row in log} == {(0, 1.0)}


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"epochs": 5}, "epochs would change nothing"),
        (
            {"max_weight_change": 0.0, "self_labeling": "off"},
            "max_weight_change, self_labeling would change nothing",
        ),
    ],
)
@pytest.mark.parametrize("tune", ["head", "auto"])
def test_options_of_whole_networks_are_not_silently_left_aside(
    small_data, tmp_path, option, told, tune
):
    with pytest.raises(ConfigError, match=told) as raised:
        labelfix.audit(small_data, tmp_path / "run", tune=tune, device="cpu", **option)
    assert 'tune="full"' in raised.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"epochs": 0}, "0 epochs"),
        ({"folds": 1}, "folds 1 is too few"),
        ({"train_batch_size": 1}, "batches of 1 "),
        ({"learning_rate": 0.0}, "learning rate 0.0 is not above 0"),
        ({"learning_rate": 1e38}, "learning rate 1e[+]38 is not above 0, or is over 1e[+]36"),
        ({"learning_rate": float("nan")}, "learning rate nan"),
        ({"max_weight_change": -0.1}, "distance of -0.1 is no radius"),
        ({"max_weight_change": 0.1, "pretrained": False}, "random weights are no place"),
        ({"self_labeling": "bold"}, "self_labeling is 'bold'"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_read(tmp_path, option, told):
    with pytest.raises(ConfigError, match=told) as raised:
        labelfix.audit(tmp_path / "nowhere", tmp_path / "run", tune="full", **option)
    assert raised.value.hint
