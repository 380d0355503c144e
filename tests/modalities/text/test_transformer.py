"""``labelfix.modalities.text.transformer`` with a tiny BERT of random weights."""

import numpy as np
import pytest
from command import labelfix
from tiny_encoders import write_bert
from written_texts import sentences, write_table

from labelfix.config import BackboneConfig
from labelfix.errors import BackboneError
from labelfix.modalities.text.transformer import load_transformer
from labelfix.report.frame import read_report

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a BERT of 3 layers and 16 features, which reads 24 tokens."""
    return write_bert(tmp_path_factory.mktemp("bert"))


def test_features_do_not_depend_on_the_other_texts(folder):
    encoder = load_transformer(BackboneConfig(name=str(folder), device="cpu", batch_size=3))
    assert (encoder.depths, encoder.length, encoder.width) == ((1, 2, 3), 24, 48)
    texts = ["refund money", "the flight to a city was long and late", "hotel", "bank fee " * 40]
    together, is_cut = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text])[0] for text in texts])
    assert together == pytest.approx(alone, abs=2e-3)
    assert is_cut.tolist() == [False, False, False, True]


def test_two_texts_are_told_apart(folder):
    encoder = load_transformer(BackboneConfig(name=str(folder), device="cpu"))
    pair, joined = encoder.encode(["refund\x1ehotel"])[0], encoder.encode(["refund hotel"])[0]
    assert np.abs(pair - joined).max() > 0.01


def test_an_audit_takes_the_encoder_of_a_folder_and_keeps_its_features(folder, tmp_path):
    texts, labels = sentences(40)
    texts[5] = "flight hotel " * 40
    data = write_table(tmp_path / "a.csv", {"text": texts, "label": labels})
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        done = labelfix(
            "audit", data, "--out", run, "--cache", tmp_path / "cache", "--backbone", folder,
            "--device", "cpu",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        shown = labelfix("show", run, "--top", "1").stdout
        assert "1 text is longer than the 24 tokens" in shown
    assert read_report(runs[0]).equals(read_report(runs[1]))


def test_an_encoder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"no weights")
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_transformer(BackboneConfig(name=str(tmp_path), device="cpu"))


def test_an_extra_that_is_not_installed_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr("labelfix.modalities.text.transformer.find_spec", lambda name: None)
    with pytest.raises(BackboneError) as caught:
        load_transformer(BackboneConfig(name="minilm", device="cpu"))
    assert "transformers" in str(caught.value)
    assert caught.value.hint == "pip install 'labelfix[text]'"
