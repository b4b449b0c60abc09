"""Files in a directory of this machine, or of a volume that machines share.

A folder is written aside and renamed; a cell likewise, under a lock that processes share. Content
is flushed to disk before it is named, so that a crash leaves the old state or the new.
"""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import final

from mad.errors import BaselineError
from mad.tensors import check_fits, write_durably


@final
class LocalFiles:
    """The files below a directory, which need not be there yet."""

    def __init__(self, root: Path | str) -> None:
        self._root = Path(root)

    def names(self, folder: str) -> frozenset[str]:
        """Return what is directly in a folder; nothing for one that is not there."""
        try:
            return frozenset(path.name for path in (self._root / folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()

    def read(self, path: str) -> bytes:
        """Return a file's content; FileNotFoundError for none, BaselineError for a huge one."""
        place = self._root / path
        check_fits(place.stat().st_size, what=str(place), error=BaselineError)
        return place.read_bytes()

    def add(self, folder: str, files: Mapping[str, bytes]) -> bool:
        """Write a folder aside and rename it; False if its place is taken."""
        place = self._root / folder
        aside = place.with_name(f".{uuid.uuid4().hex}")
        try:
            aside.mkdir(parents=True)
            for name, content in files.items():
                write_durably(aside / name, content)
            _flush_directory(aside)
            if not _renamed(aside, place):
                return False
            _flush_directory(place.parent)
            return True
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def write(self, path: str, content: bytes) -> None:
        """Write a file aside and rename it."""
        place = self._root / path
        aside = place.with_name(f".{uuid.uuid4().hex}")
        try:
            write_durably(aside, content)
            aside.replace(place)
        finally:
            aside.unlink(missing_ok=True)
        _flush_directory(place.parent)

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""
        (self._root / path).unlink(missing_ok=True)

    def cell(self, path: str) -> bytes | None:
        """Return what a cell, which is a file, holds."""
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def swap(self, path: str, old: bytes | None, new: bytes) -> bool:
        """Replace a cell's content if it is ``old``, while no other process does so."""
        with self._locked(path):
            if self.cell(path) != old:
                return False
            self.write(path, new)
            return True

    def prepare(self, folder: str) -> None:
        """Make a folder and a file in it that goes away by itself."""
        home = self._root / folder
        home.mkdir(parents=True, exist_ok=True)
        _flush_directory(home.parent)
        with tempfile.TemporaryFile(dir=home):
            pass

    @contextmanager
    def _locked(self, path: str) -> Iterator[None]:
        # A file of its own: on network volumes a directory cannot be locked, and a cell is renamed.
        home = path.split("/", maxsplit=1)[0]
        descriptor = os.open(self._root / f".{home}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _renamed(aside: Path, place: Path) -> bool:
    """Move a directory, or say that another took the place first."""
    try:
        aside.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        return False
    return True


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
