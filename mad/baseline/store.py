"""Named, numbered, immutable bundles in a directory, and which version of each is active.

ROOT/NAME/1/manifest.json, arrays.safetensors      a version is written aside, then renamed
ROOT/NAME/active                                   the active version's number
"""

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from mad.baseline import format as bundle_format
from mad.baseline.bundle import UNKNOWN, Baseline, Manifest, Provenance
from mad.errors import BaselineError, BaselineNotFoundError, ConfigError
from mad.tensors import read_bytes, write_durably

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VERSION = re.compile(r"[0-9]{1,9}")
_ACTIVE = "active"


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One version in a store; ``digest`` is the manifest's SHA-256."""

    manifest: Manifest
    digest: str
    is_active: bool
    provenance: Provenance = UNKNOWN


def parse_revision(revision: str) -> tuple[str, int | None]:
    """Split ``name`` or ``name@version``; None stands for the active version.

    Raises:
        BaselineNotFoundError: the text is neither.
    """
    name, at, version = revision.partition("@")
    if not _NAME.fullmatch(name) or (at and not _VERSION.fullmatch(version)):
        raise BaselineNotFoundError(f"{revision[:80]!r} is no baseline; write name or name@version")
    return name, int(version) if at else None


@final
@dataclass(frozen=True)
class BaselineStore:
    """The bundles below one directory."""

    root: Path

    def prepare(self, name: str) -> Path:
        """Make the directory of a baseline's versions, and return it.

        Asked before a long fit, it says early that the result could not be kept.

        Raises:
            ConfigError: the name is none, or the directory cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"baseline name {name!r} must match {_NAME.pattern}")
        home = self.root / name
        try:
            home.mkdir(parents=True, exist_ok=True)
            _flush_directory(self.root)
            with tempfile.TemporaryFile(dir=home):
                return home
        except OSError as cause:
            raise ConfigError(
                f"cannot write the baseline store {home}: {cause.strerror}; make room, or set "
                "baseline.store to a directory that can be written"
            ) from cause

    def save(
        self,
        baseline: Baseline,
        *,
        activate: bool = True,
        provenance: Provenance = UNKNOWN,
    ) -> Baseline:
        """Write the next version of the baseline's name and return it with its number.

        A crash leaves no half-written version: files are flushed before the directory is renamed.
        """
        name = baseline.manifest.name
        home = self.prepare(name)
        try:
            saved = self._write(baseline, home, provenance)
            if activate:
                self.activate(name, saved.manifest.version)
        except OSError as cause:
            raise ConfigError(
                f"cannot write the baseline store {home}: {cause.strerror}"
            ) from cause
        return saved

    def load(self, name: str, version: int | None = None) -> Baseline:
        """Read one version, or the active one.

        Raises:
            BaselineNotFoundError: there is none such.
            BaselineError: its files are damaged, were changed, or are of another version.
        """
        number = self._active(name) if version is None else version
        home = self.root / name / str(number)
        if not home.is_dir():
            raise BaselineNotFoundError(f"there is no baseline {name}@{number} in {self.root}")
        files = {
            file: read_bytes(home / file, error=BaselineError)
            for file in (bundle_format.MANIFEST, bundle_format.ARRAYS)
        }
        baseline = bundle_format.decode(files, name=f"{name}@{number}")
        if baseline.revision != f"{name}@{number}":
            raise BaselineError(f"{home} holds baseline {baseline.revision}; move it to its place")
        return baseline

    def entries(self, name: str | None = None) -> tuple[Entry, ...]:
        """Return every version, by name, newest first."""
        names = sorted(home.name for home in self._homes()) if name is None else [name]
        return tuple(
            entry for one in names if (self.root / one).is_dir() for entry in self._versions(one)
        )

    def entry(self, name: str, version: int) -> Entry:
        """Read one version's manifest alone. Raises BaselineError as ``load`` does."""
        content = read_bytes(
            self.root / name / str(version) / bundle_format.MANIFEST, error=BaselineError
        )
        read = bundle_format.decode_manifest(content, name=f"{name}@{version}")
        manifest, digest, provenance = read
        has_active = (self.root / name / _ACTIVE).is_file()
        is_active = has_active and self._active(name) == version
        return Entry(manifest, digest, is_active, provenance)

    def activate(self, name: str, version: int) -> None:
        """Make a version the active one; readers see the old number or the new, never neither."""
        if not (self.root / name / str(version)).is_dir():
            raise BaselineNotFoundError(f"there is no baseline {name}@{version} in {self.root}")
        pointer = self.root / name / _ACTIVE
        aside = pointer.with_name(f".{uuid.uuid4().hex}")
        write_durably(aside, str(version).encode())
        aside.replace(pointer)
        _flush_directory(pointer.parent)

    def _write(self, baseline: Baseline, home: Path, provenance: Provenance) -> Baseline:
        aside = home / f".{uuid.uuid4().hex}"
        try:
            while True:
                numbers = [number for number, _ in _numbered(home)]
                version = max(numbers, default=0) + 1
                saved = replace(baseline, manifest=replace(baseline.manifest, version=version))
                aside.mkdir(exist_ok=True)
                for file, content in bundle_format.encode(saved, provenance).items():
                    write_durably(aside / file, content)
                _flush_directory(aside)
                if _renamed(aside, home / str(version)):
                    _flush_directory(home)
                    return saved
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _active(self, name: str) -> int:
        pointer = self.root / name / _ACTIVE
        if not pointer.is_file():
            known = sorted(home.name for home in self._homes() if _numbered(home))
            raise BaselineNotFoundError(
                f"no active baseline {name!r} in {self.root}, only {known}; fit one with "
                "`mad fit`, or activate a version with `mad baselines`"
            )
        try:
            return int(pointer.read_text())
        except ValueError as cause:
            raise BaselineError(f"{pointer} holds no version number; activate one again") from cause

    def _versions(self, name: str) -> Iterator[Entry]:
        for number, _ in sorted(_numbered(self.root / name), reverse=True):
            yield self.entry(name, number)

    def _homes(self) -> list[Path]:
        if not self.root.is_dir():
            return []
        return [
            home for home in self.root.iterdir() if home.is_dir() and _NAME.fullmatch(home.name)
        ]


def _numbered(home: Path) -> list[tuple[int, Path]]:
    return [(int(path.name), path) for path in home.iterdir() if path.name.isdecimal()]


def _renamed(aside: Path, place: Path) -> bool:
    """Move a directory, or say that another fit took the place first."""
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
