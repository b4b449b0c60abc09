"""A log of the first released format becomes one of the present, and keeps every alert."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from mad.alerts.log import AlertLog
from mad.alerts.tables import SCHEMA
from mad.errors import ConfigError
from tests.alerts.conftest import Shell
from tests.alerts.examples import ALERT, ids, numbered
from tests.postgres import Postgres

# What sqlite_master of a released log says.
FORMAT_1 = """
CREATE TABLE mad_alert_log_format (
    format INTEGER NOT NULL,
    PRIMARY KEY (format)
);
CREATE TABLE mad_alerts (
    sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    alert_id VARCHAR NOT NULL,
    time VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    baseline VARCHAR NOT NULL,
    version BIGINT NOT NULL,
    request_id VARCHAR NOT NULL,
    input_index BIGINT NOT NULL,
    input_digest VARCHAR NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (alert_id)
);
CREATE INDEX mad_alerts_baseline ON mad_alerts (baseline, sequence);
CREATE UNIQUE INDEX mad_alerts_retry ON mad_alerts
    (request_id, input_index, input_digest, baseline, version) WHERE request_id <> '';
CREATE TRIGGER mad_alerts_no_update BEFORE UPDATE ON mad_alerts
    BEGIN SELECT RAISE(ABORT, 'the alert log is append-only'); END;
CREATE TRIGGER mad_alerts_no_delete BEFORE DELETE ON mad_alerts
    BEGIN SELECT RAISE(ABORT, 'the alert log is append-only'); END;
INSERT INTO mad_alert_log_format (format) VALUES (1);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "alerts.db"
    with sqlite3.connect(path) as shell:
        shell.executescript(FORMAT_1)
        for number in range(1, 2501):
            write(shell, number, surprise_bits=number / 8)
    shell.close()
    return path


def write(shell: sqlite3.Connection, number: int, **verdict: float) -> None:
    shell.execute(
        "INSERT INTO mad_alerts VALUES (?, ?, ?, 'demo', 'default', 3, '', 0, 'c0ffee', ?)",
        (number, f"old{number}", "2026-03-01T10:30:00.000250+00:00", written_body(**verdict)),
    )


def written_body(**verdict: float) -> str:
    return json.dumps(
        {
            "verdict": {
                **asdict(ALERT.verdict),
                "parts": [part._asdict() for part in ALERT.verdict.parts],
                **verdict,
            },
            "explanation": asdict(ALERT.explanation),
        }
    )


def test_every_alert_of_an_older_log_is_kept_exactly(path: Path) -> None:
    log = AlertLog.open(f"sqlite:///{path}")
    kept, _ = log.page("", 10_000, "")
    expected = [
        replace(
            ALERT,
            alert_id=f"old{number}",
            verdict=replace(ALERT.verdict, surprise_bits=number / 8),
        )
        for number in range(2500, 0, -1)
    ]
    assert kept == expected
    assert log.append([replace(ALERT, alert_id="new")]) == ["new"]
    assert ids(log.page("", 2, "")[0]) == ["new", "old2500"]
    log.close()


def test_a_surprise_that_is_no_number_is_not_made_one(path: Path) -> None:
    with sqlite3.connect(path) as shell:
        write(shell, 2501, surprise_bits=float("nan"))
        write(shell, 2502, surprise_bits=float("inf"))
    AlertLog.open(f"sqlite:///{path}").close()
    query = "SELECT sequence, surprise_bits FROM mad_alerts WHERE sequence > 2499 ORDER BY sequence"
    found = shell.execute(query).fetchall()
    shell.close()
    assert found == [(2500, 312.5), (2501, None), (2502, float("inf"))]


def test_an_upgrade_that_fails_changes_nothing(path: Path) -> None:
    with sqlite3.connect(path) as shell:
        shell.execute("CREATE TABLE mad_incidents (mine INTEGER)")
        before = shell.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    with pytest.raises(ConfigError, match="mad_incidents already exists"):
        AlertLog.open(f"sqlite:///{path}")
    after = shell.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    shell.close()
    assert after == before


def test_an_upgraded_log_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for each in (path, new):
        AlertLog.open(f"sqlite:///{each}").close()
    assert triggers(path) == triggers(new)
    assert len(triggers(new)) == 6


def triggers(path: Path) -> list[tuple[str]]:
    shell = sqlite3.connect(path)
    found = shell.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
    try:
        return found.fetchall()
    finally:
        shell.close()


