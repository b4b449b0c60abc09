"""The Prometheus series of one server: a table of them, and the events that move them."""

from mad.metrics.events import MAX_BASELINES, Metrics
from mad.metrics.table import TABLE, TRAFFIC, Rpc, Series, Traffic, Unscored

__all__ = ["MAX_BASELINES", "TABLE", "TRAFFIC", "Metrics", "Rpc", "Series", "Traffic", "Unscored"]
