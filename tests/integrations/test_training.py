"""Evidence of trainings by the real libraries: in-sample, and said to be."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from torch import nn

import labelfix
from labelfix.errors import LabelfixError
from labelfix.integrations.evidence import label_issues

EPOCHS, BATCH = 5, 32


class Network(nn.Module):
    """A small network with the interface that Hugging Face's trainer expects."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, pixels, labels=None):
        logits = self.layers(pixels)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


@pytest.fixture(scope="module")
def digits():
    """Pixels, labels of which a twelfth are wrong, and which."""
    values, true = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    is_wrong = rng.random(len(true)) < 0.08
    given = np.where(is_wrong, (true + rng.integers(1, 10, len(true))) % 10, true)
    return (values / 16).astype(np.float32), given, is_wrong


def check(issues, digits):
    """What every training of these digits has to lead to."""
    _, given, is_wrong = digits
    assert average_precision_score(is_wrong, issues.label_error_probability) > 0.85
    assert issues.is_label_issue[is_wrong].mean() > 0.6
    [said] = issues.report.run.assumptions
    assert said.text.startswith("the evidence is in-sample")
    assert issues.report.run.source.path.name == "training"
    assert len(issues) == len(given)


def test_a_loop_of_ones_own(digits, tmp_path):
    values, given, _ = digits
    model, inputs, labels = Network(), torch.tensor(values), torch.tensor(given)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    recorder = labelfix.EvidenceRecorder(len(labels), 10)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels)).split(BATCH):
            out = model(inputs[rows], labels[rows])
            recorder.update(rows, out["logits"], labels[rows])
            optimizer.zero_grad()
            out["loss"].backward()
            optimizer.step()
    issues = label_issues(recorder, labels)
    check(issues, digits)
    run = issues.write(tmp_path / "run").run
    assert labelfix.open_run(run).view.suspects.tolist() == issues.ranked.tolist()
    named = label_issues(recorder, given, class_names=[f"digit {code}" for code in range(10)])
    assert named.to_pandas()["given_label"][0] == f"digit {given[0]}"
    with pytest.raises(LabelfixError, match="labels holds 3 labels"):
        label_issues(recorder, given[:3])
    with pytest.raises(LabelfixError, match=r"training has seen 0\.0 % of the samples"):
        label_issues(labelfix.EvidenceRecorder(9, 2), [0] * 9)
    with pytest.raises(LabelfixError, match="kept no probabilities"):
        label_issues(labelfix.EvidenceRecorder(9, 2, keep_probs=False), [0] * 9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["table", "items"])
def test_the_trainer_of_hugging_face(digits, tmp_path, form):
    pytest.importorskip("accelerate")
    datasets = pytest.importorskip("datasets")
    transformers = pytest.importorskip("transformers")
    from labelfix.integrations.transformers import watch

    values, given, _ = digits
    if form == "table":
        data = datasets.Dataset.from_dict({"pixels": values, "labels": given, "other": given})
    else:
        data = [{"pixels": one, "labels": int(two)} for one, two in zip(values, given, strict=True)]
    trainer = transformers.Trainer(
        model=Network(),
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH // 2,
            gradient_accumulation_steps=2,
            learning_rate=3e-3,
            lr_scheduler_type="constant",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=data,
        eval_dataset=data,
    )
    watched = watch(trainer)
    with pytest.raises(LabelfixError, match="no step of training was seen"):
        watched.label_issues()
    trainer.train()
    check(watched.label_issues(), digits)
    before = watched.recorder.result().num_updates.copy()
    assert np.array_equal(before, np.full(len(given), EPOCHS))
    assert np.isfinite(trainer.evaluate()["eval_loss"])
    assert np.array_equal(watched.recorder.result().num_updates, before)
    trainer.args._n_gpu = 2
    with pytest.raises(LabelfixError, match="one process trains on 2 GPUs"):
        watch(trainer)
    trainer.args._n_gpu = 0
    trainer.train_dataset = datasets.Dataset.from_dict({"pixels": values})
    with pytest.raises(LabelfixError, match="no labels; their columns are: pixels"):
        watch(trainer)