@pytest.mark.usefixtures("log")
def test_the_migrations_make_the_tables_that_the_program_expects(shell: Shell) -> None:
    with shell.engine.connect() as connection:
        options = {"version_table": "mad_alert_log_revision"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, SCHEMA) == []


def test_servers_that_open_one_log_at_once_make_it_once(log_url: str, shell: Shell) -> None:
    with ThreadPoolExecutor(4) as pool:
        logs = list(pool.map(AlertLog.open, [log_url] * 4))
    written = [log.append(numbered(2, baseline=str(at))) for at, log in enumerate(logs)]
    assert written == [["00", "01"], ["10", "11"], ["20", "21"], ["30", "31"]]
    assert len(logs[0].page("", 100, "")[0]) == 8
    for log in logs:
        log.close()
    assert shell("SELECT format FROM mad_alert_log_format") == [(2,)]


def test_a_server_of_an_older_version_that_still_runs_cannot_write(
    log: AlertLog, shell: Shell
) -> None:
    log.append(numbered(2))
    # It numbers by itself: beyond the head, or like another alert.
    with pytest.raises(DBAPIError, match=r"an older version of mad cannot write|duplicate key"):
        shell(
            "INSERT INTO mad_alerts (alert_id, time, model, baseline, version, request_id, "
            "input_index, input_digest, body) VALUES ('old', '', '', '', 1, '', 0, '', '')"
        )
    log.append(numbered(1, baseline="next"))
    assert ids(log.page("", 9, "")[0]) == ["next0", "default1", "default0"]


def test_an_older_log_in_postgresql_is_brought_up_too(postgres: Postgres) -> None:
    url = postgres.fresh_url()
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    tables, _, _ = FORMAT_1.partition("CREATE TRIGGER")
    tables = tables.replace("INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "BIGSERIAL PRIMARY KEY")
    with engine.begin() as shell:
        for statement in tables.split(";")[:-1]:
            shell.exec_driver_sql(statement)
        shell.exec_driver_sql("INSERT INTO mad_alert_log_format (format) VALUES (1)")
        shell.exec_driver_sql(
            "INSERT INTO mad_alerts (alert_id, time, model, baseline, version, request_id, "
            "input_index, input_digest, body) VALUES "
            "('old', '2026-03-01T10:30:00.000250+00:00', 'demo', 'default', 3, '', 0, 'c0ffee', "
            "%s)",
            (written_body(),),
        )
    engine.dispose()
    log = AlertLog.open(url)
    log.append([replace(ALERT, alert_id="new")])
    assert log.page("", 9, "")[0] == [replace(ALERT, alert_id=name) for name in ("new", "old")]
    log.close()


def test_a_log_of_a_newer_version_is_refused(log: AlertLog, log_url: str, shell: Shell) -> None:
    log.append([ALERT])
    shell("UPDATE mad_alert_log_format SET format = 99")
    with pytest.raises(
        ConfigError, match="has format 99, and this version of mad reads formats up to 2"
    ):
        AlertLog.open(log_url)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM mad_alerts",
        "UPDATE mad_alerts SET body = ''",
        "DELETE FROM mad_acknowledgements",
        "UPDATE mad_acknowledgements SET comment = 'never mind'",
        "DELETE FROM mad_incidents",
    ],
)
def test_a_database_shell_cannot_edit_the_log(log: AlertLog, shell: Shell, change: str) -> None:
    log.append(numbered(1))
    shell(
        "INSERT INTO mad_acknowledgements (alert_id, incident_id, through, alerts, disposition, "
        "comment, principal, time, request_id) "
        "VALUES ('default0', '', 1, 1, 'expected', '', '', '', '')"
    )
    shell(
        "INSERT INTO mad_incidents VALUES "
        "('i', 'demo', 'default', 7, '[]', 1, '', '', 1, 11.0, 'default0', TRUE)"
    )
    with pytest.raises(DBAPIError, match="the alert log is append-only"):
        shell(change)


def test_a_database_shell_cannot_empty_the_log_either(
    postgres: Postgres,
) -> None:
    url = postgres.fresh_url()
    log = AlertLog.open(url)
    log.append(numbered(1))
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with pytest.raises(DBAPIError, match="the alert log is append-only"), engine.begin() as shell:
        shell.execute(text("TRUNCATE mad_alerts"))
    engine.dispose()
    log.close()
