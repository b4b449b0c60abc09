"""The versions of a store as folders of files: which are there, what they hold, how one is made.

ROOT/NAME/1/arrays.safetensors, manifest.json    a version, which is there once its manifest is
ROOT/NAME/1/deleted                              the mark of a version that is no more

A number is never used again: neither that of a deleted version nor, at a URL, that of a fit which
was killed while it wrote.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from mad.baseline import format as bundle_format
from mad.baseline.bundle import Baseline, Provenance
from mad.baseline.files import Files, reason
from mad.errors import BaselineError, BaselineNotFoundError, ConfigError

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DELETED: Final = "deleted"
_CONTENT: Final = (bundle_format.MANIFEST, bundle_format.ARRAYS)


@final
@dataclass(frozen=True)
class Versions:
    """The folders of all versions in some files; ``root`` is for messages."""

    files: Files
    root: Path | str

    def prepare(self, name: str) -> None:
        """Make the place of a baseline's versions; ConfigError as ``BaselineStore.prepare``."""
        if not NAME.fullmatch(name):
            raise ConfigError(f"baseline name {name!r} must match {NAME.pattern}")
        with self.writing(name):
            self.files.prepare(name)

    def names(self) -> list[str]:
        """Return the names of all baselines."""
        return sorted(filter(NAME.fullmatch, self._listed("")))

    def numbers(self, name: str) -> frozenset[int]:
        """Return the versions of a name that are there."""
        numbers = [int(one) for one in self._listed(name) if one.isdecimal()]
        return frozenset(number for number in numbers if self.has(name, number))

    def has(self, name: str, version: int) -> bool:
        """Say whether a version is there."""
        found = self._listed(f"{name}/{version}")
        return bundle_format.MANIFEST in found and _DELETED not in found

    def check(self, name: str, version: int) -> None:
        """Raise BaselineNotFoundError for a version that is not there."""
        if not self.has(name, version):
            raise BaselineNotFoundError(f"there is no baseline {name}@{version} in {self.root}")

    def read(self, name: str, version: int, file: str) -> bytes:
        """Read one file of a version; BaselineError if it cannot be."""
        path = f"{name}/{version}/{file}"
        try:
            return self.files.read(path)
        except OSError as cause:
            raise BaselineError(
                f"cannot read {self.root}/{path}: {reason(cause)}; restore it, or name another"
            ) from cause

    def add(self, baseline: Baseline, provenance: Provenance) -> Baseline:
        """Write the next version of the baseline's name; return it with its number."""
        name = baseline.manifest.name
        with self.writing(name):
            while True:
                numbers = [int(one) for one in self.files.names(name) if one.isdecimal()]
                version = max(numbers, default=0) + 1
                saved = replace(baseline, manifest=replace(baseline.manifest, version=version))
                content = bundle_format.encode(saved, provenance)
                if self.files.add(f"{name}/{version}", content):
                    return saved

    def remove(self, name: str, version: int, *, check_free: Callable[[], None]) -> None:
        """Mark a version as deleted, unless ``check_free`` refuses, and remove its files.

        One whose removal was cut off is removed to the end.
        """
        folder = f"{name}/{version}"
        with self.writing(name):
            found = self._listed(folder)
            if _DELETED not in found or not found & set(_CONTENT):
                self._mark(name, version, check_free)
            for file in _CONTENT:
                self.files.remove(f"{folder}/{file}")

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Turn an OSError into a ConfigError that says what to do."""
        try:
            yield
        except OSError as cause:
            raise ConfigError(
                f"cannot write the baseline store {self.root}/{name}: {reason(cause)}; make room, "
                "or set baseline.store to a place that can be written"
            ) from cause

    def _mark(self, name: str, version: int, check_free: Callable[[], None]) -> None:
        self.check(name, version)
        check_free()
        mark = f"{name}/{version}/{_DELETED}"
        self.files.write(mark, b"\n")
        try:
            # An alias may have been pointed at it meanwhile; whoever moves one looks at the mark.
            check_free()
        except BaseException:
            self.files.remove(mark)
            raise

    def _listed(self, folder: str) -> frozenset[str]:
        try:
            return self.files.names(folder)
        except OSError as cause:
            raise ConfigError(
                f"cannot read the baseline store {self.root}: {reason(cause)}"
            ) from cause
