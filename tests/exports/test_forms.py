"""Whatever can be opened can be shown, reviewed and exported, or the remedy is named."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from compressed_tables import compressed
from decided_run import Fate, write_run
from written_forms import (
    CLASSES,
    folder_with_metadata,
    hugging,
    picture,
    shard,
    write_tar,
    write_zip,
)

from labelfix.config import DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import ConfigError
from labelfix.exports.export import export
from labelfix.modalities.base import ThumbnailRequest
from labelfix.modalities.image.rendering import ReviewPictures as Pictures
from labelfix.report.html.page import find_pictures
from labelfix.report.io import read_report_table
from labelfix.report.reopen import open_audited
from labelfix.utils.progress import no_progress


def class_zip(root: Path) -> Path:
    return write_zip(root / "photos.zip", CLASSES)


def class_tar(root: Path) -> Path:
    return write_tar(root / "photos.tar", {f"photos/{n}": data for n, data in CLASSES.items()})


def manifest_zip(root: Path) -> Path:
    files = {f"images/{n}.png": picture(n) for n in range(4)}
    lines = [f"images/{n}.png,{['cat', 'dog'][n % 2]}" for n in range(4)]
    return write_zip(root / "m.zip", files | {"m.csv": "\n".join(["image,label", *lines]).encode()})


def web_dataset(root: Path) -> Path:
    (root / "shards").mkdir()
    for number in range(2):
        write_tar(
            root / "shards" / f"s-{number}.tar", shard(range(number * 2, number * 2 + 2), "txt")
        )
    return root / "shards"


def saved(root: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    hugging(features, range(4)).save_to_disk(root / "saved")
    return root / "saved"


def hive(root: Path) -> Path:
    for number, label in enumerate(("cat", "dog")):
        folder = root / "hive" / f"label={label}"
        folder.mkdir(parents=True)
        table = pa.table({"image": [picture(number), picture(number + 2)]})
        pq.write_table(table, folder / "part.parquet")
    return root / "hive"


def with_metadata(root: Path) -> Path:
    folder_with_metadata(root / "hf", "csv")
    return root / "hf"


def json_list(root: Path) -> Path:
    for n in range(4):
        (root / f"{n}.png").write_bytes(picture(n))
    rows = [{"image": f"{n}.png", "label": ["cat", "dog"][n % 2]} for n in range(4)]
    (root / "list.json").write_text(json.dumps(rows))
    return root / "list.json"


FORMS: dict[str, Callable[[Path], Path]] = {
    made.__name__: made
    for made in (class_zip, class_tar, manifest_zip, web_dataset, saved, hive, with_metadata,
                 json_list)
}  # fmt: skip
STAYS = Fate(None, "cat", None, 0.5, 0.5)
TO_CAT, TO_DOG = (Fate("relabel", name, None, 0.5, 0.5) for name in ("cat", "dog"))


@pytest.fixture(params=FORMS)
def run(request, tmp_path):
    data = FORMS[request.param](tmp_path)
    dataset = open_dataset(data, DatasetConfig())
    first = TO_DOG if dataset.given_label[0] == 0 else TO_CAT
    write_run(tmp_path / "run", data, [first, *[STAYS] * (len(dataset) - 1)])
    return tmp_path / "run"


def test_it_is_shown_and_reviewed(run):
    report = read_report_table(run)
    pictures = find_pictures(report, no_progress)
    drawn = pictures.draw([ThumbnailRequest(row, 32) for row in range(len(report))])
    assert len(drawn) == len(report)
    images = open_audited(report).store
    assert Pictures(images).picture(1, "small").media_type == "image/png"


@pytest.mark.parametrize(
    "form",
    ["folder", "fiftyone", "huggingface", "label-studio", "argilla", "csv", "jsonl", "parquet"],
)
def test_it_is_exported(run, tmp_path, form):
    report = read_report_table(run)
    suffix = {"label-studio": ".json", "argilla": ".json", "csv": ".csv", "jsonl": ".jsonl",
              "parquet": ".parquet"}.get(form, "")  # fmt: skip
    done = export(run, tmp_path / f"out{suffix}", format=form)
    assert (done.kept, done.changed, done.without_image) == (len(report), 1, 0)
    if form == "folder":
        images = open_audited(report).store
        again = open_dataset(tmp_path / "out", DatasetConfig())
        held = {again.store.read(row) for row in range(len(again))}
        assert held == {images.read(row) for row in range(len(report))}
        counts = [again.class_names[code] for code in again.given_label]
        assert sorted(counts) != sorted(report.table["given_label"].to_pylist())


def test_its_own_form_is_refused_with_the_remedy(run, tmp_path):
    own = read_report_table(run).run.source.path
    with pytest.raises(ConfigError, match="own form") as caught:
        export(run, tmp_path / f"out{own.suffix}", format="own")
    assert "folder" in caught.value.hint


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize("first", ["", "sep=;\r\n"])
def test_a_table_is_written_again_as_it_was_saved(tmp_path, encoding, suffix, first):
    for n in range(4):
        (tmp_path / f"{n}.png").write_bytes(picture(n))
    lines = ["image;label;note", "0.png;Käfer;a", "1.png;Hund;é, b", "2.png;Käfer;", "3.png;Hund;"]
    text = first + "\r\n".join(lines) + "\r\n"
    path = tmp_path / f"m.csv{suffix}"
    path.write_bytes(compressed(text.encode(encoding), suffix))
    to_beetle = Fate("relabel", "Käfer", None, 0.5, 0.5)
    stays = Fate(None, "Hund", None, 0.5, 0.5)
    write_run(tmp_path / "run", path, [stays, to_beetle, stays, stays])
    export(tmp_path / "run", tmp_path / f"out.csv{suffix}", format="own")
    from labelfix.data.table_text import read_table_text

    before, after = read_table_text(path), read_table_text(tmp_path / f"out.csv{suffix}")
    expected = bytes(before.data).decode().replace("1.png;Hund", "1.png;Käfer")
    assert bytes(after.data).decode() == expected
    assert (after.encoding, after.mark, after.compression) == (
        before.encoding, before.mark, before.compression,
    )  # fmt: skip
    if not suffix:
        wanted = text.replace("1.png;Hund", "1.png;Käfer").encode(encoding)
        assert (tmp_path / "out.csv").read_bytes() == wanted
