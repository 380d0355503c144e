"""An audit or an export that was killed anywhere is finished by the next one."""

import os
import shutil
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from given_probs import noisy, write
from kill_points import drafts_below, files_of_at_most, kills, run_to_the_end
from PIL import Image

from labelfix.config import AuditConfig, BackboneConfig, HeadConfig
from labelfix.errors import RunError
from labelfix.exports.export import export
from labelfix.pipeline.probabilities import audit_pred_probs
from labelfix.pipeline.samples import audit

EVERY = 8
"""Of so many points the suite tries one; all of them are tried where slow tests run."""


@pytest.fixture(scope="module")
def probs(tmp_path_factory):
    """A file of probabilities, another one, and a finished run on each."""
    folder = tmp_path_factory.mktemp("probs")
    for name, seed in (("this", 0), ("other", 1)):
        write(folder / f"{name}.csv", noisy(seed, count=40))
        audit_pred_probs(folder / f"{name}.csv", folder / f"{name}-run")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A class folder of small pictures, with a finished run."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, shade in (("cat", 60), ("dog", 190)):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.normal(shade, 30, (24, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "data" / name / f"{number}.png")
    audit(folder / "data", folder / "data-run", heads(folder))
    return folder


def heads(folder, **more):
    return AuditConfig(
        backbone=BackboneConfig(image_size=32, device="cpu"),
        tune="head",
        heads=HeadConfig(folds=3, epochs=1, least_steps=2, radii=(5.0,)),
        cache=folder / "cache",
        **more,
    )


@pytest.fixture
def told(request):
    """Say how many points there were, with ``pytest -s``."""
    return lambda points: sys.stdout.write(f"\n{request.node.name}: {points} points\n")


def files_of(run):
    """Return what a run left, but for what holds timings and chance."""
    files = {path.name: path for path in run.iterdir()}
    assert "run.json" in files
    return {name: path.read_bytes() for name, path in files.items() if name != "run.json"}


def assert_finished_after_kills(run, whole, work, *, before=None, every=EVERY):
    """Kill some work at one point after the other; each way on leads to the same run.

    Args:
        run: Where the work writes.
        whole: The same work, undisturbed.
        work: Called with the keywords of an audit.
        before: A run that is replaced.
        every: Of so many points one is tried.
    """
    fresh = run.parent / "nothing" if before is None else before
    first = work if before is None else partial(work, overwrite=True)
    points = 0

    def start():
        shutil.rmtree(run, ignore_errors=True)
        if fresh.exists():
            shutil.copytree(fresh, run)

    start()
    for _ in kills(first, run, every=every):
        points += 1
        for way in ("resume", "overwrite"):
            copy = run.with_name("cut")
            shutil.rmtree(copy, ignore_errors=True)
            if run.exists():
                run.rename(copy)
                shutil.copytree(copy, run)
            # a run that was not even marked as begun leaves the one that is replaced as it was
            is_untouched = way == "resume" and before is not None and is_as_before(run, before)
            if not is_untouched:
                assert run_to_the_end(partial(work, **{way: True})) == 0
                assert files_of(run) == files_of(whole)
                assert not drafts_below(run)
            shutil.rmtree(run, ignore_errors=True)
            if copy.exists():
                copy.rename(run)
        start()
    return points


def is_as_before(run, before):
    return not (run / "unfinished.json").exists() and (
        (run / "run.json").read_bytes() == (before / "run.json").read_bytes()
    )


@pytest.mark.parametrize(
    ("is_replaced", "every"),
    [
        (False, EVERY),
        (True, EVERY),
        pytest.param(False, 1, marks=pytest.mark.slow),
        pytest.param(True, 1, marks=pytest.mark.slow),
    ],
)
def test_an_audit_of_probabilities_is_finished(probs, tmp_path, is_replaced, every, told):
    run = tmp_path / "run"
    points = assert_finished_after_kills(
        run,
        probs / "this-run",
        partial(audit_pred_probs, probs / "this.csv", run),
        before=probs / "other-run" if is_replaced else None,
        every=every,
    )
    told(points)
    assert points * every > 16


