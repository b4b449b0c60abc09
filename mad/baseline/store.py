"""Named, numbered, immutable bundles in one place, and which version of each is active.

ROOT/NAME/1/                  a version; ``versions`` says what is in it
ROOT/NAME/active, shadow      what an alias points at and, below, did before
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, final

from mad.baseline import format as bundle_format
from mad.baseline.bundle import UNKNOWN, Baseline, Manifest, Provenance
from mad.baseline.files import open_files, reason
from mad.baseline.pointer import ALIASES, Alias, Pointer
from mad.baseline.versions import NAME, Versions
from mad.errors import BaselineError, BaselineNotFoundError, ConflictError

_VERSION: Final = re.compile(r"[0-9]{1,9}")


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One version in a store; ``digest`` is the manifest's SHA-256."""

    manifest: Manifest
    digest: str
    aliases: tuple[Alias, ...] = ()
    provenance: Provenance = UNKNOWN

    @property
    def is_active(self) -> bool:
        """Whether it is the active version of its name."""
        return "active" in self.aliases


def parse_revision(revision: str) -> tuple[str, int | None]:
    """Split ``name`` or ``name@version``; None stands for the active version.

    Raises:
        BaselineNotFoundError: the text is neither.
    """
    name, at, version = revision.partition("@")
    if not NAME.fullmatch(name) or (at and not _VERSION.fullmatch(version)):
        raise BaselineNotFoundError(f"{revision[:80]!r} is no baseline; write name or name@version")
    return name, int(version) if at else None


