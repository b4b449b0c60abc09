"""What is scraped: prometheus-client's own writers and parsers find the same in it."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as open_writer, parser as open_parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from mad.metrics import Metrics
from mad.metrics.exposition import exposition
from mad.types import Alert, Explanation
from tests.unit.test_metrics import busy, metrics, registry, verdict

__all__ = ["busy", "metrics", "registry"]

OPEN = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"


def alert(p_value: float, *, surprise: float, alert_id: str) -> Alert:
    return Alert(
        alert_id=alert_id,
        time=datetime(2026, 3, 1, tzinfo=UTC),
        model="demo",
        baseline="default",
        version=1,
        request_id="r",
        input_index=0,
        input_digest="d",
        verdict=verdict(p_value, surprise=surprise),
        explanation=Explanation((), 0.0),
    )


def ours(families: Iterable[Metric]) -> list[tuple[str, str, str, list[Sample]]]:
    """Leave out the process itself, which goes on using memory."""
    return [
        (
            family.name,
            family.type,
            family.documentation,
            [one._replace(exemplar=None) for one in family.samples],
        )
        for family in families
        if family.name.startswith(("mad_", "grpc_"))
    ]


def parsed(written: str) -> Iterable[Metric]:
    """Parse OpenMetrics; the library left the types out."""
    found: Iterable[Metric] = open_parser.text_string_to_metric_families(written)  # type: ignore[no-untyped-call]
    return found


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(
    ("accept", "library", "parse"),
    [
        ("", generate_latest, text_string_to_metric_families),
        (OPEN, open_writer.generate_latest, parsed),
    ],
    ids=["text", "open"],
)
def test_the_librarys_own_writer_says_the_same(
    registry: CollectorRegistry,
    accept: str,
    library: Callable[[CollectorRegistry], bytes],
    parse: Callable[[str], Iterable[Metric]],
) -> None:
    written, content_type = exposition(registry, accept)
    assert ours(parse(written.decode())) == ours(parse(library(registry).decode()))
    assert b"process_cpu_seconds_total" in written
    assert ("openmetrics" in content_type) == bool(accept)
    assert written.endswith(b"# EOF\n") == bool(accept)


def test_names_that_need_escaping_come_back_as_they_were() -> None:
    registry = CollectorRegistry()
    name = 'a "b" \\ c\nd\\n'
    Metrics(registry, model=name, false_alarm_rates=[0.01])
    for accept, parse in (
        ("", text_string_to_metric_families),
        (OPEN, parsed),
    ):
        (depth,) = (
            family.samples[0]
            for family in parse(exposition(registry, accept)[0].decode())
            if family.name == "mad_queue_depth"
        )
        assert depth.labels == {"model": name}


def test_the_alert_of_a_bucket_is_an_exemplar_where_those_can_be_written(
    metrics: Metrics, registry: CollectorRegistry
) -> None:
    found = [verdict(0.003, surprise=7.2), verdict(0.0005, surprise=9.0), verdict(0.5)]
    metrics.scored("default", "live", found)
    for p_value, surprise, alert_id in (
        (0.003, 7.2, "first"),
        (0.003, 7.4, "second"),
        (0.0005, 9.0, "third"),
    ):
        metrics.exemplified_by(alert(p_value, surprise=surprise, alert_id=alert_id))
    written = exposition(registry, OPEN)[0].decode()
    exemplars = {
        (sample.name, sample.labels["le"]): sample.exemplar.labels["alert_id"]
        for family in parsed(written)
        for sample in family.samples
        if sample.exemplar
    }
    assert exemplars == {
        ("mad_surprise_shannons_bucket", "7.5"): "second",
        ("mad_surprise_shannons_bucket", "9.0"): "third",
        ("mad_p_value_bucket", "0.003"): "second",
        ("mad_p_value_bucket", "0.0005"): "third",
    }
    text, content_type = exposition(registry, "text/plain")
    assert b"alert_id" not in text
    assert content_type.startswith(CONTENT_TYPE_LATEST.partition(";")[0])


def test_a_line_that_was_written_before_is_written_anew_once_it_changed(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.scored("default", "live", [verdict(0.5)])
    exposition(registry, OPEN)
    metrics.scored("default", "live", [verdict(0.5)])
    metrics.exemplified_by(alert(0.5, surprise=1.0, alert_id="found"))
    after = exposition(registry, OPEN)[0].decode()
    lines = [one for one in after.splitlines() if one.startswith("mad_p_value_bucket")]
    line = next(one for one in lines if 'alert_id="found"' in one)
    assert line.partition(" # ")[0].endswith(" 2.0")
    assert 'alert_id="found"' not in exposition(registry, "")[0].decode()
    assert 'alert_id="found"' in exposition(registry, OPEN)[0].decode()