@pytest.mark.slow
@pytest.mark.parametrize("is_replaced", [False, True])
def test_an_audit_of_images_is_finished(photos, tmp_path, is_replaced, told):
    run = tmp_path / "run"
    before = None
    if is_replaced:
        before = tmp_path / "before"
        audit(photos / "data", before, heads(photos, seed=1))
    work = partial(audit, photos / "data", run, heads(photos))
    points = assert_finished_after_kills(run, photos / "data-run", work, before=before, every=1)
    told(points)
    assert points > 30


@pytest.mark.slow
def test_the_cache_of_an_audit_is_finished(photos, tmp_path, told):
    """Kills while features are kept: the next audit goes on, and leaves no draft there."""
    cache = tmp_path / "cache"
    config = replace(heads(photos), cache=cache)
    points = 0
    for _ in kills(partial(audit, photos / "data", tmp_path / "run", config), cache):
        points += 1
        shutil.rmtree(tmp_path / "run")
        assert run_to_the_end(partial(audit, photos / "data", tmp_path / "run", config)) == 0
        assert files_of(tmp_path / "run") == files_of(photos / "data-run")
        assert not drafts_below(cache)
        shutil.rmtree(tmp_path / "run")
        shutil.rmtree(cache)
    told(points)
    assert points > 5


EXPORTS = ["labels.csv", "labels.parquet", "labels.jsonl"]
IMAGE_EXPORTS = {"own": "clean", "huggingface": "hf", "fiftyone": "fo", "label-studio": "ls.json"}


def assert_exported_after_kills(work, to, whole, every=1):
    points = 0
    for _ in kills(work, to.parent, every=every):
        points += 1
        if not to.exists():
            assert run_to_the_end(partial(work, overwrite=True)) == 0
        assert content_of(to.parent) == whole
        assert not drafts_below(to.parent)
        shutil.rmtree(to.parent)
        to.parent.mkdir()
    return points


def content_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_of_a_table_is_finished(probs, tmp_path, name):
    to = tmp_path / "out" / name
    export(probs / "this-run", to)
    whole = content_of(to.parent)
    shutil.rmtree(to.parent)
    to.parent.mkdir()
    work = partial(export, probs / "this-run", to)
    assert assert_exported_after_kills(work, to, whole) > 2


@pytest.mark.parametrize(
    ("form", "every"),
    [("own", 7), *(pytest.param(form, 1, marks=pytest.mark.slow) for form in IMAGE_EXPORTS)],
)
def test_an_export_of_images_is_finished(photos, tmp_path, form, every):
    to = tmp_path / "out" / IMAGE_EXPORTS[form]
    chosen = "folder" if form == "own" else form
    export(photos / "data-run", to, format=chosen)
    whole = content_of(to.parent)
    shutil.rmtree(to.parent)
    to.parent.mkdir()
    work = partial(export, photos / "data-run", to, format=chosen)
    assert assert_exported_after_kills(work, to, whole, every) >= 2


@pytest.mark.parametrize("way", ["resume", "overwrite"])
def test_a_disk_that_is_full_at_the_page_leaves_a_run_to_go_on_with(probs, tmp_path, way):
    """The page is the largest file by far: what is written before it is smaller than the limit."""
    run = tmp_path / "run"
    sizes = {path.name: path.stat().st_size for path in (probs / "this-run").iterdir()}
    limit = sizes.pop("report.html") - 1
    assert limit > max(sizes.values())
    with files_of_at_most(limit), pytest.raises(RunError, match=r"cannot write .*report\.html"):
        audit_pred_probs(probs / "this.csv", run)
    assert not (run / "run.json").exists()
    assert not drafts_below(run)
    audit_pred_probs(probs / "this.csv", run, **{way: True})
    assert files_of(run) == files_of(probs / "this-run")


@pytest.mark.parametrize("name", ["report.html", "noise_matrix.parquet", "report.parquet"])
def test_a_run_that_lacks_a_file_is_made_whole(probs, tmp_path, name):
    run = shutil.copytree(probs / "this-run", tmp_path / "run")
    (run / name).unlink()
    audit_pred_probs(probs / "this.csv", run, resume=True)
    assert files_of(run) == files_of(probs / "this-run")


def test_a_whole_run_is_left_as_it_is(probs, tmp_path):
    run = shutil.copytree(probs / "this-run", tmp_path / "run")
    os.utime(run / "report.parquet", (0, 0))
    audit_pred_probs(probs / "this.csv", run, resume=True)
    assert (run / "report.parquet").stat().st_mtime == 0
