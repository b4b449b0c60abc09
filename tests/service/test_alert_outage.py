"""While the alert log cannot be written scoring goes on, and nothing within bounds is lost."""

import asyncio
import logging
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from mad.alerts.log import AlertLog
from mad.alerts.values import Retention, Wanted
from mad.client import request
from mad.errors import AlertLogError
from mad.metrics import Metrics
from mad.service.alert_spill import MAX_SPILL, Spill
from mad.service.alert_writer import ROWS_A_COMMIT, AlertWriter, UpkeepPlan
from tests.alerts.examples import ALERT, about, ids, numbered
from tests.postgres import Postgres, binaries
from tests.service.running import Running, anomalies, running, until
from tests.worlds import World

QUICK = UpkeepPlan(retry_s=0.05)


def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), model="tiny", false_alarm_rates=[])


def every(log: AlertLog) -> list[str]:
    return sorted(one.alert.request_id for one in log.listing(Wanted(), 10_000, "")[0])


async def score(service: Running, name: str) -> str:
    """Score one anomaly, and return the id of its alert; empty if it is not in the log."""
    answer = await service.client.score(request(anomalies(1), request_id=name))
    assert answer.scores[0].verdict.is_alert
    return answer.scores[0].alert_id


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can only be mounted by root, where containers let it")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S607  # wherever it is


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


async def test_a_full_disk_costs_no_verdict_and_once_there_is_room_no_alert(
    world: World, tmp_path: Path, small_disk: Path
) -> None:
    log = AlertLog.open(f"sqlite:///{small_disk}/alerts.db")
    async with running(world, tmp_path, alert_log=log, upkeep=QUICK) as service:
        watch = service.client.alert_log.watch()
        seen = asyncio.create_task(anext(watch))
        await asyncio.sleep(0.1)
        ballast = fill(small_disk)
        names: list[str] = []
        told: list[str] = []
        # The write-ahead log may have some room left in itself.
        while not names or told[-1]:
            names.append(f"r{len(names):03}")
            told.append(await score(service, names[-1]))
        names += ["late-1", "late-2"]
        told += [await score(service, name) for name in names[-2:]]
        assert told[-3:] == ["", "", ""]
        assert service.sample("mad_alert_log_errors_total", model="tiny") >= 1
        assert service.sample("mad_alert_log_pending", model="tiny") == 3
        ballast.unlink()
        await until(lambda: service.sample("mad_alert_log_pending", model="tiny") == 0)
        assert every(log) == sorted(names)
        labels = {"model": "tiny", "baseline": "tiny"}
        assert service.sample("mad_alerts_total", **labels) == len(names)
        watched = [await seen, *[await anext(watch) for _ in names[1:]]]
        assert [answer.alert.request_id for answer in watched] == names
        assert all(answer.alert.incident_id for answer in watched)
        assert await score(service, "after")
        await watch.aclose()


@pytest.mark.slow
async def test_a_database_that_stops_and_starts_costs_no_alert(
    world: World, tmp_path: Path
) -> None:
    programs = binaries()
    if programs is None:
        pytest.skip("there is no PostgreSQL server; install postgresql")
    database = Postgres.create(programs)
    try:
        database.start()
        log = AlertLog.open(database.fresh_url())
        async with running(world, tmp_path, alert_log=log, upkeep=QUICK) as service:
            watch = service.client.alert_log.watch()
            seen = asyncio.create_task(anext(watch))
            await asyncio.sleep(0.5)
            assert await score(service, "before")
            assert (await seen).alert.request_id == "before"
            await asyncio.to_thread(database.stop)
            assert [await score(service, name) for name in ("during-1", "during-2")] == ["", ""]
            assert service.sample("mad_alert_log_errors_total", model="tiny") >= 1
            await asyncio.to_thread(database.start)
            await until(lambda: service.sample("mad_alert_log_pending", model="tiny") == 0)
            assert await score(service, "later")
            async with asyncio.timeout(20):
                rest = [(await anext(watch)).alert.request_id for _ in range(3)]
            await watch.aclose()
        assert rest == ["during-1", "during-2", "later"]
    finally:
        database.stop()
        database.remove()


