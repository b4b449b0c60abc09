"""What an alias points at, and what it pointed at before, as lines of text."""

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final, get_args

from mad.errors import BaselineError

Alias: TypeAlias = Literal["active", "shadow"]
"""The version that alerts, and one beside it that scores and counts and never alerts."""

ALIASES: Final[tuple[Alias, ...]] = get_args(Alias)

Expected: TypeAlias = int | Literal["none", "any"]
"""What an alias must point at for a change to happen: a version, nothing, or whatever it does."""

_NOTHING: Final = "none"
_VERSION: Final = re.compile(r"[0-9]{1,9}")
_MAX_EARLIER: Final = 64


@final
@dataclass(frozen=True, slots=True)
class Pointer:
    """A version, or None for nothing, and the versions before it, the latest first.

    ``content`` is what was read; None stands for a pointer that was never written.
    """

    version: int | None = None
    earlier: tuple[int, ...] = ()
    content: bytes | None = None

    @staticmethod
    def parse(content: bytes | None, *, name: str) -> "Pointer":
        """Read lines; ``name`` is for messages. Raises BaselineError for anything else."""
        if content is None:
            return Pointer()
        first, *rest = content.decode(errors="replace").split() or [""]
        if not all(map(_VERSION.fullmatch, [*([] if first == _NOTHING else [first]), *rest])):
            raise BaselineError(f"{name} holds no version number; activate one again")
        version = None if first == _NOTHING else int(first)
        return Pointer(version, tuple(map(int, rest)), content)

    def moved_to(self, version: int | None) -> "Pointer":
        """Return it pointing elsewhere, with what it points at now among the earlier."""
        here = () if self.version is None else (self.version,)
        return _written(version, (*here, *self.earlier)[:_MAX_EARLIER])

    def back(self, *, known: frozenset[int]) -> "Pointer | None":
        """Return it pointing where it did before; None if nothing of that is known any more.

        To go back again goes further back.
        """
        for place, version in enumerate(self.earlier):
            if version in known and version != self.version:
                return _written(version, self.earlier[place + 1 :])
        return None

    def rewritten(self) -> "Pointer":
        """Return the same, written down; one that was never written becomes one to nothing."""
        return _written(self.version, self.earlier)

    def is_at(self, expected: Expected) -> bool:
        """Say whether it points at what is expected."""
        match expected:
            case "any":
                return True
            case "none":
                return self.version is None
            case version:
                return self.version == version


def _written(version: int | None, earlier: tuple[int, ...]) -> Pointer:
    lines = [_NOTHING if version is None else version, *earlier]
    return Pointer(version, earlier, "".join(f"{line}\n" for line in lines).encode())
