"""One process of several that train together and watch: ``evidence_worker.py KIND FOLDER``."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from labelfix.errors import ConfigError
from labelfix.integrations.evidence import TrainingWatch

SAMPLES, EPOCHS, BATCH = 60, 3, 10


def data() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    true = np.arange(SAMPLES) % 3
    given = np.where(rng.random(SAMPLES) < 0.1, (true + 1) % 3, true)
    values = rng.normal(0, 1, (SAMPLES, 6)) + 3 * np.eye(3, 6)[true]
    return torch.tensor(values, dtype=torch.float32), torch.tensor(given)


class Network(nn.Module):
    """A linear network with the interface that Hugging Face's trainer expects."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 3)

    def forward(self, pixels, labels=None):
        logits = self.layer(pixels)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def loop(folder: Path, rank: int, size: int) -> TrainingWatch:
    """A loop of one's own: each step takes a batch, of which each process takes its share."""
    values, given = data()
    model: nn.Module = Network()
    if size > 1:
        dist.init_process_group("gloo")
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watched = TrainingWatch(given)
    for epoch in range(EPOCHS):
        for batch in torch.arange(SAMPLES).split(BATCH):
            rows = batch[rank::size]
            out = model(values[rows], given[rows])
            watched.observe(rows, out["logits"])
            optimizer.zero_grad()
            out["loss"].backward()
            optimizer.step()
        if epoch == 0:  # as if from a checkpoint
            state = watched.state()
            watched = TrainingWatch(given)
            watched.go_on_from(state)
    if size > 1:
        with pytest.raises(ConfigError, match="its own samples only, as one of 2"):
            watched.label_issues()
    watched.gather()
    return watched


def by_transformers(folder: Path, rank: int, size: int) -> TrainingWatch:
    """Hugging Face's trainer, which joins the processes itself."""
    from transformers import Trainer, TrainingArguments

    from labelfix.integrations.transformers import watch

    values, given = data()
    trainer = Trainer(
        model=Network(),
        args=TrainingArguments(
            output_dir=str(folder / "trainer"), num_train_epochs=EPOCHS, use_cpu=True,
            per_device_train_batch_size=BATCH // size, report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, ddp_backend="gloo" if size > 1 else None,
        ),
        train_dataset=[
            {"pixels": one, "labels": int(two)} for one, two in zip(values, given, strict=True)
        ],
    )  # fmt: skip
    watched = watch(trainer)
    trainer.train()
    return watched


def by_lightning(folder: Path, rank: int, size: int) -> TrainingWatch:
    """Lightning with its strategy for processes that somebody else started."""
    import lightning

    from labelfix.integrations.lightning import LabelEvidence

    values, given = data()
    rows = torch.arange(SAMPLES)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = Network()

        def training_step(self, batch, batch_idx):
            pixels, labels, rows = batch
            return {**self.network(pixels, labels), "rows": rows}

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    evidence = LabelEvidence(given)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, callbacks=[evidence], accelerator="cpu", devices=size, logger=False,
        strategy="ddp" if size > 1 else "auto", enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=folder,
    )  # fmt: skip
    dataset = torch.utils.data.TensorDataset(values, given, rows)
    trainer.fit(Module(), torch.utils.data.DataLoader(dataset, BATCH // size, shuffle=True))
    return evidence._watched


KINDS = {"loop": loop, "transformers": by_transformers, "lightning": by_lightning}


def main(kind: str, folder: Path, rank: int, size: int) -> None:
    watched = KINDS[kind](folder, rank, size)
    seen = watched.recorder.result()
    issues = watched.label_issues()
    np.savez(
        folder / f"{kind}-{rank}-of-{size}.npz",
        updates=seen.num_updates,
        probs=seen.mean_probs,
        wrong=issues.label_error_probability,
    )


if __name__ == "__main__":
    import os

    world = int(os.environ.get("WORLD_SIZE", "1"))
    main(sys.argv[1], Path(sys.argv[2]), int(os.environ.get("RANK", "0")), world)
    if dist.is_initialized():
        dist.destroy_process_group()
