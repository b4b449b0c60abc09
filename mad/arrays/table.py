"""Named arrays in memory."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Int64, Shaped
from torch import Tensor

from mad.errors import InputError
from mad.types import Inputs


@dataclass(frozen=True)
class Table:
    """A dataset held in memory; its arrays have one length.

    Raises:
        InputError: there is no array, or two differ in length.
    """

    arrays: Mapping[str, Shaped[Tensor, "..."]]

    def __post_init__(self) -> None:
        lengths = {name: len(array) if array.ndim else 0 for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1:
            raise InputError(f"a table needs arrays of one length, got {lengths}")

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(next(iter(self.arrays.values())))

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        """Copy some inputs."""
        return {name: array[rows] for name, array in self.arrays.items()}
