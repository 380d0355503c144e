"""Networks of texts are trained: upper blocks and whole encoders, by whole audits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import two_processes
from safetensors.torch import load_file
from tiny_encoders import encoder_of, write_bert
from whole_networks import Killed, log_of, settings_of
from written_texts import sentences, write_table

from labelfix.config import (
    AuditConfig,
    AutoConfig,
    BackboneConfig,
    FineTuningConfig,
    TopConfig,
)
from labelfix.diagnose import diagnose
from labelfix.errors import BackboneError, RunError
from labelfix.pipeline.samples import audit
from labelfix.report.io import read_report_table

transformers = pytest.importorskip("transformers")

SHORT = {"folds": 2, "epochs": 2, "batch_size": 16, "learning_rate": 3e-3}
CUT = "encoder.encoder.layer.2"

FULL = """
import sys
from pathlib import Path
from labelfix.config import AuditConfig, BackboneConfig, FineTuningConfig
from labelfix.pipeline.samples import audit

data, run, folder, cache = map(Path, sys.argv[1:])
config = AuditConfig(
    backbone=BackboneConfig(name=str(folder), device="cpu"),
    tune="full",
    fine_tuning=FineTuningConfig(folds=2, epochs=2, batch_size=16, learning_rate=3e-3),
    cache=cache,
)
audit(data, run, config)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(
        tmp_path_factory.mktemp("bert"),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Texts of three lengths, one of them too long and one not to be read."""
    texts, labels = sentences(76)
    texts[3] = "flight hotel " * 40
    texts[8] = ""
    texts[11], texts[20] = "refund", "money back"
    return write_table(tmp_path_factory.mktemp("texts") / "a.csv", {"text": texts, "label": labels})


def config_of(folder: Path, cache: Path, tune: str = "top", **changes) -> AuditConfig:
    return AuditConfig(
        backbone=BackboneConfig(name=str(folder), device="cpu"),
        tune=tune,
        fine_tuning=FineTuningConfig(**SHORT),
        top=TopConfig(least_steps=1, largest_step=0.5, **{**SHORT, **changes}),
        cache=cache,
    )


@pytest.fixture(scope="module")
def top(data, folder, tmp_path_factory):
    """The folder of a run of upper blocks, on one core."""
    place = tmp_path_factory.mktemp("top")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    audit(data, place / "run", config_of(folder, place / "cache"))
    torch.set_num_threads(before)
    return place / "run"


def report_of(run):
    return (run / "report.parquet").read_bytes()


def layers_of(run):
    return json.loads((run / "layers.json").read_text())


def test_an_audit_of_upper_blocks_tells_what_it_did(top):
    settings = settings_of(top)
    assert (settings["tune"], settings["cut"], settings["views"]) == ("top", CUT, 1)
    assert settings["most_tokens"] == 24
    assert any(f"the blocks below {CUT} stayed" in note for note in settings["notes"])
    report = read_report_table(top)
    assert any("longer than the 24 tokens" in one.text for one in report.run.assumptions)
    scored = np.array([fold is not None for fold in report.table["fold"].to_pylist()])
    assert scored.sum() == 75
    probs = np.stack([p for p in report.table["pred_probs"].to_pylist() if p is not None])
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-4)
    assert [(row["fold"], row["epoch"]) for row in log_of(top)] == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_weights_stay_in_their_balls_and_lower_blocks_as_pretrained(top, folder):
    tuned = load_file(top / "model.safetensors")
    start = transformers.AutoModel.from_pretrained(folder).state_dict()
    moved = {
        name
        for name, value in start.items()
        if not name.startswith("pooler") and not torch.equal(value, tuned[f"encoder.{name}"])
    }
    assert moved
    assert all(name.startswith(CUT.removeprefix("encoder.")) for name in moved)
    bounded = [layer for layer in layers_of(top) if layer["radius"]]
    assert {layer["role"] for layer in bounded} == {"stage", "head"}
    for layer in bounded:
        assert layer["distance"] <= layer["radius"] * 1.001
        assert layer["relative_distance"] is None or layer["distance"] > 0


def test_a_radius_of_zero_leaves_the_weights_of_upper_blocks_as_they_are(data, folder, tmp_path):
    config = config_of(folder, tmp_path / "cache")
    held = replace(config.top_regularization, distance=0.0, hold_vectors=True)
    audit(data, tmp_path / "run", replace(config, top_regularization=held))
    tuned = load_file(tmp_path / "run" / "model.safetensors")
    start = transformers.AutoModel.from_pretrained(folder).state_dict()
    for name, value in start.items():
        if not name.startswith("pooler"):
            torch.testing.assert_close(tuned[f"encoder.{name}"], value, rtol=1e-6, atol=1e-7)
    assert tuned["head.weight"].abs().sum() > 0


def test_a_killed_run_on_two_cores_ends_in_the_report_of_one_core(top, data, folder, tmp_path):
    config = config_of(folder, tmp_path / "cache")
    seen = []

    def die(progress):
        seen.append(progress)
        if sum(report.stage.startswith("fine-tuning") for report in seen) == 3:
            raise Killed

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(Killed):
            audit(data, tmp_path / "run", config, on_progress=die)
        assert not (tmp_path / "run" / "report.parquet").exists()
        audit(data, tmp_path / "run", config, resume=True)
    finally:
        torch.set_num_threads(before)
    assert report_of(tmp_path / "run") == report_of(top)


def test_two_processes_train_a_whole_encoder_as_one(data, folder, tmp_path):
    script = tmp_path / "full.py"
    script.write_text(FULL)
    with two_processes(script, data, tmp_path / "two", folder, tmp_path / "cache"):
        audit(data, tmp_path / "one", config_of(folder, tmp_path / "other", "full"))
    one, two = (read_report_table(tmp_path / name).table for name in ("one", "two"))
    probs = [
        np.stack([row for row in table["pred_probs"].to_pylist() if row is not None])
        for table in (one, two)
    ]
    np.testing.assert_allclose(*probs, atol=1e-3)
    losses = [row["loss"] for row in log_of(tmp_path / "one")]
    assert losses[1] < losses[0], "it learns"
    stems = [layer for layer in layers_of(tmp_path / "one") if layer["role"] == "stem"]
    assert stems
    assert all(layer["distance"] > 0 for layer in stems)


def test_upper_blocks_are_chosen_where_there_is_time(data, folder, tmp_path):
    asked = replace(config_of(folder, tmp_path / "cache", "auto"), auto=AutoConfig(least_samples=1))
    audit(data, tmp_path / "run", asked)
    settings = settings_of(tmp_path / "run")
    assert (settings["tune"], settings["cut"]) == ("top", CUT)


def test_a_network_of_texts_cannot_be_diagnosed_and_that_is_said(top):
    with pytest.raises(RunError, match="reads texts, and those of images alone"):
        diagnose(top)


def test_texts_are_kept_as_far_as_the_space_for_activations_goes(data, folder, tmp_path):
    config = config_of(folder, tmp_path / "cache", cache_bytes=76 * 16 * 2 * 17)
    audit(data, tmp_path / "run", config)
    told = [one.text for one in read_report_table(tmp_path / "run").run.assumptions]
    assert any("longer than the 17 tokens" in text for text in told)


def test_word_vectors_are_no_network_to_train(data, tmp_path):
    config = AuditConfig(backbone=BackboneConfig(device="cpu"), tune="top", cache=tmp_path)
    with pytest.raises(BackboneError, match="word vectors, the default for texts") as caught:
        audit(data, tmp_path / "run", config)
    assert 'backbone="minilm"' in caught.value.hint


def test_an_encoder_without_blocks_is_refused_before_it_is_trained(data, folder, tmp_path):
    place = write_bert(tmp_path / "albert")
    encoder_of("AlbertModel", embedding_size=16).save_pretrained(place, safe_serialization=True)
    with pytest.raises(BackboneError, match="is not made of blocks"):
        audit(data, tmp_path / "run", config_of(place, tmp_path))


def test_a_missing_extra_is_named_with_its_command(data, tmp_path, monkeypatch):
    monkeypatch.setattr("labelfix.modalities.text.transformer.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match="needs transformers") as caught:
        audit(data, tmp_path / "run", config_of(Path("minilm"), tmp_path))
    assert caught.value.hint == "pip install 'labelfix[text]'"
