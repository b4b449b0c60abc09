"""Rows of the trusted data ─▶ what people see, for versions that were fitted on these very rows.

A bundle names trusted inputs by their rows, and the files may have changed since. So it keeps a
digest of each row it can name, and nothing is shown of a row that is not what it was.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

import torch

from mad.baseline.bundle import TrustedRows
from mad.errors import BaselineError, MadError
from mad.fit import row_digests
from mad.rendering.base import Blank, OneInput, Picture, Renderer, Shown, Words, read
from mad.types import Dataset, Inputs

MAX_KEPT: Final = 64
"""Pictures that are kept; each has a megabyte at most."""
MAX_VERSIONS: Final = 8

UNKNOWN: Final = Blank(
    "This version was fitted before digests of trusted inputs were kept, so there is no telling "
    "whether the trusted data are still those it was fitted on. Fit again to see them here."
)
CHANGED: Final = Blank(
    "The trusted data that the settings name are not those this version was fitted on, so none of "
    "them are shown."
)
UNREADABLE: Final = Blank("The trusted data cannot be read; the log of the server says why.")
GONE: Final = Blank("This version cannot be read any more, so what it was fitted on is unknown.")
FAILED: Final = Blank("The renderer failed on this input; the log of the server says why.")

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class TrustedInputs:
    """Shows trusted inputs of versions of a baseline. Safe to call from any thread.

    ``load`` returns which rows a version names, and raises BaselineError for one that cannot be
    read. ``open_data`` opens the trusted data, each time anew: files of whole arrays are held in
    memory no longer than it takes to read some rows.
    """

    render: Renderer
    open_data: Callable[[], Dataset]
    load: Callable[[str, int], TrustedRows]
    _kept: OrderedDict[tuple[str, int, int], Shown] = field(default_factory=OrderedDict)
    _versions: OrderedDict[tuple[str, int], TrustedRows] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def shown(self, name: str, version: int, rows: Sequence[int]) -> Mapping[int, Shown]:
        """Return what there is to see of some rows; once one is not what it was, of none."""
        with self._lock:
            wanted = {row: self._kept.get((name, version, row)) for row in rows}
            missing = sorted(row for row, found in wanted.items() if found is None)
            fresh = self._fresh(name, version, missing) if missing else {}
            if isinstance(fresh, Blank):
                return dict.fromkeys(rows, fresh)
            for row, found in fresh.items():
                self._keep((name, version, row), found)
            return {row: found or fresh[row] for row, found in wanted.items()}

    def try_out(self) -> str:
        """Render the first trusted input, and say what came of it; may raise what renderers do."""
        match read(self.render(_one(self.open_data().take(torch.tensor([0])), 0))):
            case Picture(png, width, height):
                return f"a picture of {width} by {height} pixels, {len(png)} bytes"
            case Words(text):
                return f"{len(text)} characters"

    def _fresh(self, name: str, version: int, rows: Sequence[int]) -> Mapping[int, Shown] | Blank:
        """Read and render; a blank stands for all rows."""
        try:
            known = self._digests(name, version)
        except BaselineError as error:
            _log.warning("trusted inputs not shown", extra={"error": str(error)})
            return GONE
        if not len(known.rows):
            return UNKNOWN
        try:
            data = self.open_data()
            if rows[-1] >= len(data):
                return CHANGED
            inputs = data.take(torch.tensor(rows))
        except MadError as error:
            _log.warning("trusted inputs not shown", extra={"error": str(error)})
            return UNREADABLE
        if not known.hold(rows, row_digests(inputs)):
            return CHANGED
        return {row: self._rendered(row, _one(inputs, place)) for place, row in enumerate(rows)}

    def _rendered(self, row: int, inputs: OneInput) -> Shown:
        try:
            return read(self.render(inputs))
        except Exception:  # noqa: BLE001  # the operator's code, by which no page must fail
            _log.exception("renderer failed", extra={"row": row})
            return FAILED

    def _digests(self, name: str, version: int) -> TrustedRows:
        known = self._versions.get((name, version))
        if known is None:
            known = self._versions[name, version] = self.load(name, version)
            if len(self._versions) > MAX_VERSIONS:
                self._versions.popitem(last=False)
        return known

    def _keep(self, key: tuple[str, int, int], found: Shown) -> None:
        self._kept[key] = found
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


def _one(inputs: Inputs, place: int) -> OneInput:
    return {name: array[place] for name, array in inputs.items()}
