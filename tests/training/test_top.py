"""Upper stages are trained on activations of frozen lower ones: parts, and whole audits."""

import copy
import json
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import timm
import torch
from fitted_pictures import CLASSES, SIDE, fit_pictures, noisy_pictures, score_all
from timm.models import register_model
from typer.testing import CliRunner
from whole_networks import Killed, config_of, log_of, settings_of, write_weights

from labelfix.cli import main as cli
from labelfix.config import RegularizationConfig
from labelfix.diagnose import diagnose
from labelfix.errors import BackboneError
from labelfix.pipeline.samples import audit
from labelfix.report.io import read_report_table
from labelfix.training.cross_fit_networks import AtOnce, Networks
from labelfix.training.cut import LowerNetwork, possible_cuts, upper_network
from labelfix.training.layers import group_layers

CPU = torch.device("cpu")


@contextmanager
def cores(count):
    """Let torch use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# The parts


def classifier(name):
    torch.manual_seed(0)
    size = {"img_size": SIDE} if name == "test_vit" else {}
    return timm.create_model(name, num_classes=CLASSES, **size)


def fitted(inputs, given, make, layers, folder, **settings):
    pretrained = classifier(settings.pop("name")).state_dict()
    return fit_pictures(
        inputs,
        given,
        score_all(len(given)),
        folder,
        networks=Networks(make, pretrained, CPU, layers),
        regularization=RegularizationConfig(distance=0.03),
        update_norms=False,
        **settings,
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_upper_stages_train_as_in_a_network_whose_lower_ones_are_frozen(name, optimizer, tmp_path):
    """A radius of zero for the lower stages, and norms that keep their statistics."""
    inputs, given, _ = noisy_pictures(60)
    model = classifier(name)
    layers = group_layers(model)
    cut = possible_cuts(model, torch.rand(1, 3, SIDE, SIDE))[1]
    with torch.inference_mode():
        activations = LowerNetwork(classifier(name).eval(), cut)(inputs).clone()

    def frozen(classes):
        whole = classifier(name)
        for layer in layers:
            whole.get_parameter(layer.name).requires_grad_(layer.depth > cut.depth)
        return whole

    def upper(classes):
        return upper_network(classifier(name), layers, cut)

    settings = {"name": name, "optimizer": optimizer, "learning_rate": 1e-3}
    whole = fitted(inputs, given, frozen, None, tmp_path / "whole", **settings)
    top = fitted(activations, given, upper, layers, tmp_path / "top", **settings)
    losses = [[row["loss"] for row in run.log] for run in (top, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    for field in ("pred_probs", "margin"):
        parts = [getattr(run.evidence, field) for run in (top, whole)]
        np.testing.assert_allclose(*parts, atol=1e-3)
    assert len({round(loss, 6) for loss in losses[0]}) == len(losses[0]), "it learns"


def test_a_network_that_is_given_up_ends_those_beside_it(tmp_path):
    """Nobody waits for the rest of a training that will not be used."""
    inputs, given, _ = noisy_pictures(60)
    told = []

    def die(progress):
        told.append(threading.current_thread())
        if len(told) >= 3 and told[-1].name.endswith("_0"):  # that of the first network
            raise Killed

    with pytest.raises(Killed):
        fit_pictures(
            inputs,
            given,
            score_all(60),
            tmp_path,
            epochs=300,
            at_once=AtOnce(2, 2, 32),
            on_progress=die,
        )
    assert threading.main_thread() not in told
    assert not any(thread.is_alive() for thread in told)


def test_networks_at_once_are_those_in_turn(tmp_path):
    inputs, given, _ = noisy_pictures(60)
    start = classifier("test_resnet")
    networks = Networks(lambda classes: copy.deepcopy(start), {}, CPU)
    one, two = (
        fit_pictures(
            inputs,
            given,
            score_all(60),
            tmp_path / str(number),
            networks=networks,
            update_norms=False,
            at_once=at_once,
        )
        for number, at_once in enumerate([AtOnce(1, 1, 5), AtOnce(2, 3, 5)])
    )
    for field in ("pred_probs", "margin", "self_label", "fold"):
        np.testing.assert_array_equal(getattr(one.evidence, field), getattr(two.evidence, field))
    assert all(torch.equal(value, two.model_state[key]) for key, value in one.model_state.items())


# Audits


@register_model
def test_resnet_with_drop_out(**settings):
    return timm.create_model("test_resnet", drop_rate=0.3, **settings)


test_resnet_with_drop_out.__test__ = False


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module", params=["test_resnet", "test_vit"])
def tuned(request, small_data, weights, tmp_path_factory):
    """The name of a network and the folder of a run of its upper stages, by the command."""
    folder = tmp_path_factory.mktemp("top")
    (folder / "settings.toml").write_text(
        "[backbone]\nimage_size = 32\n[top]\nleast_steps = 1\nfolds = 2\n"
        "epochs = 3\nbatch_size = 16\nlearning_rate = 3e-3\n"
    )
    name = request.param
    done = CliRunner().invoke(
        cli.app,
        [
            "audit", str(small_data), "--out", str(folder / "run"), "--tune", "top",
            "--backbone", name, "--weights", str(weights / f"{name}.safetensors"),
            "--device", "cpu", "--cache", str(folder / "cache"),
            "--config", str(folder / "settings.toml"), "--quiet",
        ],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return name, folder


def config_like(tuned, weights):
    name, folder = tuned
    return config_of(weights, folder / "cache", backbone=name, tune="top")


def report_of(run):
    return (run / "report.parquet").read_bytes()


def test_an_audit_of_upper_stages_tells_its_cut_and_scores_every_sample(tuned):
    name, folder = tuned
    settings = settings_of(folder / "run")
    assert settings["tune"] == "top"
    assert settings["cut"] == {"test_resnet": "layer1", "test_vit": "blocks.2"}[name]
    assert settings["views"] == 4
    assert settings["notes"] == [f"the stages below {settings['cut']} stayed as pretrained"]
    report = read_report_table(folder / "run")
    probs = np.stack(report.table["pred_probs"].to_pylist())
    assert probs.shape == (90, 3)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-4)
    assert set(report.table["fold"].to_pylist()) == {0, 1}
    assert [(row["fold"], row["epoch"]) for row in log_of(folder / "run")] == [
        (fold, epoch) for fold in (0, 1) for epoch in (1, 2, 3)
    ]
    assert not (folder / "run" / "checkpoints").exists()
    shown = CliRunner().invoke(cli.app, ["show", str(folder / "run")])
    assert shown.exit_code == 0, shown.output
    assert settings["cut"] in " ".join(shown.output.split())


def test_the_model_of_a_run_is_the_whole_network_with_lower_stages_as_pretrained(tuned, weights):
    name, folder = tuned
    told = json.loads((folder / "run" / "run.json").read_text())["model"]
    call, _, size = told.partition("; inputs of ")
    assert size == "32 pixels"
    called = call.replace("'model.safetensors'", repr(str(folder / "run" / "model.safetensors")))
    assert called != call
    model = eval(called, {"timm": timm})
    fresh = timm.create_model(name, checkpoint_path=weights / f"{name}.safetensors")
    start = fresh.state_dict()
    depth_of = {layer.name: layer.depth for layer in group_layers(model)}
    cut = settings_of(folder / "run")["cut"]
    lowest = min(depth for part, depth in depth_of.items() if part.startswith(f"{cut}."))
    moved = {
        part
        for part, value in model.named_parameters()
        if value.shape != start[part].shape or not torch.equal(value, start[part])
    }
    assert {part for part in moved if depth_of[part] < lowest} <= {"pos_embed"}
    assert {part for part in moved if depth_of[part] >= lowest}
    assert model.get_classifier().weight.abs().sum() > 0


def test_a_run_of_upper_stages_is_diagnosed_as_one_of_a_whole_network(tuned):
    name, folder = tuned
    found = diagnose(folder / "run", samples=10, draws=2, device="cpu")
    assert all(np.isfinite(record.loss) for record in found.noise)
    by_name = {layer.name: layer for layer in found.layers}
    assert (
        by_name["conv1.0.weight" if name == "test_resnet" else "patch_embed.proj.weight"].distance
        == 0
    )
    cut = settings_of(folder / "run")["cut"]
    upper = [layer for layer in found.layers if layer.name.startswith(f"{cut}.")]
    assert upper
    assert all(layer.distance > 0 and layer.role == "stage" for layer in upper)
    assert all(layer.distance <= layer.radius * 1.01 for layer in upper)
    assert len(found.epochs) == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_a_killed_run_of_upper_stages_is_gone_on_with_to_the_same_report(
    tuned, small_data, weights, tmp_path, threads
):
    """On one core, and on two, where both networks are trained at once."""
    config = config_like(tuned, weights)
    reports = []

    def die(progress):
        reports.append(progress)
        if sum(report.stage.startswith("fine-tuning") for report in reports) == 5:
            raise Killed

    run = tmp_path / "run"
    with cores(threads):
        with pytest.raises(Killed):
            audit(small_data, run, config, on_progress=die)
        assert not (run / "report.parquet").exists()
        assert list((run / "checkpoints").iterdir())
        audit(small_data, run, config, resume=True)
        audit(small_data, tmp_path / "whole", config)
    assert report_of(run) == report_of(tmp_path / "whole")


def test_a_report_does_not_depend_on_the_number_of_cores(tuned, small_data, weights, tmp_path):
    config = config_like(tuned, weights)
    for threads in (1, 2):
        with cores(threads):
            audit(small_data, tmp_path / str(threads), config)
    assert report_of(tmp_path / "1") == report_of(tmp_path / "2")


def test_networks_with_drop_out_give_one_report_on_any_number_of_cores(
    small_data, weights, tmp_path
):
    config = config_of(
        weights, tmp_path / "cache", backbone="test_resnet_with_drop_out", tune="top"
    )
    for threads in (1, 2):
        with cores(threads):
            audit(small_data, tmp_path / str(threads), config)
    assert report_of(tmp_path / "1") == report_of(tmp_path / "2")


def test_a_network_that_cannot_be_cut_is_refused_before_it_is_trained(small_data, tmp_path):
    config = config_of(
        None, tmp_path, backbone="eva02_tiny_patch14_224", tune="top", pretrained=False
    )
    with pytest.raises(BackboneError, match="cannot be cut between its stages") as raised:
        audit(small_data, tmp_path / "run", config)
    assert "--tune head" in raised.value.hint
