"""What a store needs of the place it is kept in."""

from collections.abc import Mapping
from typing import Protocol


class Files(Protocol):
    """Folders of small files, which several processes read and write.

    Paths are relative, with ``/``. Every method raises OSError when the place cannot be reached or
    written.
    """

    def names(self, folder: str) -> frozenset[str]:
        """Return what is directly in a folder; nothing for one that is not there."""
        ...

    def read(self, path: str) -> bytes:
        """Return a file's content; FileNotFoundError if there is none."""
        ...

    def add(self, folder: str, files: Mapping[str, bytes]) -> bool:
        """Make a new folder of files; False if it was made before, by whomever.

        Law: whoever sees the last of the files sees all of them, whole, whenever writers are
        killed.
        """
        ...

    def write(self, path: str, content: bytes) -> None:
        """Write one file of a folder that is there."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""
        ...

    def cell(self, path: str) -> bytes | None:
        """Return what a cell holds; None before its first ``swap``."""
        ...

    def swap(self, path: str, old: bytes | None, new: bytes) -> bool:
        """Put ``new`` into a cell that holds ``old``; False if it holds anything else.

        Readers see the old content or the new. Of several swaps from one content, one succeeds.
        Contents end in a line's end.
        """
        ...

    def prepare(self, folder: str) -> None:
        """Make sure that files can be written in a folder."""
        ...


def reason(cause: OSError) -> str:
    """Say in a few words why a place cannot be used."""
    return cause.strerror or str(cause) or type(cause).__name__
