"""Everything that is found out about dictionaries, as values."""

from dataclasses import dataclass
from typing import final

from mad.components.dictionaries.recovery import Recovery
from mad.report.dictionary.figures import Reconstruction, Use
from mad.report.dictionary.length import Length
from mad.report.dictionary.router import Router
from mad.report.dictionary.similarity import Similarity
from mad.report.dictionary.splice import Splice
from mad.types import Site, View


@final
@dataclass(frozen=True)
class Examined:
    """One dictionary: what it is, and its figures on held-out inputs.

    ``shrunk`` is the relative bias that training left and the weights make good, None of kinds that
    do not shrink. ``splice`` is None of a model that predicts nothing, ``truth`` where no
    directions are known, ``router`` of a dictionary without one.
    """

    view: View
    kind: str
    reads: tuple[Site, ...]
    writes: tuple[Site, ...]
    width: int
    coordinates: int
    shrunk: float | None
    reconstruction: Reconstruction
    use: Use
    length: Length
    splice: Splice | None
    truth: Recovery | None
    router: Router | None


@final
@dataclass(frozen=True)
class Comparison:
    """Two dictionaries: how alike their codes are, and which directions of one the other has.

    ``recovery`` looks for the living directions of ``first`` in ``second``, None where the two
    explain different sites, or vectors of different widths.
    """

    first: str
    second: str
    similarity: Similarity
    recovery: Recovery | None


@final
@dataclass(frozen=True)
class DictionaryReport:
    """All dictionaries of a deployment, and how they compare.

    ``skipped`` are views of decompositions that are no dictionaries.
    """

    model: str
    fitting_inputs: int
    held_out_inputs: int
    dictionaries: tuple[Examined, ...]
    comparisons: tuple[Comparison, ...]
    skipped: tuple[View, ...]
