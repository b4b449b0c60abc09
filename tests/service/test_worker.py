"""The worker: groups of what waits, no work for those who left, nothing accepted is dropped."""

import asyncio
import math
import threading
from collections.abc import Callable, Iterable, Sequence

import pytest

from mad.errors import ShuttingDownError
from mad.service.worker import Worker


class Doubling:
    """Doubles numbers, once its gate is open, and keeps the groups it was given."""

    expected_s = 0.0

    def __init__(self, refuse: Callable[[int], Exception | None] = lambda _: None) -> None:
        self.gate = threading.Event()
        self.groups: list[list[int]] = []
        self.worker: Worker[int, int] = Worker(
            "doubling",
            choose=up_to_three,
            work=self,
            refuse=refuse,
            expected_s=lambda _: self.expected_s,
        )

    def __call__(self, jobs: Sequence[int]) -> Sequence[int | Exception]:
        assert self.gate.wait(timeout=10)
        self.groups.append(list(jobs))
        if 13 in jobs:
            raise RuntimeError("unlucky")
        return [2 * job for job in jobs]


@pytest.fixture(autouse=True, params=[0.0, math.inf], ids=["awaited", "left alone"])
def _expected(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether groups are waited for or not, the same must hold."""
    monkeypatch.setattr(Doubling, "expected_s", request.param)


def up_to_three(waiting: Iterable[int]) -> Sequence[int]:
    return list(waiting)[:3]


async def test_what_waits_while_the_worker_is_busy_is_its_next_group() -> None:
    doubling = Doubling()
    doubling.worker.start()
    callers = [asyncio.create_task(doubling.worker.submit(job)) for job in range(1, 8)]
    await asyncio.sleep(0)
    doubling.gate.set()
    assert await asyncio.gather(*callers) == [2, 4, 6, 8, 10, 12, 14]
    assert doubling.groups == [[1, 2, 3], [4, 5, 6], [7]]
    await doubling.worker.close()


async def test_a_job_whose_caller_left_is_not_done() -> None:
    doubling = Doubling()
    callers = [asyncio.create_task(doubling.worker.submit(job)) for job in range(1, 5)]
    await asyncio.sleep(0)
    callers[0].cancel()
    callers[2].cancel()
    doubling.worker.start()
    doubling.gate.set()
    await asyncio.gather(*callers, return_exceptions=True)
    assert doubling.groups == [[2, 4]]
    await doubling.worker.close()


async def test_work_that_raises_fails_its_group_and_not_the_next() -> None:
    doubling = Doubling()
    doubling.worker.start()
    doubling.gate.set()
    with pytest.raises(RuntimeError, match="unlucky"):
        await doubling.worker.submit(13)
    assert await doubling.worker.submit(4) == 8
    await doubling.worker.close()


async def test_a_closing_worker_finishes_what_it_accepted_and_refuses_more() -> None:
    doubling = Doubling()
    doubling.worker.start()
    accepted = [asyncio.create_task(doubling.worker.submit(job)) for job in range(1, 6)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(doubling.worker.close())
    await asyncio.sleep(0)
    with pytest.raises(ShuttingDownError, match="ask another replica"):
        await doubling.worker.submit(9)
    doubling.gate.set()
    await closing
    assert await asyncio.gather(*accepted) == [2, 4, 6, 8, 10]


async def test_a_job_that_is_refused_is_not_done_and_the_others_are() -> None:
    def no_threes(job: int) -> ValueError | None:
        return ValueError("three") if job % 3 == 0 else None

    doubling = Doubling(refuse=no_threes)
    callers = [asyncio.create_task(doubling.worker.submit(job)) for job in range(1, 7)]
    await asyncio.sleep(0)
    doubling.worker.start()
    doubling.gate.set()
    done = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(each) for each in done] == ["2", "4", "three", "8", "10", "three"]
    assert doubling.groups == [[1, 2, 4], [5]]
    await doubling.worker.close()


async def test_a_choice_that_fails_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def choose(waiting: Iterable[int]) -> Sequence[int]:
        raise RuntimeError(f"cannot choose among {len(list(waiting))}")

    worker: Worker[int, int] = Worker("odd", choose=choose, work=lambda jobs: [2 * jobs[0]])
    worker.start()
    callers = [asyncio.create_task(worker.submit(job)) for job in (1, 2, 3)]
    async with asyncio.timeout(10):
        assert await asyncio.gather(*callers) == [2, 4, 6]
    await worker.close()
    assert "cannot choose among 3" in caplog.text


async def test_a_group_that_takes_longer_than_expected_holds_up_nobody() -> None:
    doubling = Doubling()
    doubling.worker.start()
    asked = asyncio.create_task(doubling.worker.submit(1))
    for _ in range(10):
        await asyncio.sleep(0)  # the loop has its turns while the group is under way
    assert not asked.done()
    doubling.gate.set()
    assert await asked == 2
    await doubling.worker.close()


async def test_many_groups_one_after_the_other_are_all_answered() -> None:
    doubling = Doubling()
    doubling.gate.set()
    doubling.worker.start()
    numbers = [number for number in range(3000) if number != 13]
    answers = await asyncio.gather(*(doubling.worker.submit(one) for one in numbers))
    assert answers == [2 * one for one in numbers]
    for one in range(200, 400):
        assert await doubling.worker.submit(one) == 2 * one
    await doubling.worker.close()