@final
@dataclass(frozen=True)
class BaselineStore:
    """The bundles below a directory, or below a URL that fsspec opens.

    Methods that write raise ConfigError where the place cannot be written.
    """

    root: Path | str

    def prepare(self, name: str) -> None:
        """Make the place of a baseline's versions.

        Asked before a long fit, it says early that the result could not be kept.

        Raises:
            ConfigError: the name is none, or the place cannot be written.
        """
        self._versions.prepare(name)

    def save(
        self,
        baseline: Baseline,
        *,
        activate: bool = True,
        provenance: Provenance = UNKNOWN,
    ) -> Baseline:
        """Write the next version of the baseline's name and return it with its number.

        A crash leaves no half-written version.
        """
        self._versions.prepare(baseline.manifest.name)
        saved = self._versions.add(baseline, provenance)
        if activate:
            self.activate(saved.manifest.name, saved.manifest.version)
        return saved

    def load(self, name: str, version: int | None = None) -> Baseline:
        """Read one version, or the active one.

        Raises:
            BaselineNotFoundError: there is none such.
            BaselineError: its files are damaged, were changed, or are of another version.
        """
        number = self.active(name) if version is None else version
        self._versions.check(name, number)
        files = {
            file: self._versions.read(name, number, file)
            for file in (bundle_format.MANIFEST, bundle_format.ARRAYS)
        }
        baseline = bundle_format.decode(files, name=f"{name}@{number}")
        if baseline.revision != f"{name}@{number}":
            raise BaselineError(
                f"{self.place(name, number)} holds baseline {baseline.revision}; move it to its "
                "place"
            )
        return baseline

    def entries(self, name: str | None = None) -> tuple[Entry, ...]:
        """Return every version, by name, newest first."""
        names = self._versions.names() if name is None else [name]
        return tuple(entry for one in names for entry in self._entries(one))

    def entry(self, name: str, version: int) -> Entry:
        """Read one version's manifest alone. Raises BaselineError as ``load`` does."""
        self._versions.check(name, version)
        aliases = tuple(one for one in ALIASES if self.pointer(name, one).version == version)
        return self._entry(name, version, aliases)

    def place(self, name: str, version: int) -> str:
        """Say where a version is kept."""
        return f"{str(self.root).rstrip('/')}/{name}/{version}"

    def active(self, name: str) -> int:
        """Return the active version of a name; BaselineNotFoundError if none is."""
        version = self.pointer(name, "active").version
        if version is None:
            known = [one for one in self._versions.names() if self._versions.numbers(one)]
            raise BaselineNotFoundError(
                f"no active baseline {name!r} in {self.root}, only {known}; fit one with "
                "`mad fit`, or activate a version with `mad baselines`"
            )
        return version

    def pointer(self, name: str, alias: Alias) -> Pointer:
        """Read what an alias points at. Raises BaselineError for one that is damaged."""
        where = f"{name}/{alias}"
        try:
            return Pointer.parse(self._versions.files.cell(where), name=f"{self.root}/{where}")
        except OSError as cause:
            raise BaselineError(f"cannot read {self.root}/{where}: {reason(cause)}") from cause

    def move(self, name: str, alias: Alias, before: Pointer, after: Pointer) -> None:
        """Point an alias elsewhere, if it still is as it was read; of several movers, one succeeds.

        Raises:
            BaselineNotFoundError: the version is not there.
            ConflictError: somebody else moved the alias meanwhile.
        """
        if after.version is not None:
            self._versions.check(name, after.version)
        self._swap(name, alias, before, after)
        if after.version is not None and not self._versions.has(name, after.version):
            # Deleted since it was looked for; whoever deletes looks at aliases after the mark.
            self._swap(name, alias, after, before.rewritten())
            raise BaselineNotFoundError(f"{name}@{after.version} has just been deleted")
        if alias == "active":
            self._end_shadow(name, after)

    def activate(self, name: str, version: int) -> None:
        """Make a version the active one, whatever was; readers see the old number or the new."""
        self._versions.check(name, version)
        while (before := self.pointer(name, "active")).version != version:
            with suppress(ConflictError):
                self.move(name, "active", before, before.moved_to(version))

    def behind(self, name: str, before: Pointer) -> Pointer:
        """Return where an alias points after going back; BaselineNotFoundError if nowhere."""
        after = before.back(known=self._versions.numbers(name))
        if after is None:
            raise BaselineNotFoundError(
                f"no earlier active version of {name!r} is there to go back to; promote one"
            )
        return after

    def delete(self, name: str, version: int) -> None:
        """Remove a version for good; one whose removal was cut off is removed to the end.

        Raises:
            BaselineNotFoundError: there is none such.
            ConflictError: an alias points at it.
        """
        self._versions.remove(name, version, check_free=lambda: self._check_free(name, version))

    @cached_property
    def _versions(self) -> Versions:
        return Versions(open_files(self.root), self.root)

    def _entries(self, name: str) -> Iterator[Entry]:
        pointed = {alias: self.pointer(name, alias).version for alias in ALIASES}
        for number in sorted(self._versions.numbers(name), reverse=True):
            aliases = tuple(alias for alias, at in pointed.items() if at == number)
            try:
                yield self._entry(name, number, aliases)
            except BaselineError:
                if self._versions.has(name, number):
                    raise

    def _entry(self, name: str, version: int, aliases: tuple[Alias, ...]) -> Entry:
        content = self._versions.read(name, version, bundle_format.MANIFEST)
        read = bundle_format.decode_manifest(content, name=f"{name}@{version}")
        manifest, digest, provenance = read
        return Entry(manifest, digest, aliases, provenance)

    def _swap(self, name: str, alias: Alias, before: Pointer, after: Pointer) -> None:
        assert after.content is not None
        with self._versions.writing(name):
            is_done = self._versions.files.swap(f"{name}/{alias}", before.content, after.content)
        if not is_done:
            was = "none" if before.version is None else f"{name}@{before.version}"
            raise ConflictError(
                f"the {alias} version of {name!r} is no longer {was}; look at what it is now, and "
                "try again"
            )

    def _end_shadow(self, name: str, active: Pointer) -> None:
        """Stop shadowing a version that has become the active one."""
        before = self.pointer(name, "shadow")
        if before.version is not None and before.version == active.version:
            with suppress(ConflictError):
                self._swap(name, "shadow", before, before.moved_to(None))

    def _check_free(self, name: str, version: int) -> None:
        for alias in ALIASES:
            if self.pointer(name, alias).version == version:
                raise ConflictError(
                    f"{name}@{version} is the {alias} version; point {alias!r} at another first"
                )
