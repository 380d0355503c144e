"""Files of settings: TOML, and the record of a run."""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from command import labelfix as command
from given_probs import noisy, write
from hypothesis import given, settings
from hypothesis import strategies as st

import labelfix
from labelfix.config import (
    AuditConfig,
    BackboneConfig,
    FineTuningConfig,
    HeadConfig,
    RegularizationConfig,
    ScoringConfig,
    SelfLabelingConfig,
)
from labelfix.config.file import config_of, overridden, read_settings
from labelfix.errors import ConfigError
from labelfix.utils.text import as_json


def config_in(path, text):
    path.write_text(text, encoding="utf-8")
    return config_of(read_settings(path))


def faults_of(path, text):
    with pytest.raises(ConfigError) as raised:
        config_in(path, text)
    assert str(raised.value).startswith(str(path))
    return f"{raised.value} | {raised.value.hint}"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "settings.toml"


def test_settings_of_a_file_are_taken_and_others_keep_their_defaults(file):
    text = """
    seed = 3
    cache = "/tmp/cache"
    self_labeling = "paper"
    [heads]
    radii = [1, 2.5]
    neighbor_share = 0
    [scoring]
    hypotheses = 2
    log_temperature_range = [-1, 1]
    [regularization]
    distance = inf
    """
    assert config_in(file, text) == AuditConfig(
        seed=3,
        cache=Path("/tmp/cache"),
        self_labeling=SelfLabelingConfig.paper(),
        heads=HeadConfig(radii=(1.0, 2.5), neighbor_share=0.0),
        scoring=ScoringConfig(hypotheses=2, log_temperature_range=(-1.0, 1.0)),
        regularization=RegularizationConfig(distance=float("inf")),
    )
    assert config_in(file, "") == AuditConfig()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**63 - 1),
    share=st.floats(0, 1),
    distance=st.sampled_from([0.0, 0.3, float("inf")]),
    weights=st.sampled_from([None, Path("/weights/a.safetensors")]),
    half=st.sampled_from([None, True, False]),
)
def test_the_record_of_a_run_comes_back_as_it_was(
    tmp_path_factory, seed, share, distance, weights, half
):
    config = AuditConfig(
        seed=seed,
        tune="full",
        heads=HeadConfig(neighbor_share=share, self_label_temperature=float("inf")),
        regularization=RegularizationConfig(distance=distance),
        backbone=BackboneConfig(weights=weights),
        fine_tuning=FineTuningConfig(half_precision=half),
        self_labeling=SelfLabelingConfig.named("off"),
    )
    record = tmp_path_factory.mktemp("run") / "anything"
    record.write_text(json.dumps({"samples": 3, "config": as_json(asdict(config))}))
    assert config_of(read_settings(record)) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[heads]\nepoch = 3", "no setting heads.epoch | did you mean heads.epochs?"),
        ("[head]\nepochs = 3", "no setting head | did you mean heads?"),
        ("[scoring]\nneighbor_share = 0", "did you mean heads.neighbor_share?"),
        ("train_batch_size = 3", "did you mean fine_tuning.batch_size?"),
        ("epochs = 3", "did you mean heads.epochs, fine_tuning.epochs or top.epochs?"),
        ("quux = 3", "no setting quux | docs/options.md lists all settings"),
        ("heads = 3", "heads is 3, which is not a section | begin with [heads]"),
        ("seed = 'a'", "seed is 'a', which is no whole number"),
        ("seed = -1", "seed -1 is out of range"),
        ("seed = 2020-01-01", "which is no whole number"),
        ("tune = 'heads'", "tune is 'heads', and there is no such choice"),
        ("self_labeling = 'none'", "self_labeling is 'none', and there is no such choice"),
        ("[heads]\nepochs = 1.5", "heads.epochs is 1.5, which is no whole number"),
        ("[heads]\nradii = 3", "heads.radii is 3, which is no list"),
        ("[heads]\nradii = ['a']", "heads.radii is 'a', which is no number"),
        ("[heads]\nepochs = 0", "[heads] epochs is 0, which is below 1"),
        ("[heads]\nneighbor_share = nan", "neighbor_share is nan, which is not between 0 and 1"),
        ("[scoring]\nlog_temperature_range = [3, 1]", "from 3 to 1 is not a range"),
        ("[scoring]\nhypotheses = 0", "hypotheses is 0, which is not between 1 and 6"),
        ("[dataset]\noutside_files = 1", "dataset.outside_files is 1, which is neither true nor"),
        ("[heads", "is not TOML"),
        ("{", "is not JSON"),
        ("{}", "has no settings under config"),
        ('{"config": [1]}', "has no settings under config"),
        ('{"a":' + "[" * 100_000, "is not JSON"),
    ],
)
def test_what_cannot_be_used_is_named(file, text, said):
    assert said in faults_of(file, text)


