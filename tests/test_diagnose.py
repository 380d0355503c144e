"""The two quantities, the bound and the log against naive references; then a whole diagnosis."""

import copy
import json
import math
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner, Result

from labelfix import audit
from labelfix.cli import main as cli
from labelfix.diagnose import layer_distances, noise_stability, pac_bayes_bound, weights_of
from labelfix.errors import ConfigError, RunError
from labelfix.report.html.charts import diagnosis_svg
from labelfix.report.run_folder import LAYERS_NAME, LOG_NAME
from labelfix.report.training_log import Diagnosis, LayerDistance, read_log, summarize_log

TINY = ("test_resnet", "test_vit", "test_efficientnet")
CLASSES = 3
SIZE = 64


def network(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    options = {"img_size": SIZE} if "vit" in name else {}
    return timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)


def batches(count: int = 6) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, SIZE, SIZE, generator=generator)
    labels = torch.arange(count) % CLASSES
    return [(images[:4], labels[:4]), (images[4:], labels[4:])]


def layer(distance: float) -> LayerDistance:
    return LayerDistance("w", 4, distance, 1.0, distance)


# Distance


@pytest.mark.parametrize("name", TINY)
def test_distances_are_those_of_numpy(name: str) -> None:
    start, tuned = network(name, 0), network(name, 1)
    pretrained = dict(start.named_parameters())
    head = [key for key in pretrained if key.startswith(("fc.", "head.", "classifier."))]
    for key in head:
        del pretrained[key]
    found = layer_distances(dict(tuned.named_parameters()), pretrained)
    assert [record.name for record in found] == list(weights_of(tuned))
    assert sum(record.relative is None for record in found) == 1
    for record in found:
        now = dict(tuned.named_parameters())[record.name].detach().numpy().astype(np.float64)
        then = np.zeros_like(now)
        if record.name in pretrained:
            then = pretrained[record.name].detach().numpy().astype(np.float64)
        distance = math.sqrt(((now - then) ** 2).sum())
        assert record.size == now.size
        assert record.distance == pytest.approx(distance, rel=1e-12)
        assert record.start_norm == pytest.approx(np.linalg.norm(then), rel=1e-12)
        if record.relative is not None:
            assert record.relative == pytest.approx(distance / np.linalg.norm(then))


def test_a_weight_of_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"w is \(2, 3\), but was \(3, 2\)"):
        layer_distances({"w": torch.ones(2, 3)}, {"w": torch.ones(3, 2)})


# Noise


class _Seen(nn.Module):
    """Gives back its input, and notes the weights that it was called with."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        self.seen: list[dict[str, torch.Tensor]] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen.append({name: p.detach().clone() for name, p in self.named_parameters()})
        return inputs


def noise_of(shapes: dict[str, tuple[int, ...]], *, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Return what a network of zeros is perturbed with: 3 draws at .5, then 3 at .1."""
    model = _Seen(shapes)
    data = [(torch.eye(2), torch.arange(2))]
    noise_stability(model, data, loss_bound=1.0, sigmas=(0.5, 0.1), draws=3, seed=seed)
    assert not any(value.any() for value in model.seen[0].values())
    return model.seen[1:]


def test_networks_of_the_same_shapes_get_the_same_draws() -> None:
    first = noise_of({"a": (40, 30), "b": (1000,), "c": (20, 5, 3, 3)})
    again = noise_of({"more": (7, 7), "c": (20, 5, 3, 3), "a": (40, 30)})
    assert len(first) == len(again) == 6
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["a"], other["a"])
        assert torch.equal(one["c"], other["c"])
        assert not one["b"].any(), "a weight has more than one dimension"


def test_no_two_draws_weights_or_seeds_share_their_noise() -> None:
    drawn = [*noise_of({"a": (8, 8), "b": (8, 8)}), *noise_of({"a": (8, 8)}, seed=1)]
    standard = [
        value / sigma
        for values, sigma in zip(drawn, [0.5] * 3 + [0.1] * 3 + [0.5] * 3 + [0.1] * 3, strict=True)
        for value in values.values()
    ]
    for place, one in enumerate(standard):
        for other in standard[place + 1 :]:
            assert float((one - other).abs().max()) > 0.1


def test_the_noise_is_normal_with_the_sigma_asked_for() -> None:
    drawn = noise_of({"a": (300, 300)})
    for values, sigma in zip(drawn, [0.5] * 3 + [0.1] * 3, strict=True):
        assert float(values["a"].mean()) == pytest.approx(0, abs=0.02 * sigma)
        assert float(values["a"].std()) == pytest.approx(sigma, rel=0.02)


