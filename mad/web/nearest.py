"""The trusted inputs an alert is nearest to: which, by what, and what there is to see of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from mad.alerts.values import Recorded
from mad.errors import NotFoundError
from mad.rendering.base import Blank, Picture, Shown
from mad.types import Alert, Site
from mad.web.behind import View


@final
@dataclass(frozen=True)
class Near:
    """A trusted row, the sites at which it is nearest, and what there is to see of it."""

    row: int
    sites: tuple[Site, ...]
    shown: Shown


@final
@dataclass(frozen=True)
class Nearest:
    """Every row an alert names, or the one reason why none of them is to be seen."""

    near: Sequence[Near]
    reason: str = ""


def nearest(view: View, alert: Alert) -> Nearest:
    """Return what there is to see of the trusted rows that an alert names."""
    named = rows(alert)
    shown = view.trusted(alert.baseline, alert.version, tuple(named))
    reasons = {one.reason for one in shown.values() if isinstance(one, Blank)}
    if len(reasons) == 1 and all(isinstance(one, Blank) for one in shown.values()):
        return Nearest((), reasons.pop())
    return Nearest([Near(row, sites, shown[row]) for row, sites in named.items() if row in shown])


def rows(alert: Alert) -> Mapping[int, tuple[Site, ...]]:
    """Return the trusted rows that an alert names, and at which sites, in the order of its page."""
    found: dict[int, dict[Site, None]] = {}
    for site, neighbour in alert.explanation.nearest.items():
        found.setdefault(neighbour.row, {})[site] = None
    for charge in alert.explanation.charges:
        if charge.term == "neighbours":
            found.setdefault(charge.index, {})[charge.site] = None
    return {row: tuple(sites) for row, sites in found.items()}


def picture(view: View, recorded: Recorded, row: int) -> Picture:
    """Return the picture of a row; NotFoundError if the alert does not name it, or has none."""
    alert = recorded.alert
    # All are asked for, as on the page: if one is not what it was, none is shown.
    found = view.trusted(alert.baseline, alert.version, tuple(rows(alert))).get(row)
    if isinstance(found, Picture):
        return found
    raise NotFoundError(f"alert {alert.alert_id} has no picture of trusted row {row}")
