"""The columns of a report that is not written yet: made a block of rows at a time.

Texts, labels by name and copies of the right type take many times what an audit knows of a sample,
so they exist for a block alone: while it is written, or looked at.

Letters: N rows of the report.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ColumnMaker: TypeAlias = Callable[[slice], "pa.Array | pa.ChunkedArray"]
"""Returns the cells of a column in some rows, of which a slice names the first and the last."""


@dataclass(frozen=True, slots=True, eq=False)
class MadeColumns:
    """The N rows of a report, as `labelfix.report.stored.StoredColumns` has those on disk.

    Args:
        size: N.
        schema: The columns, in the order in which they are told.
        makers: What makes each of them.
        step: Rows of a block at most.
    """

    size: int
    schema: pa.Schema
    makers: Mapping[str, ColumnMaker]
    step: int

    def __len__(self) -> int:
        """Return N."""
        return self.size

    def block(self, start: int, stop: int, names: Sequence[str] | None = None) -> pa.Table:
        """Return some rows of columns, all by default.

        Args:
            start: The first row.
            stop: One behind the last; rows behind the end of the report are left out.
            names: The columns.
        """
        schema = self.schema if names is None else pa.schema([self.schema.field(n) for n in names])
        rows = slice(start, min(stop, self.size))
        return pa.Table.from_arrays(
            [self.makers[name](rows) for name in schema.names], schema=schema
        )

    def batches(
        self, names: Sequence[str], *, as_codes: bool = False
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the row at which it begins, and a batch, block by block.

        Args:
            names: The columns.
            as_codes: Whether columns of text may be dictionary arrays; here they are none.
        """
        for start in range(0, self.size, self.step):
            place = start
            for batch in self.block(start, start + self.step, names).to_batches():
                yield place, batch
                place += len(batch)

    def read(self, names: Sequence[str] | None = None) -> pa.Table:
        """Return columns, all by default, in memory."""
        starts = range(0, max(self.size, 1), self.step)
        return pa.concat_tables([self.block(one, one + self.step, names) for one in starts])

    def take(self, rows: NDArray[np.integer], names: Sequence[str]) -> pa.Table:
        """Return some rows of some columns; only the blocks that hold them are made.

        Args:
            rows: ``(M,)`` in any order.
            names: The columns.

        Raises:
            IndexError: There is no such row.
        """
        wanted = np.asarray(rows, np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.size:
            raise IndexError("the report has no such row")
        found, place = np.unique(wanted, return_inverse=True)
        some = [self.block(0, 0, names)]
        for start in np.unique(found // self.step * self.step).tolist():
            first, last = np.searchsorted(found, [start, start + self.step])
            block = self.block(start, start + self.step, names)
            some.append(block.take(pa.array(found[first:last] - start)))
        return pa.concat_tables(some).take(pa.array(place))