def test_all_faults_are_told_at_once(file):
    text = """
    sede = 3
    tune = "none"
    seed = -1
    [heads]
    epochs = 0
    batch_size = 0
    radii = "wide"
    [regularization]
    form = "penalty"
    schedule = "code"
    distance = -1
    gamma = 0
    [flags]
    precision = 0.9
    budget = 3
    """
    told = faults_of(file, text)
    for said in (
        "has 9 settings that cannot be used",
        "no setting sede (did you mean seed?)",
        "tune is 'none'",
        "seed -1",
        "[heads] epochs is 0",
        "[heads] batch_size is 0",
        "heads.radii is 'wide'",
        "a distance of -1.0",
        "gamma is 0.0",
        "cannot be used together",
    ):
        assert said in told, said


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["epochs", "radii", "budget", "precision", "hypotheses", "y"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
names = st.sampled_from(
    ["seed", "tune", "heads", "flags", "scoring", "cache", "x", "self_labeling"]
)


@settings(max_examples=150)
@given(st.dictionaries(names, anything, max_size=4))
def test_no_content_makes_the_reader_crash(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "run.json"
    path.write_text(json.dumps({"config": content}))
    with suppress(ConfigError):
        assert isinstance(config_of(read_settings(path)), AuditConfig)


def test_what_is_no_file_of_settings_is_said(tmp_path, file):
    for path, said in ((tmp_path, "is not a file"), (tmp_path / "absent", "is not there")):
        with pytest.raises(ConfigError, match=said):
            read_settings(path)
    file.write_bytes(b"seed = \xff")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        read_settings(file)


def test_changes_leave_the_rest_of_a_section_alone():
    before = {"seed": 1, "heads": {"folds": 4, "epochs": 3}}
    after = overridden(before, {"heads": {"folds": 5}, "flags": {"budget": 1}})
    assert after == {"seed": 1, "heads": {"folds": 5, "epochs": 3}, "flags": {"budget": 1}}
    assert before["heads"] == {"folds": 4, "epochs": 3}


def test_the_command_line_wins_over_the_file(small_data, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(
        "seed = 7\ntune = 'head'\n[heads]\nfolds = 4\nepochs = 1\nleast_steps = 1\n"
        "radii = [5]\n[flags]\nprecision = 0.5\n[issues]\ndark = 0.1\nblurry = 0.2\n"
    )
    done = command(
        "audit", str(small_data), "--out", str(tmp_path / "run"), "--config", str(file),
        "--folds", "3", "--budget", "4", "--issue-threshold", "dark=0", "--device", "cpu",
        "--cache", str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = tmp_path / "run" / "run.json"
    told = json.loads(record.read_text())["config"]
    assert (told["seed"], told["heads"]["folds"], told["heads"]["epochs"]) == (7, 3, 1)
    assert (told["flags"]["precision"], told["flags"]["budget"]) == (None, 4)
    assert (told["issues"]["dark"], told["issues"]["blurry"]) == (0, 0.2)

    again = labelfix.audit(small_data, tmp_path / "again", config=record)
    assert json.loads((tmp_path / "again" / "run.json").read_text())["config"] == told
    one, two = (tmp_path / name / "report.parquet" for name in ("run", "again"))
    assert one.read_bytes() == two.read_bytes()
    before = one.stat().st_mtime_ns
    resumed = labelfix.audit(small_data, tmp_path / "run", config=record, resume=True)
    assert resumed.report.run == again.report.run
    assert one.stat().st_mtime_ns == before


def test_probabilities_take_settings_of_scoring_and_flags(tmp_path):
    write(tmp_path / "p.csv", noisy(count=60))
    file = tmp_path / "settings.toml"
    file.write_text("[scoring]\nhypotheses = 1\n[flags]\nbudget = 3\n")
    run = labelfix.audit_pred_probs(tmp_path / "p.csv", tmp_path / "run", config=file)
    assert run.report.run.settings["scoring"] == {"hypotheses": 1}
    assert np.count_nonzero(run.report.table["is_label_issue"].to_numpy()) <= 3
    record = tmp_path / "run" / "run.json"
    labelfix.audit_pred_probs(tmp_path / "p.csv", tmp_path / "again", config=record)
    one, two = (tmp_path / name / "report.parquet" for name in ("run", "again"))
    assert one.read_bytes() == two.read_bytes()
    file.write_text("seed = 3\n[heads]\nepochs = 3\n")
    with pytest.raises(ConfigError, match=r"seed has no use here .* heads has no use here"):
        labelfix.audit_pred_probs(tmp_path / "p.csv", tmp_path / "other", config=file)
    assert not (tmp_path / "other").exists()


def test_the_command_names_settings_as_the_file_spells_them(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[fine_tuning]\nbatch_size = 'a'\n")
    done = command("audit", "absent", "--out", str(tmp_path / "run"), "--config", str(file))
    assert done.returncode == 1
    assert "fine_tuning.batch_size is 'a', which is no whole number" in done.stderr
