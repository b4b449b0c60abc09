"""Refused calls on record: at a pace that cannot fill a disk, and not lost when it is full."""

import resource
import signal
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from mad.audit import AuditLog, Record, records
from mad.metrics import Metrics
from mad.service.auth.failures import Failures
from tests.service.running import until


def now() -> datetime:
    return datetime(2026, 1, 2, tzinfo=UTC)


def told(path: Path) -> list[Record]:
    return list(records(path))


async def test_the_first_is_on_record_at_once_and_the_others_with_a_count(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditLog.open(path, clock=now)
    metrics = Metrics(CollectorRegistry(), model="m", false_alarm_rates=[0.01])
    failures = Failures(audit, metrics)
    failures.note("", "unknown", "a")
    await until(lambda: len(told(path)) == 1)
    for _ in range(50_000):
        failures.note("", "unknown", "b")
        failures.note("eve", "role", "c")
    await failures.close()
    audit.close()
    found = [(one.principal, one.subject, one.fields["count"]) for one in told(path)]
    assert found == [("", "a", 1), ("", "b", 50_000), ("eve", "c", 50_000)]


async def test_what_a_full_disk_refuses_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = AuditLog.open(path, clock=now)
    collectors = CollectorRegistry()
    failures = Failures(audit, Metrics(collectors, model="m", false_alarm_rates=[0.01]))

    def refused() -> float:
        return collectors.get_sample_value("mad_audit_log_errors_total", {"model": "m"}) or 0.0

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        failures.note("", "missing", "a")
        await until(lambda: refused() >= 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    failures.note("", "missing", "a")
    await failures.close()
    audit.close()
    assert sum(int(str(one.fields["count"])) for one in told(path)) == 2
