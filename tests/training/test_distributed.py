"""Two processes with gloo on the CPU against one."""

import copy
import json
import os
import shutil
import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest
import timm
import torch
from fitted_pictures import fit_decided_pictures
from processes import two_processes
from safetensors.torch import save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import labelfix
from labelfix.errors import ConfigError
from labelfix.report.io import read_report_table
from labelfix.training.distributed import World, with_shared_norms
from labelfix.training.layers import group_layers

SCRIPT = """
import sys
from pathlib import Path
import torch
from labelfix.config import AuditConfig, BackboneConfig, FineTuningConfig, TopConfig
from labelfix.pipeline.samples import audit

data, run, weights, cache = map(Path, sys.argv[1:5])
config = AuditConfig(
    backbone=BackboneConfig(name="test_vit", weights=weights, image_size=32, device="cpu"),
    tune=sys.argv[5],
    fine_tuning=FineTuningConfig(folds=2, epochs=3, batch_size=16, learning_rate=1e-3),
    top=TopConfig(folds=2, epochs=3, least_steps=1, batch_size=16),
    cache=cache,
)
if len(sys.argv) > 6:
    def die(progress):
        import os
        if int(os.environ["RANK"]) == 1 and progress.stage.startswith("fine-tuning network 2"):
            os._exit(7)
    audit(data, run, config, on_progress=die)
else:
    audit(data, run, config, resume=True)
"""


FIT_PICTURES = """
import sys
from pathlib import Path
import numpy as np
import torch
from fitted_pictures import fit_decided_pictures
from labelfix.training.distributed import joined

with joined(torch.device("cpu")) as world:
    evidence = fit_decided_pictures(Path(sys.argv[1]), world).evidence
    parts = {name: getattr(evidence, name) for name in ("pred_probs", "margin", "self_label")}
    np.savez(f"{sys.argv[2]}-{world.rank}-of-{world.size}.npz", **parts)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False)
    save_file(model.state_dict(), folder / "vit.safetensors")
    (folder / "run_it.py").write_text(SCRIPT)
    return folder


def arguments_of(place, data, name, tune):
    return [data, place / name, place / "vit.safetensors", place / "cache", tune]


def run_by_torchrun(place, data, name, *more, tune="full"):
    """Run the script in two processes as users do; see `run_two`."""
    runner = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [*runner, place / "run_it.py", *arguments_of(place, data, name, tune), *more]
    command = [sys.executable, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def run_two(place, data, name, tune="full"):
    """Run the script in two processes without torchrun, which takes seconds to load."""
    with two_processes(place / "run_it.py", *arguments_of(place, data, name, tune)):
        pass


def test_two_processes_record_the_margins_and_labels_of_one(tmp_path):
    """With decided and dropped samples, corrected labels, and steps of unequal parts."""
    script = tmp_path / "fit.py"
    script.write_text(FIT_PICTURES)
    with two_processes(script, tmp_path / "two", tmp_path / "found"):
        one = fit_decided_pictures(tmp_path / "one", World()).evidence
    for rank in (0, 1):
        two = np.load(tmp_path / f"found-{rank}-of-2.npz")
        # gradients and margins are summed in another order: float32 rounding
        np.testing.assert_allclose(two["pred_probs"], one.pred_probs, atol=1e-5)
        np.testing.assert_allclose(two["margin"], one.margin, atol=1e-5)
        np.testing.assert_array_equal(two["self_label"], one.self_label)


@pytest.mark.parametrize(
    ("tune", "by_torchrun"),
    [("full", False), ("top", False), pytest.param("full", True, marks=pytest.mark.slow)],
)
def test_two_processes_give_the_evidence_of_one(place, small_data, tune, by_torchrun):
    alone, together = place / f"{tune}-one", place / f"{tune}-two"
    arguments = arguments_of(place, small_data, alone.name, tune)
    with patch.object(sys, "argv", ["run_it.py", *map(str, arguments)]):
        exec(compile(SCRIPT, "run_it.py", "exec"), {})
    if by_torchrun:
        shutil.rmtree(together, ignore_errors=True)
        done = run_by_torchrun(place, small_data, together.name)
        assert done.returncode == 0, done.stderr[-2000:]
    else:
        run_two(place, small_data, together.name, tune)
    one, two = (read_report_table(folder).table for folder in (alone, together))
    assert one["sample_id"].equals(two["sample_id"])
    assert one["fold"].equals(two["fold"])
    probs = [np.stack(table["pred_probs"].to_pylist()) for table in (one, two)]
    # gradients are summed in another order: float32 rounding, grown over 9 steps of Adam
    np.testing.assert_allclose(probs[0], probs[1], atol=2e-3)


def test_several_processes_for_heads_are_refused_by_each(small_data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(ConfigError, match="heads are trained by one") as raised:
            labelfix.audit(small_data, tmp_path / "run", tune="head", device="cpu")
        assert "without torchrun" in raised.value.hint
    assert not (tmp_path / "run").exists()


def test_a_process_that_dies_ends_the_others_and_the_run_goes_on(place, small_data):
    done = run_by_torchrun(place, small_data, "cut", "die")
    assert done.returncode != 0
    assert not (place / "cut" / "report.parquet").exists()
    assert (place / "cut" / "checkpoints" / "fold-0-of-2.pt").exists()
    run_two(place, small_data, "cut")
    log = (place / "cut" / "training_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [1, 2, 3, 1, 2, 3]
    two, cut = (read_report_table(place / name).table for name in ("full-two", "cut"))
    assert two["pred_probs"].equals(cut["pred_probs"])


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_norms_that_are_shared_by_gpus_compute_what_the_network_s_own_do(name):
    """On one process, where they need no GPU: activations stay, and so do tensors and names."""
    torch.manual_seed(0)
    own = timm.create_model(name, num_classes=3, pretrained=False)
    shared = with_shared_norms(copy.deepcopy(own))
    norms = [module for module in shared.modules() if isinstance(module, _BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    inputs = torch.rand(4, 3, 32, 32)
    for is_training in (True, False):
        expected, found = (model.train(is_training)(inputs) for model in (own, shared))
        assert torch.equal(found, expected)
    assert group_layers(shared) == group_layers(own)
    for (name, value), (shared_name, found) in zip(
        own.state_dict().items(), shared.state_dict().items(), strict=True
    ):
        assert name == shared_name
        assert torch.equal(found, value), name


def test_processes_without_gpus_keep_the_norms_of_the_network():
    model = timm.create_model("test_resnet", num_classes=3, pretrained=False)
    world = World(rank=0, size=2)
    assert world.share_norms(model, torch.device("cpu")) is model
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
