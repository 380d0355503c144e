"""Whole-network runs that are over in a second, for several tests."""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from labelfix.config import (
    AuditConfig,
    BackboneConfig,
    FineTuningConfig,
    RegularizationConfig,
    TopConfig,
    Tune,
)


class Killed(BaseException):
    """The end of a process, as a kill is one."""


def write_weights(folder: Path) -> Path:
    """Write weights of tiny networks, each called after its network; return the folder."""
    torch.manual_seed(0)
    for name in ("test_resnet", "test_vit"):
        model = timm.create_model(name, pretrained=False)
        save_file(model.state_dict(), folder / f"{name}.safetensors")
    return folder


def config_of(
    weights: Path | None,
    cache: Path,
    *,
    backbone: str = "test_resnet",
    form: Any = "projection",
    pretrained: bool = True,
    tune: Tune = "full",
    **changes: Any,
) -> AuditConfig:
    own = backbone.removesuffix("_in_little_memory").removesuffix("_with_drop_out")
    settings = {"folds": 2, "epochs": 3, "batch_size": 16, "learning_rate": 3e-3} | changes
    return AuditConfig(
        backbone=BackboneConfig(
            name=backbone,
            weights=weights and weights / f"{own}.safetensors",
            pretrained=pretrained,
            image_size=32,
            device="cpu",
        ),
        tune=tune,
        fine_tuning=FineTuningConfig(**settings),
        top=TopConfig(least_steps=1, **settings),
        regularization=RegularizationConfig(form=form),
        cache=cache,
    )


def settings_of(run: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((run / "run.json").read_text())["settings"]
    return settings


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "training_log.jsonl").read_text().splitlines()]
