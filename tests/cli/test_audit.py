"""``mad audit`` on a log on disk."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mad.audit import AuditLog
from tests.cli.conftest import SETTINGS, Mad


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "mad.toml").write_text(SETTINGS)
    log = AuditLog.open(tmp_path / "audit.jsonl", clock=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    for version in (1, 2, 3):
        log.append(
            "baseline.promote", principal="ada", subject=f"tiny@{version}", fields={"gates": 4}
        )
    log.close()
    return tmp_path / "mad.toml"


def test_audit_shows_the_newest_records_and_says_that_all_are_whole(mad: Mad, config: Path) -> None:
    run = mad("audit", config, "--limit", 2)
    assert run.code == 0
    assert "baseline.promote" in run.out
    assert "tiny@3" in run.out
    assert "tiny@1" not in run.out
    assert "3 records, each follows the one before; head " in run.out


def test_audit_fails_when_a_record_was_edited(mad: Mad, config: Path) -> None:
    log = config.with_name("audit.jsonl")
    log.write_text(log.read_text().replace("tiny@1", "tiny@9"))
    run = mad("audit", config)
    assert run.code == 1
    assert "record 2 of" in run.err


def test_audit_fails_when_a_noted_record_is_gone(mad: Mad, config: Path) -> None:
    run = mad("audit", config, "--known", "f" * 64)
    assert run.code == 1
    assert "no record" in run.err
