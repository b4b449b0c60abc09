"""What becomes active in a server, and the series that each event moves."""

from collections.abc import Mapping
from typing import Final, final

from mad.metrics.counter import Counter

ALIASES: Final = ("active", "shadow")
OUTCOMES: Final = ("loaded", "failed")


@final
class PromotionMetrics:
    """The series of one model; each exists from the start."""

    def __init__(self, counters: Mapping[str, Counter], *, model: str) -> None:
        self._reloads = {
            (alias, outcome): counters["mad_baseline_reloads_total"].labels(model, alias, outcome)
            for alias in ALIASES
            for outcome in OUTCOMES
        }
        self._shadow_errors = counters["mad_shadow_errors_total"].labels(model)

    def followed(self, alias: str, outcome: str) -> None:
        """An alias moved in the store; the version it is at was ``loaded``, or that ``failed``."""
        self._reloads[alias, outcome].inc()

    def shadow_failed(self) -> None:
        """The shadow could not score what the active baseline did."""
        self._shadow_errors.inc()
