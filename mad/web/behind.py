"""What is behind the page: what it shows, who looks, what they can do; all from any thread."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, final

from mad.alerts.values import Disposition, Incident, Recorded, Wanted
from mad.baseline.bundle import Baseline
from mad.baseline.store import Entry
from mad.rendering.base import Shown


@final
@dataclass(frozen=True, kw_only=True)
class View:
    """What the page shows besides metrics.

    ``ready`` says whether requests would be answered. ``alerts`` returns one page of so many and
    the token of the next, ``alert`` one by its id, and ``incidents`` at most so many that are open,
    those last seen first; they raise AlertLogError, NotFoundError and InputError as the log does.
    ``baselines`` returns those that score here, the one that answers by default first. ``versions``
    returns those of one name in the store, newest first, none for a name that is not there; it
    raises BaselineError for a store that cannot be read. ``trusted`` returns what there is to see
    of some rows of the trusted data of a version of a baseline, of none where nothing shows inputs.
    """

    model: str
    ready: Callable[[], bool]
    alerts: Callable[[Wanted, int, str], tuple[Sequence[Recorded], str]]
    alert: Callable[[str], Recorded]
    incidents: Callable[[int], Sequence[Incident]]
    baselines: Callable[[], Sequence[Baseline]]
    versions: Callable[[str], Sequence[Entry]]
    trusted: Callable[[str, int, Sequence[int]], Mapping[int, Shown]]


Deed: TypeAlias = Literal["read", "acknowledge", "promote"]


@final
@dataclass(frozen=True)
class Visitor:
    """Somebody who looks; ``name`` is empty where nobody was asked.

    ``credential`` stands for the token that was shown, and is empty without one.
    """

    name: str
    credential: bytes
    deeds: frozenset[Deed]


@final
@dataclass(frozen=True, kw_only=True)
class Entrance:
    """Who may come in.

    ``is_asking`` says whether anybody is asked who they are. ``credential`` returns what stands for
    the token in authorization headers, and ``visitor`` who shows it; both raise
    UnauthenticatedError for a token that is nobody's, or no longer.
    """

    is_asking: Callable[[], bool]
    credential: Callable[[Sequence[str]], bytes]
    visitor: Callable[[bytes], Visitor]


class Actions(Protocol):
    """What visitors can do, each for who shows a credential; may take as long as a model runs.

    All raise UnauthenticatedError, ForbiddenError, and a MadError that says why it is not done.
    """

    def acknowledge(  # what was found, and by whom
        self,
        credential: bytes,
        *,
        alert_id: str = "",
        incident_id: str = "",
        disposition: Disposition,
        comment: str,
        request_id: str,
    ) -> None:
        """Record what an alert, or every alert of an incident, was found to be."""
        ...

    def promote(self, credential: bytes, revision: str, expected: int | None) -> None:
        """Make a version the active one in place of the one expected."""
        ...

    def go_back(self, credential: bytes, name: str, expected: int | None) -> None:
        """Make the version before the one expected the active one again."""
        ...


@final
@dataclass(frozen=True)
class Behind:
    """All that is behind the page."""

    view: View
    entrance: Entrance
    actions: Actions
