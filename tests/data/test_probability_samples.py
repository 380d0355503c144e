"""Given probabilities whose images or texts are shown, on the page and in a review."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from encoded_images import numbered
from given_probs import Probs, noisy, table_of
from typer.testing import CliRunner

import labelfix
from labelfix.cli import main as cli
from labelfix.errors import ConfigError, DatasetError, RunError
from labelfix.modalities.base import Renderer
from labelfix.report.io import read_report_table
from labelfix.report.reopen import find_renderer
from labelfix.report.view import ReportView

COUNT = 60


@pytest.fixture
def probs() -> Probs:
    return noisy(count=COUNT)


@pytest.fixture
def images(tmp_path: Path, probs: Probs) -> Path:
    """A folder of the images, under the names of the samples."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(probs.ids):
        (folder / name).write_bytes(numbered(number))
    return folder


def write_with(path: Path, probs: Probs, /, **columns: Sequence[object]) -> Path:
    """Write a table of probabilities with further columns."""
    table = table_of(probs)
    for name, cells in columns.items():
        table = table.append_column(name, pa.array(cells))
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=7)
    else:
        pacsv.write_csv(table, path)
    return path


def shown(run: Path) -> Renderer:
    return find_renderer(read_report_table(run, pred_probs=False))


def opened(run: Path, row: int = 0) -> tuple[str, bytes]:
    show = shown(run).open
    assert show is not None
    rendering = show(row, "full")
    return rendering.media_type, rendering.data


def test_images_in_a_folder_are_shown_by_the_ids_of_the_samples(
    tmp_path: Path, probs: Probs, images: Path
) -> None:
    table = write_with(tmp_path / "p.csv", probs)
    args = ["audit", "--pred-probs", table, "--images", images, "--out", tmp_path / "run", "-q"]
    done = CliRunner().invoke(cli.app, [str(arg) for arg in args])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "report.html").read_text().count("data:image/") > 3
    assert opened(tmp_path / "run")[0] == "image/png"
    plain = labelfix.audit_pred_probs(table, tmp_path / "plain")
    assert "data:image/" not in (tmp_path / "plain" / "report.html").read_text()
    assert plain.report.table.equals(read_report_table(tmp_path / "run", pred_probs=False).table)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_images_are_found_by_a_column_of_paths(
    tmp_path: Path, probs: Probs, images: Path, suffix: str
) -> None:
    ids = [f"sample {number}" for number in range(COUNT)]
    paths = [f"images/{name}" for name in probs.ids]
    table = write_with(tmp_path / f"p.{suffix}", probs.but(ids=ids), path=paths)
    labelfix.audit_pred_probs(table, tmp_path / "run", image_column="path")
    assert opened(tmp_path / "run", 3)[0] == "image/png"
    files = [images / name for name in probs.ids]
    table = write_with(tmp_path / f"q.{suffix}", probs.but(ids=ids), path=list(map(str, files)))
    labelfix.audit_pred_probs(table, tmp_path / "two", images=images, image_column="path")
    assert opened(tmp_path / "two", 3) == opened(tmp_path / "run", 3)


def test_images_in_the_table_are_shown(tmp_path: Path, probs: Probs) -> None:
    table = write_with(tmp_path / "p.parquet", probs, image=[numbered(n) for n in range(COUNT)])
    labelfix.audit_pred_probs(table, tmp_path / "run", image_column="image")
    assert opened(tmp_path / "run", 50)[0] == "image/png"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_texts_are_shown_and_called_texts(tmp_path: Path, probs: Probs, suffix: str) -> None:
    texts = [f"the text of row {number}, <b>as it is</b>" for number in range(COUNT)]
    table = write_with(tmp_path / f"p.{suffix}", probs, review=texts)
    labelfix.audit_pred_probs(table, tmp_path / "run", text_column="review")
    media_type, data = opened(tmp_path / "run", 7)
    assert media_type.startswith("text/plain")
    assert data.decode() == texts[7]
    assert "as it is" in (tmp_path / "run" / "report.html").read_text()
    view = ReportView(read_report_table(tmp_path / "run", pred_probs=False))
    assert (view.wording.noun, view.shows_images) == ("text", False)


def test_what_has_gone_since_is_told_and_not_shown(
    tmp_path: Path, probs: Probs, images: Path
) -> None:
    table = write_with(tmp_path / "p.csv", probs, review=["a text"] * COUNT)
    labelfix.audit_pred_probs(table, tmp_path / "run", text_column="review")
    write_with(table, probs.but(ids=probs.ids[::-1]), review=["a text"] * COUNT)
    assert "has changed since the audit" in (shown(tmp_path / "run").exclusion_reason or "")
    labelfix.audit_pred_probs(table, tmp_path / "two", images=images)
    images.rename(tmp_path / "elsewhere")
    assert "does not exist" in (shown(tmp_path / "two").exclusion_reason or "")


WRONG: list[tuple[str, dict[str, object], str]] = [
    ("p.csv", {"images": "nowhere"}, "does not exist"),
    ("p.csv", {"images": "empty"}, "none of the first images is in"),
    ("p.csv", {"image_column": "pictures"}, "has no column 'pictures'"),
    ("p.csv", {"text_column": "given_label", "images": "empty"}, "images as well"),
    ("p.csv", {"text_column": "blank"}, "is empty"),
    ("p.npz", {"image_column": "path"}, "arrays, which name no samples"),
    ("p.npz", {"images": "empty"}, "none of the first images is in"),
]


@pytest.mark.parametrize(("name", "asked", "told"), WRONG)
def test_what_cannot_be_found_is_told_before_anything_is_written(
    tmp_path: Path, probs: Probs, name: str, asked: dict[str, object], told: str
) -> None:
    from given_probs import write

    (tmp_path / "empty").mkdir()
    path = tmp_path / name
    if path.suffix == ".npz":
        write(path, probs)
    else:
        write_with(path, probs, blank=[""] * COUNT)
    places = {k: tmp_path / str(v) if k == "images" else v for k, v in asked.items()}
    with pytest.raises((ConfigError, DatasetError), match=told):
        labelfix.audit_pred_probs(path, tmp_path / "run", **places)
    assert not (tmp_path / "run").exists()


def test_a_run_that_shows_other_samples_is_another_run(
    tmp_path: Path, probs: Probs, images: Path
) -> None:
    table = write_with(tmp_path / "p.csv", probs)
    again: Callable[..., object] = labelfix.audit_pred_probs
    again(table, tmp_path / "run", images=images)
    again(table, tmp_path / "run", images=images, resume=True)
    with pytest.raises(RunError):
        again(table, tmp_path / "run", resume=True)
