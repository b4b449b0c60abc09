"""Admission: nothing is begun that would come too late, and each caller has its share."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry
from torch import nn

from mad.client import request
from mad.errors import ExpiredError, OverloadedError, TooLargeError
from mad.metrics import Metrics
from mad.service import details
from mad.service.admission import Admission, Job
from mad.service.caller import Principal, caller
from mad.service.pace import Pace
from mad.service.shares import CallerLimits, Shares
from mad.v1.scoring_pb2_grpc import ScoringServiceStub
from tests.service.running import LIMITS, Running, gated, live, running, until
from tests.worlds import World

RUN_S = 0.1


@contextmanager
def slow(world: World) -> Iterator[list[int]]:
    """Let every run of the world's model take a known time, and note how many inputs it had."""
    sizes: list[int] = []

    def sleep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        sizes.append(len(inputs[0]))
        time.sleep(RUN_S)

    handle = world.model.module.register_forward_pre_hook(sleep)
    try:
        yield sizes
    finally:
        handle.remove()


async def ask(service: Running, timeout_s: float, count: int = 1) -> grpc.aio.AioRpcError | None:
    """Ask without retries; return how it failed, if it did."""
    stub: Any = ScoringServiceStub(service.channel)
    try:
        await stub.Score(request(live(count)), timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def test_what_could_not_be_answered_in_time_is_refused_and_says_when_to_retry(
    service: Running, world: World
) -> None:
    with slow(world) as sizes:
        for _ in range(5):
            assert await ask(service, timeout_s=20) is None
        first = asyncio.create_task(ask(service, timeout_s=20, count=64))  # eight runs
        await until(lambda: service.queued == 64)
        refused = await ask(service, timeout_s=5 * RUN_S)
        assert await first is None
    assert refused is not None
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "ms; retry later, or allow more time" in str(refused.details())
    assert sizes == [1] * 5 + [8] * 8
    assert service.sample("mad_requests_shed_total", model="tiny", reason="deadline") == 1
    status = rpc_status.from_call(refused)
    info = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert info.retry_delay.ToMilliseconds() > 0
    # Within this call's own deadline there is no use in trying again.
    assert dict(refused.trailing_metadata())["grpc-retry-pushback-ms"] == "-1"


@pytest.mark.slow
async def test_the_shipped_client_comes_back_when_there_is_room(
    world: World, tmp_path: Path
) -> None:
    limits = replace(LIMITS, max_queued_inputs=64)
    async with running(world, tmp_path, limits=limits) as service:
        with slow(world):
            assert await ask(service, timeout_s=20) is None
            first = asyncio.create_task(ask(service, timeout_s=20, count=64))  # eight runs
            await until(lambda: service.queued == 64)
            answer = await service.client.score(live(1))
            assert await first is None
        assert answer.scores
        assert service.sample("mad_requests_shed_total", model="tiny", reason="queue_full") > 0


@pytest.mark.alone
async def test_an_idle_server_tries_even_what_it_expects_to_be_late(
    service: Running, world: World
) -> None:
    with slow(world) as sizes:
        for _ in range(5):
            assert await ask(service, timeout_s=20) is None
        late = await ask(service, timeout_s=RUN_S / 2)
        await until(lambda: service.queued == 0)
    assert late is not None
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert sizes == [1] * 6


async def test_explanations_wait_in_the_same_queue(service: Running, world: World) -> None:
    with gated(world) as gate:
        first = asyncio.create_task(service.client.score(live(1)))
        await until(lambda: gate.sizes == [1])
        second = asyncio.create_task(service.client.score(live(2)))
        await until(lambda: service.queued == 3)
        explained = asyncio.create_task(service.client.explain(live(1)))
        await until(lambda: service.queued == 4)
        third = asyncio.create_task(service.client.score(live(3)))
        await until(lambda: service.queued == 7)
        explained.cancel()
        await until(lambda: service.queued == 6)
        gate.opened.set()
        await asyncio.gather(first, second, third)
    assert gate.sizes == [1, 5]


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    """Every run takes a second, and every input a tenth of one."""
    admission = Admission(
        max_batch=10,
        max_queued_inputs=100,
        shares=Shares(CallerLimits()),
        metrics=Metrics(CollectorRegistry(), model="tiny", false_alarm_rates=[]),
        clock=clock,
    )
    for inputs in (1, 10, 5) * 50:
        with admission.timed(inputs):
            clock.now += 1 + 0.1 * inputs
    return admission


def job(clock: Clock, left_s: float, inputs: int = 1) -> Job:
    return Job(inputs=inputs, deadline=clock.now + left_s)


def test_company_makes_no_job_late(admission: Admission, clock: Clock) -> None:
    first, patient, large = job(clock, 3.8), job(clock, 60, inputs=5), job(clock, 60, inputs=8)
    assert admission.company(first, iter([patient, large])) == [first, patient]
    hurried = job(clock, 2.7)
    assert admission.company(hurried, iter([patient, large])) == [hurried]


def test_a_job_that_is_late_anyhow_keeps_no_company_away(
    admission: Admission, clock: Clock
) -> None:
    late, patient = job(clock, 0.5), job(clock, 60, inputs=9)
    assert admission.company(late, iter([patient])) == [late, patient]


def test_the_wait_counts_what_waits_and_what_is_under_way(
    admission: Admission, clock: Clock
) -> None:
    busy, waiting = job(clock, 60, inputs=10), job(clock, 60, inputs=10)
    admission.admit(busy)
    admission.take([busy])
    admission.admit(waiting)
    # 2 s under way, 2 s for what waits, 1.1 s of its own, and as much again.
    admission.admit(soon := job(clock, 12))
    admission.release(soon)
    with pytest.raises(OverloadedError, match="would take about 5"):
        admission.admit(job(clock, 9))
    clock.now += 2
    admission.admit(job(clock, 7.5))


def test_a_deadline_that_has_passed_is_not_tried(admission: Admission, clock: Clock) -> None:
    with pytest.raises(ExpiredError, match="the deadline has passed already"):
        admission.admit(job(clock, 0))


async def test_a_program_is_told_which_field_is_wrong(service: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.client.explain(live(1), max_charges=-1)
    bad = error_details_pb2.BadRequest()
    assert rpc_status.from_call(refused.value).details[0].Unpack(bad)
    (violation,) = bad.field_violations
    assert violation.field == "max_charges"
    assert violation.description == "max_charges is -1; ask for 0 to 1024"


def test_a_retry_that_may_be_in_time_is_left_to_grpc() -> None:
    error = OverloadedError("later", retry_after_s=0.25)
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = details.trailers(error, code, "later")
    assert trailers[0] == ("grpc-retry-pushback-ms", "250")
    assert details.trailers(TooLargeError(), code, "") == (("grpc-retry-pushback-ms", "-1"),)


def test_one_slow_run_changes_the_pace_little_and_many_change_it_wholly() -> None:
    pace = Pace()
    for _ in range(50):
        pace.observe(1, 0.002)
        pace.observe(8, 0.009)
        pace.observe(4, 0.005)
    assert pace.seconds(1) == pytest.approx(0.002, rel=0.2)
    assert pace.seconds(8) == pytest.approx(0.009, rel=0.2)
    assert pace.seconds(80, runs=10) == pytest.approx(0.09, rel=0.2)
    pace.observe(8, 5.0)
    assert pace.seconds(8) < 0.009 * 1.5
    for _ in range(15):
        pace.observe(8, 0.09)
    assert pace.seconds(8) == pytest.approx(0.09, rel=0.3)


@contextmanager
def called_by(name: str) -> Iterator[None]:
    token = caller.set(Principal(name, frozenset()))
    try:
        yield
    finally:
        caller.reset(token)


def test_a_caller_may_have_so_many_requests_and_streams_and_others_are_not_affected() -> None:
    shares = Shares(CallerLimits(requests_per_caller=1, streams_per_caller=1))
    with called_by("ann"), shares.stream():
        ann = shares.take(5)
        with pytest.raises(OverloadedError, match="ann has 1 requests under way") as refused:
            shares.take(1)
        with pytest.raises(OverloadedError, match="ann has 1 streams open and may have at most 1"):
            shares.stream().__enter__()
        with called_by("bob"), shares.stream():
            shares.take(5)
        shares.give_back(ann)
    assert refused.value.reason == "rate_limit"
    with called_by("ann"), shares.stream():
        shares.take(1)


def test_callers_whom_nobody_asked_share_the_whole_server() -> None:
    shares = Shares(CallerLimits(requests_per_caller=1, streams_per_caller=1, streams=2))
    assert [shares.take(5), shares.take(5)] == [None, None]
    with shares.stream(), shares.stream():
        third = shares.stream()
        with pytest.raises(OverloadedError, match="2 streams are open and this server has at most"):
            third.__enter__()


def test_a_caller_pays_for_a_large_request_afterwards(clock: Clock) -> None:
    shares = Shares(CallerLimits(inputs_per_second_per_caller=10), clock=clock)
    with called_by("ann"):
        shares.give_back(shares.take(30))
        clock.now = 1.9
        with pytest.raises(OverloadedError, match="ann may send 10 inputs a second") as refused:
            shares.take(1)
        assert refused.value.retry_after_s == pytest.approx(0.2)
        clock.now = 2.1
        assert shares.take(1) == "ann"