async def test_alerts_that_a_stop_finds_unwritten_are_logged_whole(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        async with running(world, tmp_path, upkeep=QUICK) as service:
            service.server.alert_log.close()
            (tmp_path / "alerts.db").unlink()
            (tmp_path / "alerts.db").mkdir()
            assert await score(service, "unlucky") == ""
            assert service.sample("mad_alert_log_errors_total", model="tiny") >= 1
    (written,) = [line for line in caplog.messages if line.startswith("alert not recorded")]
    assert '"request_id": "unlucky"' in written
    assert '"charges"' in written


def test_beyond_its_bound_the_newest_are_logged_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    spill = Spill(log, rows_a_commit=ROWS_A_COMMIT)
    alerts = numbered(MAX_SPILL + 3)
    with caplog.at_level(logging.ERROR):
        spill.keep(alerts, AlertLogError("no space left"))
    assert len(spill) == MAX_SPILL
    whole = [line for line in caplog.messages if line.startswith("alert not recorded (no space")]
    assert len(whole) == 3
    assert f'"alert_id": "default{MAX_SPILL}"' in whole[0]
    written: list[str] = []
    while spill:
        written += ids(spill.write_some())
    assert written == ids(alerts[:MAX_SPILL])
    log.close()


async def written(writer: AlertWriter, *groups: Sequence[str]) -> list[list[str]]:
    """Write alerts of these ids, those of each group as one request's."""
    drafts = [[about(alert_id, 1) for alert_id in group] for group in groups]
    return [list(found) for found in await asyncio.gather(*map(writer.write, drafts))]


async def test_an_alert_that_the_log_refuses_takes_no_other_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    log.append([about("taken", 1)])
    writer = AlertWriter(log, metrics(), plan=QUICK)
    pending = asyncio.create_task(written(writer, ["one"], ["taken"], ["two", "three"]))
    await asyncio.sleep(0)
    with caplog.at_level(logging.ERROR):
        writer.start()
        assert await pending == [["one"], [""], ["two", "three"]]
        await writer.close()
    (whole,) = [line for line in caplog.messages if line.startswith("alert not recorded")]
    assert '"alert_id": "taken"' in whole
    assert '"term": "set"' in whole
    assert set(ids([one.alert for one in log.listing(Wanted(), 9, "")[0]])) == {
        "one",
        "taken",
        "two",
        "three",
    }
    log.close()


async def test_a_retry_while_the_log_cannot_be_written_is_one_alert(tmp_path: Path) -> None:
    log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    spill = Spill(log, rows_a_commit=ROWS_A_COMMIT)
    first = replace(ALERT, alert_id="first", request_id="r")
    spill.keep([first, replace(first, alert_id="retry")], AlertLogError("no space left"))
    assert ids(spill.write_some()) == ["first"]
    assert len(spill) == 0
    assert log.find("first").sequence == 1
    log.close()


async def test_what_waits_is_the_next_commit_up_to_a_bound(tmp_path: Path) -> None:
    log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    registry = CollectorRegistry()
    writer = AlertWriter(log, Metrics(registry, model="tiny", false_alarm_rates=[]))
    groups = [[f"{number}-{at}" for at in range(20)] for number in range(12)]
    pending = asyncio.create_task(written(writer, *groups))
    await asyncio.sleep(0)
    writer.start()
    assert await pending == groups
    await writer.close()
    commits = registry.get_sample_value("mad_alert_log_append_seconds_count", {"model": "tiny"})
    assert commits == 4  # three requests of twenty fit into 64 rows
    log.close()


async def test_the_writer_removes_what_need_not_be_kept(tmp_path: Path) -> None:
    log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    log.append(numbered(1200))
    plan = UpkeepPlan(retention=Retention(max_alerts=10), tidy_s=0.05)
    writer = AlertWriter(log, metrics(), plan=plan, clock=lambda: ALERT.time)
    writer.start()
    await until(lambda: len(log.listing(Wanted(), 10_000, "")[0]) == 10)
    await writer.write(numbered(5, baseline="new"))
    await until(lambda: len(log.listing(Wanted(), 10_000, "")[0]) == 10)
    await writer.close()
    kept = ids([one.alert for one in log.listing(Wanted(), 10_000, "")[0]])
    assert kept[:5] == [f"new{at}" for at in reversed(range(5))]
    log.close()
