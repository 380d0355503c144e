"""Data sets and a finished audit that several tests share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import browser, chromium  # noqa: F401 - fixtures
from command import labelfix
from hypothesis import settings
from small_classes import CLASSES

from labelfix.benchmark.demo import DemoData, write_demo

# the tests run side by side: threads that wait for each other in a busy loop would stop them all
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and tables would be cut
os.environ.setdefault("KERAS_BACKEND", "torch")

settings.register_profile("labelfix", deadline=None)  # shared machines are slow at times
settings.load_profile("labelfix")
IMAGES_A_CLASS = 30

LONGEST = (
    "test_readme.py", "test_notebooks.py", "test_distributed.py", "test_ray.py",
    "test_disturbed_audits.py", "test_top.py", "test_python_page.py", "test_scripts.py",
    "test_text_networks.py", "test_audit.py", "test_stopped_runs.py", "test_kills.py",
)  # fmt: skip
"""Files that take longest: they begin first, so that none of two processes waits for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the features of tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    """The whole demo data set."""
    return write_demo(tmp_path_factory.mktemp("demo") / "demo")


@pytest.fixture(scope="session")
def small_data(demo_data: DemoData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder with the first images of three classes of the demo data."""
    folder = tmp_path_factory.mktemp("small") / "photos"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for file in sorted((demo_data.data / name).glob("digit-*.png"))[:IMAGES_A_CLASS]:
            shutil.copy(file, folder / name)
    return folder


@pytest.fixture(scope="session")
def small_run(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The RUN folder of an audit of ``small_data`` by the real command."""
    run = tmp_path_factory.mktemp("run") / "photos-run"
    done = labelfix("audit", small_data, "--out", run)
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def features():
    """The columns of a Hugging Face data set of images."""
    datasets = pytest.importorskip("datasets")
    return datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
