"""A budget of memory: it changes where arrays lie, never a byte of a report, or it is refused.

Letters: N samples, D features, K classes.
"""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from whole_networks import config_of, write_weights

from labelfix import audit_pred_probs
from labelfix.config import AuditConfig, BackboneConfig, DatasetConfig, HeadConfig, ScoringConfig
from labelfix.config.sizes import told_bytes
from labelfix.data.dataset import open_dataset
from labelfix.engines.plan import open_engine
from labelfix.errors import ConfigError
from labelfix.modalities.base import get_modality
from labelfix.pipeline.budget import MemoryBudget
from labelfix.pipeline.samples import AuditContext, audit, find_by_heads
from labelfix.pipeline.tune_choice import TuneChoice
from labelfix.report.io import read_report_table, write_report
from labelfix.training.network_memory import NetworkMemory
from labelfix.utils.memory import anonymous_bytes
from labelfix.utils.progress import StageTimer, no_progress
from labelfix.utils.scratch import large_arrays_in

FEW = AuditConfig(tune="head", backbone=BackboneConfig(device="cpu"))
MANY = AuditConfig(
    tune="head",
    backbone=BackboneConfig(device="cpu"),
    heads=HeadConfig(trained_classes=2),
    scoring=ScoringConfig(dense_classes=2),
)
"""K = 4 counts as many classes."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a manifest of 160 samples of 4 classes, one of another, and their features."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    label = np.arange(160) % 4
    values = rng.normal(0, 1, (160, 12)) + 6 * np.eye(12)[label]
    values[9, 2] = np.nan
    label[[5, 31]] = [2, 0]
    named = [f"c{code}" for code in label.tolist()]
    named[70] = "rare"
    np.save(folder / "features.npy", values.astype(np.float16))
    pa.csv.write_csv(pa.table({"label": named}), folder / "data.csv")
    column = pa.array(list(values.astype(np.float16).astype(np.float32)))
    table = pa.table({"label": named, "vector": column})
    pq.write_table(table, folder / "data.parquet", row_group_size=50)
    return folder


def report_bytes(source, config, folder, budget):
    """Return the bytes of the report of an audit whose large arrays lie in files."""
    folder.mkdir()
    with large_arrays_in(folder, budget):
        dataset = open_dataset(source, config.dataset)
        context = AuditContext(
            dataset,
            get_modality("embedding"),
            None,
            config,
            StageTimer(),
            no_progress,
            lambda digests: None,
            TuneChoice(config, {}),
            open_engine(config.engine, on_gpu=False, on_progress=no_progress),
            MemoryBudget(budget, 1 << 50, is_asked=False),
        )
        findings = find_by_heads(context)
        path = folder / "report.parquet"
        write_report(findings.report, path, findings.pred_probs)
    assert (findings.pred_probs is None) == (budget > 0)
    return path.read_bytes()


@pytest.mark.parametrize("config", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_arrays_in_files_give_the_report_that_arrays_in_memory_give(data, tmp_path, config, form):
    source = data / ("data.csv" if form == "npy" else "data.parquet")
    features = data / "features.npy" if form == "npy" else None
    config = AuditConfig(
        tune="head",
        backbone=config.backbone,
        heads=config.heads,
        scoring=config.scoring,
        dataset=DatasetConfig(features=features),
    )
    in_files = report_bytes(source, config, tmp_path / "files", 0)
    assert in_files == report_bytes(source, config, tmp_path / "memory", 1 << 40)
    table = read_report_table(tmp_path / "files" / "report.parquet").table
    assert table["pred_probs"].null_count == 2
    wrong = table["label_error_probability"].to_pylist()
    assert wrong[31] > 0.5 > wrong[6]
    left = {path.name for path in (tmp_path / "files").iterdir()}
    assert left == {"report.parquet", "noise_matrix.parquet"}


def test_the_budget_is_told_and_is_no_part_of_the_claim(data, tmp_path):
    dataset = DatasetConfig(features=data / "features.npy")
    first = AuditConfig(tune="head", backbone=FEW.backbone, dataset=dataset, memory="64GiB")
    audit(data / "data.csv", tmp_path / "run", first)
    told = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert told["memory"]["bytes"] == 64 << 30
    assert told["memory"]["asked"]
    again = AuditConfig(tune="head", backbone=FEW.backbone, dataset=dataset)
    before = (tmp_path / "run" / "report.parquet").stat().st_mtime_ns
    audit(data / "data.csv", tmp_path / "run", again, resume=True)
    assert (tmp_path / "run" / "report.parquet").stat().st_mtime_ns == before


def test_what_cannot_fit_is_refused_before_the_work(data, tmp_path):
    config = AuditConfig(
        tune="head",
        backbone=FEW.backbone,
        dataset=DatasetConfig(features=data / "features.npy"),
        memory="50MiB",
    )
    with pytest.raises(ConfigError, match=r"about .*iB of memory are needed for 160 samples"):
        audit(data / "data.csv", tmp_path / "run", config)
    assert not (tmp_path / "run" / "report.parquet").exists()


def test_given_probabilities_obey_a_budget_too(tmp_path):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet([0.3] * 3, 90).astype(np.float32)
    np.savez(tmp_path / "probs.npz", pred_probs=probs, labels=probs.argmax(axis=1))
    audit_pred_probs(tmp_path / "probs.npz", tmp_path / "run", memory="64GiB")
    told = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert told["memory"]["bytes"] == 64 << 30
    with pytest.raises(ConfigError, match="memory are needed for 90 samples"):
        audit_pred_probs(tmp_path / "probs.npz", tmp_path / "other", memory="10MiB")


def test_the_forecast_grows_with_the_data_and_names_the_limit():
    least = (1 << 30) + anonymous_bytes()  # what tests before this one hold is none of the audit's
    large, small = (MemoryBudget(size, 1 << 50, is_asked=True) for size in (1 << 40, least))
    large.refuse_heads(1_281_167, 1792, 1000, AuditConfig())
    with pytest.raises(ConfigError, match=f"1,281,167 samples.*{told_bytes(least)}"):
        small.refuse_heads(1_281_167, 1792, 1000, AuditConfig())
    small.refuse_scoring(10_000_000, 100)
    MemoryBudget(12 << 30, 1 << 50, is_asked=True).refuse_scoring(100_000_000, 10)
    with pytest.raises(ConfigError, match="memory that is available"):
        MemoryBudget(1 << 30, 2 << 30, is_asked=False).refuse_scoring(100_000_000, 10)


def test_as_many_networks_train_at_once_as_fit():
    memory = NetworkMemory(
        weights=1 << 20, trained=1 << 20, kept=64 << 20, input=1 << 10, batch_size=32, gradients=1,
        pretrained=1 << 20,
    )  # fmt: skip
    one = 32 * (64 << 20)
    for more, networks in ((1.5, 1), (2.5, 2), (9, 3)):
        budget = MemoryBudget(int(anonymous_bytes() + more * one), 1 << 50, is_asked=True)
        assert budget.networks_at_once(1000, 10, memory, 3) == networks
    budget = MemoryBudget(anonymous_bytes() + one, 1 << 50, is_asked=True)
    with pytest.raises(ConfigError, match=r"a network .* of 32, and memory is") as told:
        budget.networks_at_once(1000, 10, memory, 3)
    assert "a smaller train_batch_size" in told.value.hint
    assert budget.networks_at_once(1000, 10, None, 3) == 3  # on a GPU, whose memory is another
    with pytest.raises(ConfigError, match="needed for 100,000,000 samples"):
        budget.networks_at_once(100_000_000, 10, None, 3)


def test_networks_that_cannot_fit_are_refused_before_samples_are_looked_at(small_data, tmp_path):
    write_weights(tmp_path)
    config = replace(config_of(tmp_path, tmp_path / "cache"), memory="20MiB")
    with pytest.raises(ConfigError, match="of memory are needed for"):
        audit(small_data, tmp_path / "run", config)
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run").exists()
