"""One baseline's page: its versions in the store, and what the one that scores is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from mad.baseline.bundle import Baseline
from mad.baseline.store import Entry
from mad.errors import NotFoundError
from mad.types import MEASURES, Measure, Site, Term
from mad.web.behind import View

_QUANTILES = (0.5, 0.9, 0.99)


@final
@dataclass(frozen=True, slots=True)
class Spread:
    """What one measure comes to among the trusted inputs of the reference, in bits."""

    measure: Measure
    median: float
    ninety: float
    ninety_nine: float


@final
@dataclass(frozen=True, slots=True)
class Accounted:
    """One part of the ledger, and the code that describes it."""

    site: Site
    term: Term
    code: str


@final
@dataclass(frozen=True, kw_only=True)
class Versions:
    """What the page shows. ``scoring`` is what scores here, None if that is no version of this.

    ``active`` is the version that the store's alias points at; None if there is none.
    """

    name: str
    entries: Sequence[Entry]
    scoring: Baseline | None
    active: Entry | None
    parts: Sequence[Accounted]
    spreads: Sequence[Spread]


def versions(view: View, name: str) -> Versions:
    """Gather what is known of a name; NotFoundError for one that is not in the store."""
    entries = view.versions(name)
    if not entries:
        raise NotFoundError(f"there is no baseline {name[:80]!r} in the store")
    scoring = next((one for one in view.baselines() if one.manifest.name == name), None)
    return Versions(
        name=name,
        entries=entries,
        scoring=scoring,
        active=next((entry for entry in entries if entry.is_active), None),
        parts=tuple(_parts(scoring)) if scoring else (),
        spreads=tuple(_spreads(scoring)) if scoring else (),
    )


def _parts(baseline: Baseline) -> Iterator[Accounted]:
    for part in baseline.parts:
        words = type(part.code).__name__.removesuffix("Code")
        yield Accounted(part.site, part.term, words)


def _spreads(baseline: Baseline) -> Iterator[Spread]:
    for measure, bits in zip(MEASURES, baseline.references, strict=True):
        ordered = bits.sort().values
        yield Spread(measure, *(_at(ordered.tolist(), share) for share in _QUANTILES))


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
