"""What happens to fits over the API, and the series that each event moves."""

from collections.abc import Mapping
from typing import Final, final

from mad.metrics.counter import Counter
from mad.metrics.histogram import Histogram

FIT_STATES: Final = ("queued", "running", "candidate", "failed", "cancelled")
REJECTED_REASONS: Final = ("invalid", "quarantined")


@final
class FitMetrics:
    """The series of fits of one model; each exists from the start."""

    def __init__(
        self, counters: Mapping[str, Counter], histograms: Mapping[str, Histogram], *, model: str
    ) -> None:
        self._jobs = {
            state: counters["mad_fit_jobs_total"].labels(model, state) for state in FIT_STATES
        }
        self._rejected = {
            reason: counters["mad_fit_samples_rejected_total"].labels(model, reason)
            for reason in REJECTED_REASONS
        }
        self._duration = histograms["mad_fit_duration_seconds"].labels(model)

    def came_to(self, state: str) -> None:
        """A job came to a state, such as ``queued``."""
        self._jobs[state].inc()

    def ran(self, seconds: float) -> None:
        """A fit ended by itself."""
        self._duration.observe(seconds)

    def rejected(self, reason: str, inputs: int) -> None:
        """Trusted inputs will not be learnt from; ``reason`` is one of the table's."""
        self._rejected[reason].inc(inputs)
