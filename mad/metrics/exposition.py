"""What Prometheus reads: a registry in; bytes, and the type of content they are, out.

OpenMetrics has exemplars, the text format has none; who scrapes says which it takes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from mad.metrics.family import Written


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Write every series as an ``Accept`` header asks for; return it with its content type."""
    encode, content_type = choose_encoder(accept)
    is_open = content_type.startswith("application/openmetrics-text")
    others: list[Metric] = []
    pieces: list[str] = []
    for metric in registry.collect():
        samples: object = metric.samples
        if isinstance(samples, Written):
            pieces.append(_head(metric, is_open=is_open))
            pieces += samples.texts(has_examples=is_open)
            pieces.append("\n")
        else:
            others.append(metric)
    # What the library exports comes last: it ends OpenMetrics as that has to end.
    return "".join(pieces).encode() + encode(_Rest(others)), content_type


def _head(metric: Metric, *, is_open: bool) -> str:
    counts_in_text = metric.type == "counter" and not is_open
    name = f"{metric.name}_total" if counts_in_text else metric.name
    text = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {text}\n# TYPE {name} {metric.type}"


@final
@dataclass(frozen=True)
class _Rest:
    """As much of a registry as is asked of one."""

    metrics: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics
