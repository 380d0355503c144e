"""What is trained is chosen by time, told, and kept by a run that is gone on with."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
from safetensors.torch import save_file

import labelfix
from labelfix.config import AuditConfig, AutoConfig, BackboneConfig, DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import ConfigError
from labelfix.modalities.base import get_modality
from labelfix.pipeline.tune_choice import (
    TuningPlan,
    _seconds_of_comparing,
    choose_tuning,
    estimate_of,
    most_thorough,
    timed_plans,
)
from labelfix.utils.progress import no_progress
from labelfix.utils.text import about, seconds_of

HEAD = TuningPlan("head", None, 40.0)
TOP = TuningPlan("top", "blocks.4", 420.0)
FULL = TuningPlan("full", None, 10_800.0)
PLANS = [HEAD, TOP, FULL]


@pytest.mark.parametrize(
    ("limit", "chosen"), [(10, HEAD), (40, HEAD), (419, HEAD), (420, TOP), (600, TOP), (1e6, FULL)]
)
def test_the_most_thorough_that_fits_is_taken_and_heads_if_none_does(limit, chosen):
    assert most_thorough(PLANS, limit) == chosen


def test_the_estimate_says_what_more_time_would_buy():
    told = estimate_of(HEAD, PLANS)
    assert told.startswith("heads on frozen features (head) are trained, in about 40 seconds; ")
    assert 'tune="top" would take about 7 minutes' in told
    assert told.endswith('tune="full" would take about 3 hours')
    told = estimate_of(TOP, PLANS)
    assert told.startswith("the upper stages of networks (top, from blocks.4 on) are trained")
    assert 'tune="head" would take about 40 seconds' in told


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2h", 7200), (" 1H ", 3600), (12.5, 12.5)],
)
def test_durations_are_read(text, seconds):
    assert seconds_of(text, "time") == seconds


@pytest.mark.parametrize("text", ["", "10", "m10", "-5m", "1h 5", "0s", float("nan"), -1.0])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError, match="no length of time"):
        seconds_of(text, "time")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (3, "about 10 seconds"),
        (89, "about 90 seconds"),
        (420, "about 7 minutes"),
        (9000, "about 2 hours"),
    ],
)
def test_times_are_told_in_words(seconds, told):
    assert about(seconds) == told


@pytest.fixture(scope="module")
def dataset(small_data):
    return open_dataset(small_data, DatasetConfig(), no_progress)


SMALL = AuditConfig(
    backbone=BackboneConfig(image_size=32, device="cpu"), auto=AutoConfig(least_samples=1)
)


def test_real_batches_price_every_way_to_train(dataset):
    plans, fault = timed_plans(dataset, get_modality("image"), SMALL)
    assert fault == ""
    assert [plan.tune for plan in plans] == ["head", "top", "full"]
    assert plans[1].cut == "blocks.4"
    assert all(np.isfinite(plan.seconds) and plan.seconds > 0 for plan in plans)


def test_any_time_is_enough_for_upper_stages_and_none_for_more_than_heads(dataset):
    for limit, tune in ((1e9, "top"), (1e-6, "head")):
        config = replace(SMALL, auto=replace(SMALL.auto, time_limit=limit))
        choice = choose_tuning(dataset, get_modality("image"), config, None, no_progress)
        assert choice.config.tune == tune
        assert choice.kept["tune"] == tune
        assert tune in choice.assumption.text
        assert "about" in choice.estimate.text


def test_what_an_unfinished_run_chose_is_kept_without_timing(dataset):
    kept = {"tune": "top", "cut": "blocks.5"}
    choice = choose_tuning(dataset, get_modality("image"), SMALL, kept, no_progress)
    assert (choice.config.tune, choice.config.top.cut) == ("top", "blocks.5")
    assert choice.kept == kept


def test_few_samples_are_left_to_heads_and_asked_time_says_so(dataset):
    few = replace(SMALL, auto=AutoConfig())
    choice = choose_tuning(dataset, get_modality("image"), few, None, no_progress)
    assert (choice.config.tune, choice.assumption) == ("head", None)
    asked = replace(few, auto=AutoConfig(time_limit=600.0))
    choice = choose_tuning(dataset, get_modality("image"), asked, None, no_progress)
    assert "fewer than 400" in choice.assumption.text


def test_an_audit_tells_what_it_chose_in_run_json_and_report(small_data, tmp_path):
    settings = tmp_path / "settings.toml"
    settings.write_text("[auto]\nleast_samples = 1\n")
    result = labelfix.audit(
        small_data, tmp_path / "run", config=settings, time=0.001, device="cpu", image_size=32
    )
    assert result.report.run.settings["tune"] == "head"
    told = [one for one in result.report.run.assumptions if one.topic == "tune"]
    assert len(told) == 1
    assert "about" not in told[0].text  # the report must not depend on how long it took
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    lines = [one["text"] for one in run["assumptions"] if one["topic"] == "tune"]
    assert len(lines) == 1
    assert "would take" in lines[0]
    assert run["config"]["tune"] == "head"


def test_a_network_without_known_stages_leaves_heads_and_says_why(dataset, tmp_path):
    weights = tmp_path / "pit.safetensors"
    save_file(
        timm.create_model("pit_ti_224", pretrained=False, num_classes=0).state_dict(), weights
    )
    backbone = BackboneConfig(name="pit_ti_224", weights=weights, device="cpu")
    config = replace(SMALL, backbone=backbone)
    choice = choose_tuning(dataset, get_modality("image"), config, None, no_progress)
    assert choice.config.tune == "head"
    assert "cannot be: timm does not say which parameters" in choice.assumption.text


def test_the_forecast_of_comparing_grows_from_one_search_to_the_other():
    one = 1e-11
    few, many, more = (_seconds_of_comparing(count, one) for count in (16_384, 16_385, 200_000))
    assert few == pytest.approx(16_384**2 * 256 * one)
    assert 0 < many < more
    assert more / many > 200_000 / 16_385  # more than linear, less than the square
    assert more / many < (200_000 / 16_385) ** 2
