"""What callers give is checked before any work, in the words of the command line."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from command import labelfix as command
from given_probs import noisy, write
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import labelfix
from labelfix.arguments import expand_path, spelled_as_options
from labelfix.config import AuditConfig, BackboneConfig, FlagConfig
from labelfix.errors import ConfigError, LabelfixError
from labelfix.pipeline.probabilities import audit_pred_probs

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=10),
    st.binary(max_size=5),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=5) | st.integers(), st.floats() | st.text(max_size=3)),
    st.sampled_from(
        ["full", "head", "auto", "cuda:0", "cuda:99", "cuda:", "cpu", "mps", "off", "paper", "."]
    ),
    st.sampled_from(
        [np.int64(3), np.float32(0.5), np.array([1, 2]), np.array(1), np.bool_(True), np.nan, 1j]
    ),
    st.sampled_from([object(), int, Path("a"), Path("x" * 5000), Fraction(1, 3), 10**400, {1}]),
)
AUDIT = [
    "data", "out", "backbone", "weights", "pretrained", "image_size", "device", "tune", "folds",
    "epochs", "learning_rate", "train_batch_size", "max_weight_change", "self_labeling", "seed",
    "cache", "image_column", "label_column", "id_column", "split_column", "precision", "budget",
    "issue_threshold", "overwrite", "resume", "halve_learning_rate", "decisions", "on_progress",
    "progress", "test_split", "label_missing", "outside_files", "max_pixels", "value_range",
    "config", "time",
]  # fmt: skip


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A folder to work in, so that no relative path can be the data of an audit."""
    folder = tmp_path_factory.mktemp("empty")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@given(name=st.sampled_from(AUDIT), value=ANYTHING)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@example(name="issue_threshold", value={1: 0.5, "a": 0.5})
@example(name="issue_threshold", value={"dark": True})
@example(name="out", value="a\0b")
@example(name="out", value="\ud800")
@example(name="seed", value=2**64)
@example(name="data", value=Path("\0"))
def test_no_argument_of_an_audit_makes_it_crash(empty, name, value):
    arguments = {"data": empty / "absent", "out": empty / "run", "device": "cpu", name: value}
    with pytest.raises(LabelfixError):
        labelfix.audit(**arguments)
    assert list(empty.iterdir()) == []


@given(
    call=st.sampled_from(["probs", "export", "read"]),
    name=st.sampled_from(
        ["pred_probs", "out", "precision", "budget", "overwrite", "decisions", "run", "to",
         "min_probability", "drop", "link", "format", "path", "on_progress", "resume"]
    ),
    value=ANYTHING,
)  # fmt: skip
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@example(call="probs", name="pred_probs", value=[])
@example(call="probs", name="pred_probs", value=["a", 3])
@example(call="export", name="min_probability", value=np.nan)
def test_no_argument_of_the_others_makes_them_crash(empty, call, name, value):
    function, arguments = {
        "probs": (
            labelfix.audit_pred_probs,
            {"pred_probs": "absent.csv", "out": "run", "precision": None, "budget": None,
             "overwrite": False, "resume": False, "decisions": None, "on_progress": print},
        ),
        "export": (
            labelfix.export,
            {"run": "absent", "to": "to.csv", "min_probability": 0.9, "drop": False, "link": False,
             "format": None, "overwrite": False, "on_progress": print},
        ),
        "read": (labelfix.read_report, {"path": "absent"}),
    }[call]  # fmt: skip
    if name not in arguments:
        return
    with pytest.raises(LabelfixError):
        function(**{**arguments, name: value})
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("device", "gpu", "there is no device 'gpu'"),
        ("device", 0, "device is 0, which is no text"),
        ("tune", "heads", "tune is 'heads', and there is no such choice"),
        ("budget", 0.1, "budget is 0.1, which is no whole number"),
        ("budget", True, "budget is True, which is no whole number"),
        ("budget", -1, "budget -1 is below 0"),
        ("seed", -1, "seed -1 is out of range"),
        ("image_size", "64", "image_size is '64', which is no whole number"),
        ("image_size", 3, "image_size 3 is out of range"),
        ("folds", 1, "folds 1 is too few"),
        ("precision", 2, "precision 2.0 is not between 0 and 1"),
        ("precision", float("nan"), "precision nan is not between 0 and 1"),
        ("epochs", 0, "0 epochs"),
        ("learning_rate", float("inf"), "learning rate inf"),
        ("train_batch_size", "64", "train_batch_size is '64'"),
        ("overwrite", 1, "overwrite is 1, which is neither true nor false"),
        ("label_column", ["a"], "label_column is ['a'], which is no text"),
        ("issue_threshold", {"fog": 0.5}, "no kind of issue of images is called 'fog'"),
        ("issue_threshold", {"dark": "0.5"}, "issue_threshold of 'dark' is '0.5'"),
        ("issue_threshold", [0.5], "issue_threshold is [0.5], which is no mapping"),
        ("on_progress", 3, "on_progress is 3, which is nothing that can be called"),
        ("cache", "", "cache is empty"),
        ("data", "", "data is empty"),
        ("data", "  ", "data is empty"),
        ("data", None, "data is None, which is no data set"),
    ],
)
def test_what_is_wrong_is_named_as_python_spells_it(tmp_path, name, value, said):
    given_values = {"data": tmp_path / "absent", "out": tmp_path / "run", name: value}
    with pytest.raises(ConfigError) as raised:
        labelfix.audit(**given_values)
    assert said in str(raised.value)
    assert "--" not in f"{raised.value} {raised.value.hint}"


