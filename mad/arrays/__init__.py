"""Named arrays on disk, or in memory: the inputs a baseline is fitted on, read a few at a time."""

from mad.arrays.files import open_dataset
from mad.arrays.table import Table

__all__ = ["Table", "open_dataset"]
