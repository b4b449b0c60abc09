"""The series that calls move, whatever their method."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from prometheus_client import Counter

from mad.metrics.histogram import Child, Histogram
from mad.metrics.table import CODES, Rpc


@final
@dataclass(frozen=True, slots=True)
class _Calls:
    """The series of one method, by status where a call has ended: finding them costs the most."""

    started: Counter
    handled: dict[str, Counter]
    seconds: Child


@final
class CallMetrics:
    """Events of calls."""

    def __init__(
        self, counters: Mapping[str, Counter], histograms: Mapping[str, Histogram]
    ) -> None:
        self._started = counters["grpc_server_started_total"]
        self._handled = counters["grpc_server_handled_total"]
        self._seconds = histograms["grpc_server_handling_seconds"]
        self._known: dict[Rpc, _Calls] = {}

    def started(self, rpc: Rpc) -> None:
        """A call of a method this server has came in."""
        self._of(rpc).started.inc()

    def handled(self, rpc: Rpc, *, code: str, seconds: float) -> None:
        """A call ended with a status such as ``OK``."""
        calls = self._of(rpc)
        if code not in calls.handled:
            calls.handled[code] = self._handled.labels(*rpc, code)
        calls.handled[code].inc()
        calls.seconds.observe(seconds)

    def _of(self, rpc: Rpc) -> _Calls:
        calls = self._known.get(rpc)
        if calls is None:
            calls = self._known[rpc] = _Calls(
                self._started.labels(*rpc),
                {code: self._handled.labels(*rpc, code) for code in CODES},
                self._seconds.labels(*rpc),
            )
        return calls
