"""The README and the how-to pages keep their word: their commands and lines of Python run."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
import timm
from command import labelfix
from given_probs import noisy, write
from safetensors.torch import save_file
from written_texts import sentences, write_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(README) if name == language]


def is_plain(line: str) -> bool:
    """Whether a line is one command of labelfix, which needs neither a shell nor a process."""
    return line.startswith("labelfix ") and not re.search(r"[|>&;]", line)


HOWTO = sorted((ROOT / "docs" / "howto").glob("*.md"))

IMAGES_A_CLASS = 10

BEFORE = """
import numpy as np
rng = np.random.default_rng(0)
true = np.arange(120) % 3
labels = np.where(rng.random(120) < .1, (true + 1) % 3, true)
features = rng.normal(0, 1, (120, 6)) + 3 * np.eye(3, 6)[true]
pred_probs = np.full((120, 3), .1) + .7 * np.eye(3)[true]
"""


def run_line(line: str, place: Path, environment: dict[str, str]) -> None:
    """Run a line of a page in a folder, in a process of its own only where a shell is needed."""
    if is_plain(line):
        done = labelfix(*shlex.split(line)[1:], cwd=place)
    else:
        done = subprocess.run(
            ["sh", "-ec", line], cwd=place, env=environment, capture_output=True, encoding="utf-8",
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def is_make(block: str) -> bool:
    return all(line.startswith("make ") for line in block.splitlines())


@pytest.fixture(scope="module")
def place(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data that the pages talk of; two of the classes are cats and dogs."""
    return made(tmp_path_factory.mktemp("readme"), small_data)


def made(folder: Path, small_data: Path) -> Path:
    for number, name in (("0", "cat"), ("1", "dog"), ("7", "horse")):
        (folder / "photos" / name).mkdir(parents=True)
        for file in sorted((small_data / number).iterdir())[:IMAGES_A_CLASS]:
            shutil.copy(file, folder / "photos" / name)
    files = sorted((folder / "photos").rglob("*.png"))
    where = [file.relative_to(folder).as_posix() for file in files]
    species = [file.parent.name for file in files]
    pcsv.write_csv(pa.table({"where": where, "species": species}), folder / "listed.csv")
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(pa.table({"image": images, "label": species}), folder / "images.parquet")
    pcsv.write_csv(pa.table({"file_name": where, "label": species}), folder / "embedded.csv")
    of_class = np.array([len(name) for name in species])[:, None]
    noise = np.random.default_rng(0).normal(0, 1, (len(species), 16))
    np.save(folder / "features.npy", (noise + of_class).astype(np.float32))
    write(folder / "probs.csv", noisy())
    texts, labels = sentences(40)
    write_table(folder / "reviews.csv", {"text": texts, "label": labels})
    model = timm.create_model("resnet18", pretrained=False)
    save_file(model.state_dict(), folder / "resnet18.safetensors")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where ``labelfix`` is the command of the Python that runs the tests."""
    programs = tmp_path_factory.mktemp("bin")
    command = programs / "labelfix"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m labelfix "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def test_what_waits_for_a_person_is_run_elsewhere() -> None:
    """CI installs the package, `test_review_browser` runs the page."""
    assert blocks("bash") == [
        "pip install .\n",
        "pip install 'labelfix[review]'\nlabelfix review photos-run\n",
    ]
    assert set(BLOCK.findall(README)) == {
        pair for pair in BLOCK.findall(README) if pair[0] in ("", "sh", "bash", "python")
    }


def test_the_commands_and_the_python_run_in_the_order_of_the_page(
    place: Path, environment: dict[str, str]
) -> None:
    ran = []
    for language, block in BLOCK.findall(README):
        if language == "sh" and not is_make(block):
            for line in block.splitlines():
                run_line(line, place, environment)
        elif language == "python":
            with contextlib.chdir(place):
                exec(block, {})
        else:
            continue
        ran.append(block)
    assert len(ran) == 13
    for name in ("summary.json", "clean.csv", "clean-photos", "weighted.parquet"):
        assert (place / name).exists(), name


def test_the_commands_and_the_python_of_the_howto_pages_run(
    small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = made(tmp_path_factory.mktemp("howto"), small_data)
    names: dict[str, object] = {}
    exec(BEFORE, names)
    ran = 0
    for page in sorted(HOWTO, key=lambda page: page.stem == "review"):  # of a run of another page
        for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language == "sh":
                for line in block.splitlines():
                    done = labelfix(*shlex.split(line)[1:], cwd=folder)
                    assert done.returncode == 0, f"{page.name}: {line}\n{done.stdout}{done.stderr}"
                    ran += 1
            elif language == "python":
                with contextlib.chdir(folder):
                    exec(block, names)
                ran += 1
    assert ran == 16
    for name in ("clean-hf", "clean.csv", "clean-photos", "reviews-run", "embedded-run"):
        assert (folder / name).exists(), name


def test_the_make_commands_are_what_ci_runs() -> None:
    targets = [line for block in blocks("sh") if is_make(block) for line in block.splitlines()]
    assert targets == ["make demo", "make test"]
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert set(targets) <= set(ci)
    for target in targets:  # and make knows them; pytest cannot run itself
        subprocess.run(["make", "-n", target.split()[1]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/exports.md"]
)
def test_every_page_that_is_linked_to_is_there(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_option_of_the_readme_is_one_of_the_command() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    helps = "".join(
        labelfix(command, "--help").stdout
        for command in ("audit", "show", "review", "export", "diff", "check", "demo", "diagnose")
    )
    of_torchrun = {"--nproc-per-node"}
    assert {option for option in named - of_torchrun if option not in helps} == set()
