"""One ``.parquet`` file, read a row group at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from mad.arrays.shard import Column, common_length, dtype_of, select, spans
from mad.errors import ConfigError
from mad.types import Inputs

# Arrow's own names where they differ from everyone else's.
NAMES = {"halffloat": "float16", "float": "float32", "double": "float64"}


@final
@dataclass(frozen=True)
class ParquetShard:
    """A ``.parquet`` file of scalars and fixed-size lists (nested: more axes).

    One decoded row group is kept, so memory is that of the largest row group.
    """

    path: Path
    columns: Mapping[str, Column]
    starts: tuple[int, ...]
    file: pq.ParquetFile = field(repr=False)
    kept: dict[int, Mapping[str, Shaped[np.ndarray, "..."]]] = field(
        default_factory=dict, repr=False
    )

    @staticmethod
    def open(path: Path, names: Sequence[str]) -> "ParquetShard":
        """Read the footer."""
        try:
            file = pq.ParquetFile(path, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"{path} is truncated or no .parquet file: {error}") from error
        schema = file.schema_arrow
        chosen = select(names, found=schema.names, path=path)
        columns = {name: _column(schema.field(name).type, name, path=path) for name in chosen}
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        shapes = {name: (sum(counts), *column.shape) for name, column in columns.items()}
        common_length(shapes, path=path)
        return ParquetShard(path, columns, tuple(accumulate(counts, initial=0)), file)

    def __len__(self) -> int:
        """Return the number of inputs."""
        return self.starts[-1]

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        """Read some inputs; each row group they touch is decoded once."""
        pieces = [
            self._rows_of(group, rows[low:high] - self.starts[group])
            for group, (low, high) in enumerate(spans(rows, self.starts))
            if low < high
        ]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in self.columns}

    def _rows_of(self, group: int, rows: Int64[Tensor, " batch"]) -> Inputs:
        if group not in self.kept:
            self.kept.clear()
            self.kept[group] = self._decoded(group)
        # Arrow's memory is read-only, which torch warns about: numpy copies the rows first.
        return {
            name: torch.from_numpy(array[rows.numpy()]) for name, array in self.kept[group].items()
        }

    def _decoded(self, group: int) -> Mapping[str, Shaped[np.ndarray, "..."]]:
        try:
            table = self.file.read_row_group(group, columns=list(self.columns))
        except (OSError, pa.ArrowException) as error:
            raise ConfigError(f"{self.path}: row group {group} is damaged: {error}") from error
        return {
            name: self._array(table.column(name), name, first=self.starts[group])
            for name in self.columns
        }

    def _array(
        self, column: pa.ChunkedArray, name: str, *, first: int
    ) -> Shaped[np.ndarray, "..."]:
        values = column.combine_chunks()
        while True:
            if values.null_count:
                place = int(values.is_null().to_numpy(zero_copy_only=False).argmax())
                row = first + place * len(column) // len(values)
                raise ConfigError(
                    f"{self.path}: array {name!r} has no value in row {row}; remove that row"
                )
            if not pa.types.is_fixed_size_list(values.type):
                break
            values = values.flatten()
        numbers: np.ndarray = values.to_numpy(zero_copy_only=False)
        return numbers.reshape(len(column), *self.columns[name].shape)


def _column(kind: pa.DataType, name: str, *, path: Path) -> Column:
    shape: list[int] = []
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    return Column(dtype_of(NAMES.get(str(kind), str(kind)), path=path, array=name), tuple(shape))
