"""What is behind the page: what it shows, as functions that are asked afresh from any thread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from mad.alerts.values import Incident, Recorded, Wanted
from mad.baseline.bundle import Baseline
from mad.baseline.store import Entry


@final
@dataclass(frozen=True, kw_only=True)
class View:
    """What the page shows besides metrics.

    ``ready`` says whether requests would be answered. ``alerts`` returns one page of so many and
    the token of the next, ``alert`` one by its id, and ``incidents`` at most so many that are open,
    those last seen first; they raise AlertLogError, NotFoundError and InputError as the log does.
    ``baselines`` returns those that score here, the one that answers by default first. ``versions``
    returns those of one name in the store, newest first, none for a name that is not there; it
    raises BaselineError for a store that cannot be read.
    """

    model: str
    ready: Callable[[], bool]
    alerts: Callable[[Wanted, int, str], tuple[Sequence[Recorded], str]]
    alert: Callable[[str], Recorded]
    incidents: Callable[[int], Sequence[Incident]]
    baselines: Callable[[], Sequence[Baseline]]
    versions: Callable[[str], Sequence[Entry]]