@pytest.mark.parametrize("name", TINY)
def test_weights_and_modes_come_back_bit_for_bit(name: str) -> None:
    model = network(name).train()
    frozen = next(child for child in model.modules() if not list(child.children()))
    frozen.eval()
    before = copy.deepcopy(model.state_dict())
    noise_stability(model, batches(), loss_bound=1.0, sigmas=(1e-2,), draws=2)
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert model.training
    assert not frozen.training


def test_weights_come_back_when_a_pass_fails() -> None:
    model = network("test_resnet")
    before = copy.deepcopy(model.state_dict())

    calls = 0

    def failing(module: nn.Module, inputs: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise RuntimeError("out of memory")

    model.register_forward_pre_hook(failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        noise_stability(model, batches(), loss_bound=1.0, draws=2)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_perturbed_loss_is_a_naive_one_and_grows_with_sigma() -> None:
    model, data = network("test_resnet"), batches()
    images, labels = (torch.cat(parts) for parts in zip(*data, strict=True))
    with torch.no_grad():
        calm = nn.functional.cross_entropy(model.eval()(images), labels)
    records = noise_stability(model, data, loss_bound=0.5, sigmas=(0.0, 1e-6, 3e-2, 0.3), draws=4)
    for record in records:
        assert record.unperturbed_loss == pytest.approx(float(calm), rel=1e-5)
        assert record.loss == pytest.approx(np.mean(record.draws))
        assert record.std == pytest.approx(np.std(record.draws, ddof=1))
        assert record.increase == pytest.approx(record.loss - record.unperturbed_loss)
        assert record.clipped_loss <= 0.5
    still, faint, some, much = records
    assert set(still.draws) == {still.unperturbed_loss}
    assert faint.loss == pytest.approx(faint.unperturbed_loss, rel=1e-3)
    assert faint.loss < some.loss < much.loss
    assert faint.std < some.std < much.std


def test_each_loss_is_clipped_for_itself_even_where_it_is_not_finite() -> None:
    model = _Seen({"a": (2, 2)})
    inputs = torch.tensor([[0.0, 0.0], [0.0, 9.0], [math.inf, 0.0]])
    (record,) = noise_stability(
        model, [(inputs, torch.zeros(3, dtype=torch.long))], loss_bound=1.0, sigmas=(1.0,), draws=2
    )
    assert record.clipped_loss == pytest.approx((math.log(2) + 1 + 1) / 3)
    assert math.isnan(record.loss)


# The bound


def test_every_term_of_the_bound_is_the_one_worked_out_by_hand() -> None:
    bound = pac_bayes_bound(
        [layer(0.3), layer(0.4)],
        perturbed_loss=0.2,
        sigma=0.1,
        samples=1001,
        loss_bound=2.0,
        delta=0.05,
    )
    assert bound.squared_distance == pytest.approx(0.25)
    assert bound.kl == pytest.approx(12.5)
    assert bound.log_term == pytest.approx(10.5976342, abs=1e-6)  # ln 40040
    assert bound.complexity == pytest.approx(0.2149308, abs=1e-6)  # 2 sqrt(23.0976342 / 2000)
    assert bound.bound == pytest.approx(0.4149308, abs=1e-6)
    assert not bound.is_vacuous


def test_a_bound_that_a_guess_keeps_is_called_vacuous() -> None:
    for sigma, is_vacuous in ((1e-4, True), (1e-1, False)):
        bound = pac_bayes_bound(
            [layer(0.5)], perturbed_loss=0.1, sigma=sigma, samples=1000, loss_bound=1.0
        )
        assert bound.is_vacuous is is_vacuous


@pytest.mark.parametrize(
    "wrong", [{"sigma": 0.0}, {"samples": 1}, {"delta": 1.0}, {"loss_bound": 0.0}]
)
def test_a_bound_of_impossible_numbers_is_refused(wrong: dict[str, float]) -> None:
    usual = {"sigma": 0.1, "samples": 10, "delta": 0.05, "loss_bound": 1.0}
    with pytest.raises(ConfigError, match="no bound for"):
        pac_bayes_bound([layer(1.0)], perturbed_loss=0.1, **{**usual, **wrong})


# The log


def entry(fold: int, epoch: int, **more: float | None) -> dict[str, float | None]:
    return {
        "fold": fold, "epoch": epoch, "loss": 1.0, "learning_rate": 1e-3, "images_per_second": 9.0,
        "corrected": 0, "mean_weight_kept": 1.0, "mean_weight_corrected": None,
        "boundary_share": 0.0, **more,
    }  # fmt: skip


def test_folds_are_averaged_and_corrections_counted() -> None:
    first, second = summarize_log(
        [
            entry(0, 2, corrected=30, mean_weight_corrected=0.5),
            entry(0, 1, loss=2.0),
            entry(1, 1, loss=4.0, boundary_share=0.5),
            entry(1, 2, corrected=10, mean_weight_corrected=0.1),
        ]
    )
    assert (first.epoch, first.networks, first.loss, first.boundary_share) == (1, 2, 3.0, 0.25)
    assert first.mean_weight_corrected is None
    assert second.corrected == 20
    assert second.mean_weight_corrected == pytest.approx(0.4)


def test_an_epoch_that_was_trained_again_counts_once(tmp_path: Path) -> None:
    log = tmp_path / LOG_NAME
    log.write_text("\n".join(json.dumps(entry(0, 1, loss=loss)) for loss in (5.0, 2.0)) + "\n\n")
    (epoch,) = summarize_log(read_log(log))
    assert (epoch.networks, epoch.loss) == (1, 2.0)
    log.write_text(log.read_text() + '{"fold": 0, "epo')
    with pytest.raises(RunError, match=r"training_log\.jsonl, line 4 is damaged"):
        read_log(log)


# The command


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def head_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished audit by heads on the frozen ``test_resnet``."""
    folder = tmp_path_factory.mktemp("diagnosis")
    random = np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee", "cow")):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 80, (24, 24, 3)).astype(np.uint8)
            pixels[..., label] += 150
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), folder / "start.safetensors")
    audit(
        folder / "photos",
        folder / "run",
        backbone="test_resnet",
        weights=folder / "start.safetensors",
        image_size=SIZE,
        folds=3,
        device="cpu",
        tune="head",
    )
    return folder / "run"


@pytest.fixture(scope="module")
def tuned_run(head_run: Path) -> Path:
    """The same audit, as if the whole network had been tuned: one weight moved, a head of ones."""
    folder = head_run.with_name("tuned")
    shutil.copytree(head_run, folder)
    state = load_file(head_run.with_name("start.safetensors"))
    state["layer2.0.conv1.weight"] += 0.01
    width = state["fc.weight"].shape[1]
    state["fc.weight"], state["fc.bias"] = torch.ones(CLASSES, width), torch.zeros(CLASSES)
    save_file(state, folder / "model.safetensors")
    limits = [
        {"name": "conv1.0.weight", "role": "stem", "depth": 0, "radius": None,
         "at_boundary": False},
        {"name": "layer2.0.conv1.weight", "role": "stage", "depth": 2, "radius": 1.2,
         "at_boundary": True},
        {"name": "layer1.0.bn1.weight", "role": "norm", "depth": 1, "radius": 0.5,
         "at_boundary": False},
    ]  # fmt: skip
    (folder / LAYERS_NAME).write_text(json.dumps(limits))
    lines = [entry(fold, epoch, boundary_share=epoch / 4) for fold in (0, 1) for epoch in (1, 2)]
    (folder / LOG_NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_run_is_diagnosed_as_json_and_as_a_picture(tuned_run: Path) -> None:
    done = run("diagnose", tuned_run, "--samples", "7", "--draws", "2", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tuned_run / "diagnosis.json").read_text())
    layers = {record["name"]: record for record in found["layers"]}
    moved = layers.pop("layer2.0.conv1.weight")
    assert moved["distance"] == pytest.approx(0.01 * math.sqrt(moved["size"]), rel=1e-4)
    assert (moved["role"], moved["radius"], moved["at_boundary"]) == ("stage", 1.2, True)
    head = layers.pop("fc.weight")
    assert head["relative"] is None
    assert head["distance"] == pytest.approx(math.sqrt(head["size"]))
    assert {record["distance"] for record in layers.values()} == {0.0}
    assert found["boundary_share"] == 0.5, "the norm's ball counts too"
    assert found["images"] == 7
    assert [record["sigma"] for record in found["noise"]] == [1e-2, 1e-3, 1e-4]
    # a head of equal rows says the same of every class: the loss is that of a guess
    assert found["noise"][0]["unperturbed_loss"] == pytest.approx(math.log(3), rel=1e-5)
    for bound in found["bounds"]:
        assert bound["samples"] == 12, "a third is held out from the network that is kept"
        assert bound["loss_bound"] == pytest.approx(math.log(3))
        squared = moved["distance"] ** 2 + head["distance"] ** 2
        assert bound["kl"] == pytest.approx(squared / 2 / bound["sigma"] ** 2)
        assert bound["is_vacuous"]
    assert [epoch["boundary_share"] for epoch in found["epochs"]] == [0.25, 0.5]
    picture = ET.fromstring((tuned_run / "diagnosis.svg").read_text())
    assert "layer2.0.conv1.weight" in "".join(picture.itertext())


def test_a_person_gets_tables(tuned_run: Path) -> None:
    done = run("diagnose", tuned_run, "--samples", "4", "--draws", "2", "--seed", "3")
    assert done.exit_code == 0, done.stderr
    for text in (
        "layer2.0.conv1.weight", "stage", "50 % of the tensors", "4 training images", "vacuous",
        "KL = D2 / (2 sigma^2)", "weight kept", str(tuned_run / "diagnosis.svg"),
    ):  # fmt: skip
        assert text in done.stdout


def test_the_same_seed_gives_the_same_diagnosis(tuned_run: Path) -> None:
    args = ("diagnose", tuned_run, "--samples", "4", "--draws", "2", "--json", "--quiet", "--seed")
    assert run(*args, "1").stdout == run(*args, "1").stdout != run(*args, "2").stdout


def refused(path: Path, *told: str) -> None:
    done = run("diagnose", path, "--quiet")
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    for text in ("error: ", "hint: ", *told):
        assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_of_heads_has_no_network_to_diagnose(head_run: Path, tmp_path: Path) -> None:
    refused(head_run, "holds no model.safetensors", "--tune full")
    refused(tmp_path, "holds no finished run", "--resume")
    refused(tmp_path / "absent", "is not a folder")


def test_a_run_that_is_not_whole_is_refused(tuned_run: Path, tmp_path: Path) -> None:
    def broken(name: str, text: str | None) -> Path:
        folder = tmp_path / name.replace(".", "-")
        shutil.copytree(tuned_run, folder)
        (folder / name).unlink()
        if text is not None:
            (folder / name).write_text(text)
        return folder

    refused(broken(LAYERS_NAME, "[1]"), "is not a list of layers")
    refused(broken(LOG_NAME, None), "cannot read", "No such file")
    refused(broken("model.safetensors", "nothing"), "does not fit the network")
    refused(broken("report.parquet", None), "holds no report.parquet")


def test_other_pretrained_weights_and_other_data_are_refused(
    tuned_run: Path, tmp_path: Path
) -> None:
    start = tuned_run.with_name("start.safetensors")
    kept = start.read_bytes()
    try:
        save_file({key: value + 1 for key, value in load_file(start).items()}, start)
        refused(tuned_run, "are not those that")
    finally:
        start.write_bytes(kept)
    photo = tuned_run.with_name("photos") / "ant" / "0.png"
    photo.rename(tmp_path / "0.png")
    try:
        refused(tuned_run, "has changed since the audit")
    finally:
        (tmp_path / "0.png").rename(photo)


def test_no_name_can_break_the_picture() -> None:
    name = "<b a='\"&\x1b[31m"
    nasty = LayerDistance(name, 4, 0.5, 0.0, None)
    plain = LayerDistance("w" * 90, 4, 0.5, 1.0, 0.5)
    diagnosis = Diagnosis("net", 1, 0, (nasty, plain), (), (), (), None)
    picture = ET.fromstring(diagnosis_svg(diagnosis, title=name))
    text = "".join(picture.itertext())
    assert "<b a='\"&\\x1b[31m" in text
    assert "not known in this run" in text


def test_one_long_bar_does_not_dwarf_the_rest() -> None:
    layers = [LayerDistance(f"w{number}", 4, 1.0, 1.0, 0.1) for number in range(4)]
    layers.append(LayerDistance("token", 4, 1.0, 1e-3, 1000.0))
    text = diagnosis_svg(Diagnosis("net", 1, 0, tuple(layers), (), (), (), None), title="run")
    bars = [float(rect.get("width", "")) for rect in ET.fromstring(text).iter() if is_bar(rect)]
    assert len(bars) == 5
    assert bars[0] == bars[3] > bars[4] / 10
    assert text.count("(off the scale)") == 1


def is_bar(element: ET.Element) -> bool:
    return element.tag.endswith("rect") and element.get("height") == "10"
