"""What the address of a list of alerts asks for, and the address that asks for it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final, get_args
from urllib.parse import urlencode

from mad.alerts.values import Disposition, Wanted
from mad.errors import InputError

DISPOSITIONS: Final[tuple[Disposition, ...]] = get_args(Disposition)
_STATES: Final[Mapping[str, bool | None]] = {"": None, "open": False, "acknowledged": True}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The fields of the filter as they were written; empty ones ask for nothing."""

    baseline: str = ""
    incident: str = ""
    request: str = ""
    least_bits: str = ""
    state: str = ""
    page: str = ""

    @staticmethod
    def of(query: Mapping[str, str]) -> "Asked":
        """Read the fields there are, without spaces around them."""
        return Asked(
            **{
                name: query.get(name, "").strip()
                for name in ("baseline", "incident", "request", "least_bits", "state", "page")
            }
        )

    @property
    def is_narrowed(self) -> bool:
        """Whether it asks for some alerts only."""
        return self.wanted != Wanted()

    @property
    def wanted(self) -> Wanted:
        """What the log is asked; InputError for a field that cannot be."""
        if self.state not in (*_STATES, *DISPOSITIONS):
            raise InputError(
                f"state is {self.state[:80]!r}; use open, acknowledged, {', '.join(DISPOSITIONS)}, "
                "or leave it out"
            )
        return Wanted(
            baseline=self.baseline,
            incident_id=self.incident,
            request_id=self.request,
            least_surprise_bits=self._least(),
            is_acknowledged=_STATES.get(self.state),
            disposition=next((one for one in DISPOSITIONS if one == self.state), None),
        )

    def at(self, page: str) -> str:
        """Return the query that asks the same of another page; empty begins at the newest."""
        fields = {
            "baseline": self.baseline,
            "incident": self.incident,
            "request": self.request,
            "least_bits": self.least_bits,
            "state": self.state,
            "page": page,
        }
        return urlencode({key: value for key, value in fields.items() if value}, errors="replace")

    def _least(self) -> float:
        try:
            least = float(self.least_bits or 0)
        except ValueError:
            least = -1.0
        if not 0 <= least < float("inf"):
            raise InputError(f"least_bits is {self.least_bits[:80]!r}; write bits as a number")
        return least
