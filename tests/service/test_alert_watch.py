"""WatchAlerts: each alert exactly once, in the log's order, whatever ends in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from mad.alerts.log import AlertLog
from mad.alerts.values import Retention
from mad.client import AsyncClient, request
from mad.service.alert_watch import PAGE, AlertWatch
from mad.service.arrivals import Arrivals
from mad.v1 import alerts_pb2 as pb
from tests.alerts.examples import ALERT, about, numbered
from tests.service.running import Running, anomalies, build, running
from tests.worlds import World

NOW = pb.WatchAlertsRequest()
Watch = grpc.aio.UnaryStreamCall[pb.WatchAlertsRequest, pb.WatchAlertsResponse]


async def take(watch: AsyncIterator[pb.WatchAlertsResponse], count: int) -> list[str]:
    """Return the request ids of the next alerts."""
    async with asyncio.timeout(20):
        return [(await anext(watch)).alert.request_id for _ in range(count)]


async def read(call: Watch) -> pb.WatchAlertsResponse:
    answer = await call.read()
    assert isinstance(answer, pb.WatchAlertsResponse)
    return answer


async def raised(service: Running, *names: str) -> None:
    for name in names:
        await service.client.score(request(anomalies(1), request_id=name))


async def test_alerts_come_as_they_are_raised(service: Running) -> None:
    await raised(service, "before")
    watch = service.client.alert.WatchAlerts(NOW)
    beginning = await read(watch)
    assert not beginning.HasField("alert")
    await raised(service, "one", "two")
    answers = [await read(watch) for _ in range(2)]
    assert [answer.alert.request_id for answer in answers] == ["one", "two"]
    assert answers[1].alert == await service.client.alert_log.get(answers[1].alert.alert_id)
    watch.cancel()


async def test_a_token_goes_on_where_its_answer_ended(service: Running) -> None:
    watch = service.client.alert.WatchAlerts(NOW)
    token = (await read(watch)).resume_token
    watch.cancel()
    await raised(service, "one", "two", "three")
    again = service.client.alert_log.watch(resume_token=token)
    first = await anext(again)
    await again.aclose()
    rest = service.client.alert_log.watch(resume_token=first.resume_token)
    assert first.alert.request_id == "one"
    assert await take(rest, 2) == ["two", "three"]
    await rest.aclose()


async def test_only_alerts_of_the_baseline_asked_for_come(service: Running) -> None:
    watch = service.client.alert.WatchAlerts(pb.WatchAlertsRequest(baseline="other"))
    await read(watch)
    await raised(service, "tiny's")
    service.server.alert_log.append([replace(ALERT, baseline="other", request_id="other's")])
    assert (await read(watch)).alert.request_id == "other's"
    watch.cancel()


@pytest.mark.parametrize("token", ["nonsense", "MSBvdGhlcg=="])
async def test_a_token_of_another_log_is_refused(service: Running, token: str) -> None:
    watch = service.client.alert_log.watch(resume_token=token)
    with pytest.raises(grpc.aio.AioRpcError, match="resume token") as refusal:
        await anext(watch)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_token_from_the_future_of_a_restored_log_is_refused(
    service: Running, tmp_path: Path
) -> None:
    await raised(service, "one")
    watch = service.client.alert.WatchAlerts(NOW)
    token = (await read(watch)).resume_token
    watch.cancel()
    service.server.alert_log.close()
    for file in tmp_path.glob("alerts.db*"):
        file.unlink()
    again = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    again.close()
    service.server.alert_log.close()  # a last look of the first watch may have opened the old one
    with pytest.raises(grpc.aio.AioRpcError, match="resume token"):
        await anext(service.client.alert_log.watch(resume_token=token))


async def test_a_drain_ends_a_watch_that_waits(world: World, tmp_path: Path) -> None:
    async with running(world, tmp_path) as service:
        watch = service.client.alert.WatchAlerts(NOW)
        await read(watch)
        drained = asyncio.create_task(service.server.drain(lame_duck_s=0, grace_s=60))
        with pytest.raises(grpc.aio.AioRpcError, match="go on at another replica") as end:
            await read(watch)
        assert end.value.code() is grpc.StatusCode.UNAVAILABLE
        await drained


@asynccontextmanager
async def replicas(world: World, folder: Path, url: str) -> AsyncIterator[list[Running]]:
    """Run two servers on one log."""
    started: list[Running] = []
    for name in ("a", "b"):
        (folder / name).mkdir()
        collectors = CollectorRegistry()
        server = build(world, folder / name, collectors=collectors, alert_log=AlertLog.open(url))
        address = f"127.0.0.1:{await server.start()}"
        client = AsyncClient(address)
        channel = grpc.aio.insecure_channel(address)
        started.append(Running(server, collectors, address, client, channel))
    try:
        yield started
    finally:
        for one in started:
            await one.client.close()
            await one.channel.close()
            await one.server.drain(lame_duck_s=0, grace_s=1)


async def test_a_watch_outlives_its_server_and_sees_what_every_server_writes(
    world: World, tmp_path: Path, log_url: str
) -> None:
    async with replicas(world, tmp_path, log_url) as (one, other):
        both = f"ipv4:{one.address},{other.address}"
        async with AsyncClient(both) as client:
            watch = client.alert_log.watch()
            begun = asyncio.create_task(take(watch, 1))
            seen: list[str] = []
            for number in range(400):
                await raised((one, other)[number % 2], f"first-{number}")
                await asyncio.sleep(0.05)
                if begun.done():
                    seen = begun.result()
                    break
            began = int(seen[0].removeprefix("first-"))
            missed = number - began
            await one.server.drain(lame_duck_s=0, grace_s=1)
            await raised(other, "after", "last")
            rest = await take(watch, missed + 2)
            await watch.aclose()
        assert rest == [f"first-{at}" for at in range(began + 1, number + 1)] + ["after", "last"]


def shared(alert_log: AlertLog, *, heartbeat_s: float = 30.0) -> AlertWatch:
    return AlertWatch(
        alert_log=alert_log,
        arrivals=Arrivals(alert_log, poll_s=0.02),
        draining=asyncio.Event(),
        heartbeat_s=heartbeat_s,
    )


async def test_a_sign_of_life_moves_the_token_past_alerts_of_others(tmp_path: Path) -> None:
    log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    shown = shared(log, heartbeat_s=0.05)
    watch = shown.follow(pb.WatchAlertsRequest(baseline="rare"))
    beginning = (await anext(watch)).resume_token
    log.append(numbered(3))
    sign = await anext(watch)
    assert not sign.HasField("alert")
    assert sign.resume_token != beginning
    log.append([replace(about("x", 1), baseline="rare")])
    later = shown.follow(pb.WatchAlertsRequest(baseline="rare", resume_token=sign.resume_token))
    await anext(later)
    assert (await anext(later)).alert.sequence == 4
    await watch.aclose()
    await later.aclose()
    log.close()


async def test_who_was_away_longer_than_alerts_are_kept_goes_on_with_the_oldest(
    tmp_path: Path,
) -> None:
    log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    shown = shared(log)
    watch = shown.follow(NOW)
    token = (await anext(watch)).resume_token
    await watch.aclose()
    log.append(numbered(6))
    log.tidy(Retention(max_alerts=2), ALERT.time)
    again = shown.follow(pb.WatchAlertsRequest(resume_token=token))
    await anext(again)
    assert [(await anext(again)).alert.sequence for _ in range(2)] == [5, 6]
    await again.aclose()
    log.close()


async def test_a_slow_reader_reads_in_its_own_time_and_holds_up_nobody(tmp_path: Path) -> None:
    log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    shown = shared(log)
    slow, quick = shown.follow(NOW), shown.follow(NOW)
    for watch in (slow, quick):
        await anext(watch)
    for start in range(10):
        log.append(numbered(PAGE, baseline=f"b{start}-"))
        shown.arrivals.tell()
        got = [(await anext(quick)).alert.sequence for _ in range(PAGE)]
        assert got == list(range(start * PAGE + 1, start * PAGE + PAGE + 1))
    caught_up = [(await anext(slow)).alert.sequence for _ in range(10 * PAGE)]
    assert caught_up == list(range(1, 10 * PAGE + 1))
    for watch in (slow, quick):
        await watch.aclose()
    log.close()


async def test_writers_that_race_make_no_watcher_miss_an_alert(log_url: str) -> None:
    logs = [AlertLog.open(log_url) for _ in range(3)]
    shown = shared(logs[0])
    shown.arrivals.start()
    watch = shown.follow(NOW)
    await anext(watch)

    def write(number: int) -> None:
        for at in range(40):
            logs[number].append(numbered(3, baseline=f"{number}-{at}-"))

    writers = [asyncio.create_task(asyncio.to_thread(write, number)) for number in (1, 2)]
    async with asyncio.timeout(60):
        seen = [(await anext(watch)).alert for _ in range(240)]
    await asyncio.gather(*writers)
    assert [alert.sequence for alert in seen] == list(range(1, 241))
    assert len({alert.alert_id for alert in seen}) == 240
    await watch.aclose()
    await shown.arrivals.close()
    for log in logs:
        log.close()
