"""What happens to alerts once they are raised, and the series that each event moves."""

from collections.abc import Mapping
from typing import Final, final

from mad.metrics.counter import Counter
from mad.metrics.gauge import Gauge
from mad.metrics.histogram import Histogram

DISPOSITIONS: Final = ("true_positive", "false_positive", "expected")


@final
class AlertMetrics:
    """The series of one model's alert log; each exists from the start."""

    def __init__(
        self,
        counters: Mapping[str, Counter],
        gauges: Mapping[str, Gauge],
        histograms: Mapping[str, Histogram],
        *,
        model: str,
    ) -> None:
        self._acknowledged = {
            disposition: counters["mad_alerts_acknowledged_total"].labels(model, disposition)
            for disposition in DISPOSITIONS
        }
        self._errors = counters["mad_alert_log_errors_total"].labels(model)
        self._pending = gauges["mad_alert_log_pending"].labels(model)
        self._incidents = gauges["mad_incidents_open"].labels(model)
        self._append = histograms["mad_alert_log_append_seconds"].labels(model)

    def acknowledged(self, disposition: str, alerts: int) -> None:
        """A person said what so many alerts are."""
        self._acknowledged[disposition].inc(alerts)

    def appended(self, seconds: float, *, open_incidents: int) -> None:
        """The alert log was written; so many incidents are open since."""
        self._append.observe(seconds)
        self.incidents(open_incidents)

    def failed(self) -> None:
        """The alert log could not be written."""
        self._errors.inc()

    def pending(self, alerts: int) -> None:
        """So many alerts are raised and not yet in the log."""
        self._pending.set(alerts)

    def incidents(self, open_now: int) -> None:
        """So many incidents are open now."""
        self._incidents.set(open_now)
