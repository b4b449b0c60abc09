"""The series that calls move, whatever their method."""

from collections.abc import Mapping
from typing import final

from mad.metrics.counter import Counter
from mad.metrics.histogram import Histogram
from mad.metrics.table import CODES, Rpc


@final
class CallSeries:
    """The series of one method, kept at hand: finding them costs more than moving them."""

    def __init__(
        self, rpc: Rpc, counters: Mapping[str, Counter], histograms: Mapping[str, Histogram]
    ) -> None:
        self.started = counters["grpc_server_started_total"].labels(*rpc)
        self.received = counters["grpc_server_msg_received_total"].labels(*rpc)
        self.sent = counters["grpc_server_msg_sent_total"].labels(*rpc)
        self._rpc = rpc
        self._handled = counters["grpc_server_handled_total"]
        self._by_code = {code: self._handled.labels(*rpc, code) for code in CODES}
        self._seconds = histograms["grpc_server_handling_seconds"].labels(*rpc)

    def ended(self, code: str, seconds: float) -> None:
        """A call ended with a status such as ``OK``."""
        count = self._by_code.get(code)
        if count is None:
            count = self._by_code[code] = self._handled.labels(*self._rpc, code)
        count.inc()
        self._seconds.observe(seconds)


@final
class CallMetrics:
    """Events of calls."""

    def __init__(
        self, counters: Mapping[str, Counter], histograms: Mapping[str, Histogram]
    ) -> None:
        self._counters = counters
        self._histograms = histograms

    def of(self, rpc: Rpc) -> CallSeries:
        """Return the series of a method that this server has; they exist from now on."""
        return CallSeries(rpc, self._counters, self._histograms)
