"""Files at any URL that fsspec opens, such as an object store, where nothing can be renamed.

A folder is claimed by a file that only one writer can create; then its files follow, in order, so
that the last one is the mark of a whole folder. A cell is a row of numbered files, such as
``active.000007``, of which the highest counts: to swap is to create the next, which again only one
writer can.

What this promises rests on the store's exclusive creation (fsspec's mode ``xb``). Where that is one
step, as in S3, GCS, Azure and memory, a swap is atomic and a killed writer leaves the old content;
a directory by ``file://`` is given such a step here, a hard link. Where a file is created first and
filled after, as by SFTP, readers wait ``HALF_WRITTEN_S`` for the rest and then count the file for
nothing: a writer that is stopped for longer, between the two, may overwrite a swap it did not see.

Numbers of a cell are taken once. One that was removed could be taken again, by a writer that looked
long ago and only now creates what was next then; so files go when the store's own clock says that
they are ``KEPT_S`` older than the newest.
"""

import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from mad.errors import ConfigError
from mad.tensors import write_durably

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CLAIM: Final = "claim"
HALF_WRITTEN_S: Final = 1.0
KEPT_S: Final = 86_400.0
_PAUSE_S: Final = 0.02
_DIGITS: Final = 6
_KEPT: Final = 16
"""Earlier contents of a cell that stay, however old."""
# In memory a file is looked for and made in two steps.
_CREATING: Final = threading.Lock()


@final
class RemoteFiles:
    """The files below one path of a file system."""

    def __init__(self, system: "AbstractFileSystem", root: str) -> None:
        self._system = system
        self._root = root.rstrip("/")
        protocols = system.protocol
        self._is_directory = "file" in ([protocols] if isinstance(protocols, str) else protocols)

    @staticmethod
    def open(url: str) -> "RemoteFiles":
        """Open a URL such as ``s3://bucket/baselines``; ConfigError says what is missing."""
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415  # an extra, for URLs alone
        except ImportError as cause:
            raise ConfigError(
                f"baseline.store = {url!r} is a URL; install mad[object-store], or name a directory"
            ) from cause
        try:
            # Listings must show what other processes wrote just now.
            system, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except (ImportError, ValueError, OSError) as cause:
            raise ConfigError(
                f"baseline.store = {url!r} cannot be opened ({cause}); install what its scheme "
                "needs, or name a directory"
            ) from cause
        return RemoteFiles(system, root)

    def names(self, folder: str) -> frozenset[str]:
        """Return what is directly in a folder; nothing for one that is not there."""
        with _told():
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._at(folder), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return frozenset()
            return frozenset(path.rstrip("/").rpartition("/")[2] for path in found)

    def read(self, path: str) -> bytes:
        """Return a file's content; FileNotFoundError if there is none."""
        with _told():
            content: bytes = self._system.cat_file(self._at(path))
            return content

    def add(self, folder: str, files: Mapping[str, bytes]) -> bool:
        """Claim a folder, then write its files in order; False if another claimed it first."""
        if not self._create(f"{folder}/{CLAIM}", b"\n"):
            return False
        try:
            for name, content in files.items():
                self.write(f"{folder}/{name}", content)
        except OSError:
            for name in reversed(list(files)):
                with suppress(OSError):
                    self.remove(f"{folder}/{name}")
            raise
        return True

    def write(self, path: str, content: bytes) -> None:
        """Write one file."""
        with _told():
            self._system.pipe_file(self._at(path), content)

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""
        with _told(), suppress(FileNotFoundError):
            self._system.rm_file(self._at(path))

    def cell(self, path: str) -> bytes | None:
        """Return the content of the cell's highest whole file."""
        return self._newest(path)[1]

    def swap(self, path: str, old: bytes | None, new: bytes) -> bool:
        """Create the next file of a cell, unless the content changes meanwhile."""
        number, content = self._newest(path)
        if content != old or not self._create(_numbered(path, number + 1), new):
            return False
        with suppress(OSError):
            self._forget(path, newest=number + 1)
        return True

    def prepare(self, folder: str) -> None:
        """Write a file and remove it."""
        probe = f"{folder}/.probe"
        with _told():
            self._system.makedirs(self._at(folder), exist_ok=True)
        self.write(probe, b"\n")
        self.remove(probe)

    def _forget(self, path: str, *, newest: int) -> None:
        """Remove what was in a cell long ago."""
        earlier = sorted(number for number in self._numbers(path) if number < newest - _KEPT)
        for number in earlier:
            if self._changed_s(path, newest) - self._changed_s(path, number) < KEPT_S:
                break
            self.remove(_numbered(path, number))

    def _changed_s(self, path: str, number: int) -> float:
        with _told():
            changed: datetime = self._system.modified(self._at(_numbered(path, number)))
            return changed.timestamp()

    def _newest(self, path: str) -> tuple[int, bytes | None]:
        """Return the highest number of a cell, and the content that counts."""
        deadline = time.monotonic() + HALF_WRITTEN_S
        while True:
            numbers = self._numbers(path)
            highest = max(numbers, default=0)
            is_late = time.monotonic() > deadline
            for number in sorted(numbers, reverse=True):
                try:
                    content = self.read(_numbered(path, number))
                except FileNotFoundError:
                    break  # removed since it was listed, so there are higher ones now
                if content.endswith(b"\n"):
                    return highest, content
                if not is_late:
                    break
            else:
                return highest, None
            time.sleep(_PAUSE_S)

    def _numbers(self, path: str) -> list[int]:
        folder, _, cell = path.rpartition("/")
        pairs = (name.rpartition(".") for name in self.names(folder))
        return [int(number) for name, _, number in pairs if name == cell and number.isdecimal()]

    def _create(self, path: str, content: bytes) -> bool:
        """Write a file that is not there; False if it is."""
        place = self._at(path)
        with _told(), _CREATING:
            self._system.makedirs(place.rpartition("/")[0], exist_ok=True)
            try:
                if self._is_directory:
                    _link(Path(place), content)
                    return True
                with self._system.open(place, "xb") as file:
                    file.write(content)
            except FileExistsError:
                return False
            return True

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}".rstrip("/")


def _link(place: Path, content: bytes) -> None:
    """Create a whole file; FileExistsError if there is one."""
    aside = place.with_name(f".{uuid.uuid4().hex}")
    try:
        write_durably(aside, content)
        os.link(aside, place)
    finally:
        aside.unlink(missing_ok=True)


def _numbered(path: str, number: int) -> str:
    return f"{path}.{number:0{_DIGITS}}"


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a store's own client raises into an OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as cause:
        raise OSError(f"{type(cause).__name__}: {cause}") from cause