@pytest.mark.filterwarnings("ignore")
def test_lightning(digits, tmp_path):
    lightning = pytest.importorskip("lightning")
    from labelfix.integrations.lightning import LabelEvidence

    values, given, _ = digits
    rows = torch.arange(len(given))
    data = torch.utils.data.TensorDataset(torch.tensor(values), torch.tensor(given), rows)

    class Module(lightning.LightningModule):
        def __init__(self, *, tells: bool = True):
            super().__init__()
            self.network, self.tells = Network(), tells

        def training_step(self, batch, batch_idx):
            pixels, labels, rows = batch
            out = self.network(pixels, labels)
            return {**out, "rows": rows} if self.tells else out["loss"]

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 3e-3)

    def fit(evidence, epochs, checkpoint=None, *, tells=True):
        torch.manual_seed(0)
        trainer = lightning.Trainer(
            max_epochs=epochs, callbacks=[evidence], accelerator="cpu", logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            default_root_dir=tmp_path,
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True)
        trainer.fit(Module(tells=tells), loader, ckpt_path=checkpoint, weights_only=False)
        return trainer

    first = LabelEvidence(given)
    fit(first, 2).save_checkpoint(tmp_path / "half.ckpt")
    evidence = LabelEvidence(torch.tensor(given))
    fit(evidence, EPOCHS, tmp_path / "half.ckpt")
    check(evidence.label_issues(), digits)
    seen = evidence._watched.recorder.result().num_updates
    assert np.array_equal(seen, np.full(len(given), EPOCHS))
    with pytest.raises(LabelfixError, match="returns no logits and rows"):
        fit(LabelEvidence(given), 1, tells=False)
    with pytest.raises(LabelfixError, match="no positions of classes"):
        LabelEvidence([str(code) for code in given])


def test_the_loop_of_timm(digits, tmp_path):
    import timm
    from PIL import Image
    from timm.task import ClassificationTask

    from labelfix.integrations.timm import watch

    values, given, is_wrong = (array[:600] for array in digits)
    for row, (pixels, label) in enumerate(zip(values, given, strict=True)):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        image = Image.fromarray((pixels.reshape(8, 8) * 255).astype(np.uint8))
        image.save(tmp_path / str(label) / f"{row:04}.png")
    dataset = watch(timm.data.create_dataset("", tmp_path))
    rows = [int(dataset._dataset.filename(row, basename=True)[:4]) for row in range(len(dataset))]
    loader = timm.data.create_loader(
        dataset, (3, 8, 8), BATCH, is_training=True, no_aug=True, num_workers=0,
        device=torch.device("cpu"), use_prefetcher=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 64), nn.ReLU(), nn.Linear(64, 10))
    task = ClassificationTask(model, dataset.loss(nn.functional.cross_entropy), verbose=False)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(EPOCHS):
        for inputs, target in loader:
            optimizer.zero_grad()
            task(inputs, target)["loss"].backward()
            optimizer.step()
    issues = dataset.label_issues()
    assert average_precision_score(is_wrong[rows], issues.label_error_probability) > 0.8
    again = watch(dataset._dataset)
    again.go_on_from(dataset.state())
    assert again.label_issues().to_pandas().equals(issues.to_pandas())
    with pytest.raises(LabelfixError, match="mixed labels"):
        dataset.loss(nn.functional.cross_entropy)(torch.zeros(2, 10), torch.zeros(2, 10))
    with pytest.raises(LabelfixError, match="600 samples, and there are 3 labels"):
        watch(dataset._dataset, [0, 1, 2])
    with pytest.raises(LabelfixError, match="labels of the data set are not known"):
        watch([(1, 2)])


@pytest.mark.filterwarnings("ignore")
def test_keras(digits):
    keras = pytest.importorskip("keras")
    from labelfix.integrations.keras import LabelEvidence

    values, given, _ = digits

    def fit(evidence, epochs, ends):
        keras.utils.set_random_seed(0)
        dense = keras.layers.Dense
        model = keras.Sequential([dense(64, activation="relu"), dense(10, activation=ends)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=ends is None)
        optimizer = keras.optimizers.Adam(3e-3)
        model.compile(optimizer, loss=evidence.loss(loss), metrics=[evidence])
        return model.fit(
            values, evidence.targets, epochs=epochs, batch_size=64, verbose=0,
            validation_data=(values[:64], given[:64]),
        ).history  # fmt: skip

    evidence = LabelEvidence(given, 10, from_logits=True)
    with pytest.raises(LabelfixError, match="no step of training was seen"):
        evidence.label_issues()
    history = fit(evidence, EPOCHS, None)
    issues = evidence.label_issues()
    check(issues, digits)
    assert history["accuracy"][-1] > history["accuracy"][0]
    assert np.array_equal(evidence.state()["updates"], np.full(len(given), EPOCHS))
    probs = LabelEvidence(given, 10)
    fit(probs, EPOCHS, "softmax")
    assert np.allclose(
        probs.label_issues().label_error_probability, issues.label_error_probability, atol=1e-3
    )
    resumed = LabelEvidence(given, 10, from_logits=True)
    resumed.go_on_from(evidence.state())
    assert resumed.label_issues().to_pandas().equals(issues.to_pandas())
    with pytest.raises(LabelfixError, match="other samples or classes"):
        LabelEvidence(given, 11).go_on_from(evidence.state())
