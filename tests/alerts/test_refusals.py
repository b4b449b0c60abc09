"""The alert log refuses what it cannot keep alerts in, and never reads damage as alerts."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from mad.alerts.log import AlertLog
from mad.errors import AlertLogError, ConfigError
from tests.alerts.examples import numbered


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alerts.db"


@pytest.fixture
def log(path: Path) -> Iterator[AlertLog]:
    opened = AlertLog.open(f"sqlite:///{path}")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("alerts.db", "is not a database URL"),
        ("postgresql//me:secret@host", r"me:\*\*\*@host"),
        ("mysql://localhost/alerts", "'mysql' is not supported"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:////nowhere/at/all/alerts.db", "/nowhere/at/all does not exist"),
        ("sqlite:////", "cannot be opened"),
        ("postgresql+psycopg2://me:secret@localhost/alerts", r"\*\*\*@localhost.* psycopg2"),
    ],
)
def test_a_url_that_cannot_hold_a_log_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        AlertLog.open(url)


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    # Root may write anywhere but into the kernel's own tables.
    directory = tmp_path if os.geteuid() else Path("/proc/self")
    with pytest.raises(ConfigError, match="check that its directory is writable"):
        AlertLog.open(f"sqlite:///{directory}/alerts.db")


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 400)
    with pytest.raises(ConfigError, match="file is not a database"):
        AlertLog.open(f"sqlite:///{path}")


@pytest.mark.usefixtures("log")
def test_a_log_of_another_format_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as shell:
        shell.execute("UPDATE mad_alert_log_format SET format = 99")
    shell.close()
    with pytest.raises(
        ConfigError, match="has format 99, and this version of mad reads formats up to 2"
    ):
        AlertLog.open(f"sqlite:///{path}")


@pytest.mark.usefixtures("log")
def test_alerts_of_no_known_format_are_refused(path: Path) -> None:
    with sqlite3.connect(path) as shell:
        shell.execute("DROP TABLE mad_alert_log_format")
    shell.close()
    with pytest.raises(ConfigError, match="no such table: mad_alert_log_format"):
        AlertLog.open(f"sqlite:///{path}")


def damage(path: Path, *, start: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * (path.stat().st_size - start))


def test_a_damaged_log_is_refused(log: AlertLog, path: Path) -> None:
    log.append(numbered(200))
    log.close()
    damage(path, start=4096)
    with pytest.raises(ConfigError, match="malformed"):
        AlertLog.open(f"sqlite:///{path}")


def test_damage_is_not_read_as_alerts(log: AlertLog, path: Path) -> None:
    log.append(numbered(200))
    log.close()
    damage(path, start=path.stat().st_size // 2)
    with pytest.raises(AlertLogError, match="cannot be read: database disk image is malformed"):
        log.page("", 200, "")


def test_a_damaged_row_is_named(log: AlertLog, path: Path) -> None:
    log.append(numbered(1))
    with sqlite3.connect(path) as shell:
        shell.execute("DROP TRIGGER mad_alerts_no_update")
        shell.execute("UPDATE mad_alerts SET body = '{\"verdict\": 1}'")
    shell.close()
    with pytest.raises(AlertLogError, match="alert default0 in the alert log is damaged"):
        log.page("", 1, "")