def test_the_command_line_says_the_same_in_its_own_spelling():
    for spelled, config in (("--budget", FlagConfig), ("budget", FlagConfig)):
        with spelled_as_options() if spelled == "--budget" else pytest.MonkeyPatch.context():
            with pytest.raises(ConfigError) as raised:
                config(budget=-1)
            assert str(raised.value) == f"{spelled} -1 is below 0"
    done = command("audit", "", "--out", "run")
    assert (done.returncode, "error: DATA is empty" in done.stderr) == (1, True)
    done = command("audit", "absent", "--out", "run", "--device", "gpu")
    assert (done.returncode, "there is no --device 'gpu'" in done.stderr) == (2, True)


def test_numbers_of_numpy_are_numbers():
    config = AuditConfig(seed=np.int64(3), flags=FlagConfig(precision=np.float32(0.5)))
    assert type(config.seed) is int
    assert type(config.flags.precision) is float
    assert BackboneConfig(image_size=np.uint8(64)).image_size == 64


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda:0", "cuda:7", "cuda"])
def test_a_device_that_is_not_there_is_named(tmp_path, device):
    with pytest.raises(LabelfixError, match="there is no cuda device here"):
        labelfix.audit(tmp_path / "absent", tmp_path / "run", device=device)


def test_the_evidence_recorder_says_what_it_takes():
    for wrong in ({"count": "3"}, {"classes": 1}, {"epochs": -1}, {"count": -1}):
        with pytest.raises(ConfigError):
            labelfix.EvidenceRecorder(**{"count": 3, "classes": 2, **wrong})
    recorder = labelfix.EvidenceRecorder(3, 2)
    for rows, logits in (([0], torch.zeros(1, 2)), (torch.zeros(1), torch.tensor(1.0))):
        with pytest.raises(ConfigError):
            recorder.update(rows, logits, torch.zeros(1, dtype=torch.int64))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, a variable, and an empty folder to work in."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLACE", str(tmp_path / "place"))
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_paths_are_understood_as_their_users_mean_them(home):
    for text, meant in (
        ("~", home / "home"),
        ("~/run", home / "home" / "run"),
        (Path("~/run"), home / "home" / "run"),
        ("$PLACE/run", home / "place" / "run"),
        ("${PLACE}/run", home / "place" / "run"),
        ("~/$PLACE", home / "home" / str(home / "place").lstrip("/")),
        ("a~b/~c", Path("a~b/~c")),
        ("cost$5/a$", Path("cost$5/a$")),
        (".", Path()),
    ):
        found = expand_path(text, "out")
        assert os.path.normpath(found) == os.path.normpath(meant), text
        assert expand_path(found, "out") == found, "once more changes nothing"


def test_what_exists_as_it_is_written_is_taken_so(home):
    for name in ("~", "$PLACE", "a$NOT_SET", "~nobody-at-all"):
        (home / "work" / name).write_text("")
        found = expand_path(name, "data")
        assert found.absolute() == home / "work" / name
        assert expand_path(found, "data") == found
    (home / "work" / "$NOT_SET").mkdir()
    assert expand_path("$NOT_SET/new", "out") == Path("$NOT_SET/new")


@pytest.mark.parametrize("text", ["$NOT_SET/a", "${NOT_SET}", "${}", "~nobody-at-all/a", "", " \t"])
def test_what_nobody_can_know_is_said(home, text):
    with pytest.raises(ConfigError, match="out is"):
        expand_path(text, "out")


def test_every_path_of_an_audit_is_expanded(home, monkeypatch):
    write(home / "home" / "probs.csv", noisy(count=30))
    run = audit_pred_probs("~/probs.csv", "$PLACE/run").run
    assert run == home / "place" / "run"
    labelfix.export("$PLACE/run", "~/out/labels.csv")
    assert (home / "home" / "out" / "labels.csv").is_file()
    labelfix.read_report("${PLACE}/run")
    for args in (
        ["audit", "--pred-probs", "~/probs.csv", "--out", "~/run", "--decisions", "$NOT_SET"],
        ["audit", "--pred-probs", "$NOT_SET", "--out", "~/run"],
        ["check", "~/place", "--fail-on", "label", "--junit", "$NOT_SET"],
    ):
        done = command(*args)
        assert (done.returncode, "'NOT_SET' is not set" in done.stderr) == (1, True), done.stderr
    done = command("show", "$PLACE/run", "--json")
    assert done.returncode == 0
    assert list((home / "work").iterdir()) == []
