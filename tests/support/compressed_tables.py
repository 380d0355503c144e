"""Helpers of several tests, first written for test_table_text."""

import bz2
import gzip
import lzma

import pyarrow as pa


def compressed(data: bytes, suffix: str) -> bytes:
    packers = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    if suffix in packers:
        return packers[suffix](data)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, {".zst": "zstd", ".lz4": "lz4"}[suffix]) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()
