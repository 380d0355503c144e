"""Forms of data that labelfix does not read, named for what they are, each with the remedy."""

import re
from collections.abc import Sequence
from pathlib import Path

from labelfix.errors import DatasetError

_AS_TABLE = "save the table as CSV (UTF-8), JSON lines or Parquet"
_AS_FOLDER = "write the images into one folder a class, or into Parquet with a column of labels"
_NO_PICKLE = f"labelfix never loads pickles, which may run code: {_AS_FOLDER}"
_UNPACK = "unpack it, and give the folder"

_FORMS: dict[str, tuple[str, str]] = {
    ".xlsx": ("an Excel workbook", _AS_TABLE),
    ".xls": ("an Excel workbook", _AS_TABLE),
    ".xlsm": ("an Excel workbook", _AS_TABLE),
    ".ods": ("a spreadsheet", _AS_TABLE),
    ".npy": ("a NumPy array", f"{_AS_FOLDER}; probabilities are given with --pred-probs (.npz)"),
    ".npz": (
        "NumPy arrays",
        f"probabilities are given with --pred-probs; for images, {_AS_FOLDER}",
    ),
    ".pt": ("a PyTorch file", _NO_PICKLE),
    ".pth": ("a PyTorch file", _NO_PICKLE),
    ".ckpt": ("a PyTorch file", _NO_PICKLE),
    ".pkl": ("a pickle", _NO_PICKLE),
    ".pickle": ("a pickle", _NO_PICKLE),
    ".joblib": ("a pickle", _NO_PICKLE),
    ".tfrecord": ("TFRecord", _AS_FOLDER),
    ".tfrecords": ("TFRecord", _AS_FOLDER),
    ".mdb": ("LMDB", _AS_FOLDER),
    ".lmdb": ("LMDB", _AS_FOLDER),
    ".h5": ("HDF5", _AS_FOLDER),
    ".hdf5": ("HDF5", _AS_FOLDER),
    ".mat": ("a MATLAB file", _AS_FOLDER),
    ".sqlite": ("an SQLite database", _AS_TABLE),
    ".sqlite3": ("an SQLite database", _AS_TABLE),
    ".db": ("a database", _AS_TABLE),
    ".feather": ("Arrow", "write it as Parquet"),
    ".arrow": ("Arrow", "give the folder that save_to_disk wrote, or write it as Parquet"),
    ".ipc": ("Arrow", "write it as Parquet"),
    ".orc": ("ORC", "write it as Parquet"),
    ".avro": ("Avro", "write it as Parquet"),
    ".rec": ("RecordIO", _AS_FOLDER),
    ".beton": ("an FFCV file", _AS_FOLDER),
    ".tgz": ("a compressed tar", _UNPACK),
    ".tbz2": ("a compressed tar", _UNPACK),
    ".txz": ("a compressed tar", _UNPACK),
    ".rar": ("a RAR archive", _UNPACK),
    ".7z": ("a 7-Zip archive", _UNPACK),
    ".txt": ("plain text", "if it is a table, end its name in .csv or .tsv"),
    ".xml": ("XML", "write a CSV file with the columns image and label"),
    ".yaml": ("YAML", "write a CSV file with the columns image and label"),
    ".yml": ("YAML", "write a CSV file with the columns image and label"),
}
_TEXT = _FORMS[".txt"][1]
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_TFRECORD = re.compile(r"(?i)(?:^|/)[^/]*\.tfrecords?(?:-\d+(?:-of-\d+)?)?$")
_ADDRESS = re.compile(
    r"(?i)(?:^|/)(https?|ftp|s3a?|gs|gcs|hf|az|abfss?|wasbs?|hdfs|kaggle):/{1,2}[^/]"
)
_IDX = re.compile(r"(?i)-(?:idx[13]-ubyte|ubyte)(?:\.gz)?$")


def refuse_address(path: Path) -> None:
    """Refuse an address of the network, which looks like a path that is not there.

    Raises:
        DatasetError: It is one.
    """
    found = _ADDRESS.search(path.as_posix())
    if found:
        address = path.as_posix()[found.start(1) :]
        shown = re.sub(r":/+", "://", address, count=1)
        raise DatasetError(
            f"{shown} is an address that labelfix does not read data from",
            hint="download the data first, and give the folder; s3://, gs://, hf:// and az:// are "
            "read, from Python as text",
        )


def refuse_foreign_file(path: Path) -> None:
    """Refuse a file whose name tells that it is something labelfix does not read.

    Raises:
        DatasetError: It does.
    """
    found = _form_of(path.name)
    if found is not None:
        what, remedy = found
        raise DatasetError(f"{path} is {what}, which labelfix does not read", hint=remedy)


def refuse_foreign_folder(root: Path, names: Sequence[str]) -> None:
    """Refuse a folder whose files are all of a form that labelfix does not read.

    Args:
        root: The folder.
        names: Its files, relative to it; none of them is an image.

    Raises:
        DatasetError: They are.
    """
    found = [form for name in names if (form := _form_of(name)) is not None and form[1] != _TEXT]
    if not found or len(found) * 2 < len(names):
        return
    what, remedy = found[0]
    raise DatasetError(f"{root} holds {what}, which labelfix does not read", hint=remedy)


def _form_of(name: str) -> tuple[str, str] | None:
    if _TFRECORD.search(name):
        return _FORMS[".tfrecord"]
    if _IDX.search(name):
        return "an IDX file, as MNIST has it", _AS_FOLDER
    path = Path(name.lower())
    if path.suffix in _COMPRESSED:
        inner = Path(path.stem).suffix
        if inner == ".tar":
            return "a compressed tar", _UNPACK
        return f"packed {inner or 'data'}", "unpack it, and give the file"
    return _FORMS.get(path.suffix)
