"""Streams of trusted inputs that are not as they should be: refused in a sentence, nothing left."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
import torch
from torch import Tensor

from mad.client import fit_config, fit_steps, tensor
from mad.v1 import baselines_pb2 as pb
from tests.service.deployed import copied, serving
from tests.service.running import Running, until
from tests.worlds import ordinary

LIMITS = """
[fit]
max_inputs = 1000
max_bytes = 25000
"""


@pytest.fixture(scope="module")
def home(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(fitted, tmp_path_factory.mktemp("streams"), extra=LIMITS)


@pytest.fixture
async def service(home: Path) -> AsyncIterator[Running]:
    async with serving(home) as service:
        yield service


def config(name: str = "", source: str = "", rate: float = 0) -> pb.FitBaselineRequest:
    made = pb.FitConfig(name=name, source=source, false_alarm_rate=rate)
    return pb.FitBaselineRequest(config=made)


def chunk(sequence: int, x: Tensor, name: str = "x") -> pb.FitBaselineRequest:
    return pb.FitBaselineRequest(chunk=pb.FitChunk(sequence=sequence, inputs=[tensor(name, x)]))


def commit(*chunks: Tensor, count: int | None = None, digest: str = "") -> pb.FitBaselineRequest:
    sha = hashlib.sha256(b"".join(one.numpy().tobytes() for one in chunks))
    inputs = sum(map(len, chunks)) if count is None else count
    return pb.FitBaselineRequest(
        commit=pb.FitCommit(inputs=inputs, digest=digest or sha.hexdigest())
    )


A, B = ordinary(9, seed=81), ordinary(9, seed=82)
BROKEN = A.index_put((torch.tensor(7),), torch.tensor(torch.nan))
MANY = ordinary(600, seed=83)
NARROW = A[:, :5].contiguous()
INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED

REFUSED = {
    "no config": ([chunk(1, A)], INVALID, "a fit begins with its config"),
    "nothing at all": ([], INVALID, "a fit begins with its config"),
    "two configs": ([config(), config()], INVALID, "and no config"),
    "no chunk": ([config(), commit()], INVALID, "no inputs"),
    "no commit": ([config(), chunk(1, A)], INVALID, "ended after 1 chunks without its commit"),
    "a gap": ([config(), chunk(1, A), chunk(3, B)], INVALID, "chunk 3 came where chunk 2 should"),
    "a repetition": ([config(), chunk(1, A), chunk(1, A)], INVALID, "chunk 1 came where chunk 2"),
    "not a number": ([config(), chunk(1, B), chunk(2, BROKEN)], INVALID, "chunk 2: .* in row 7"),
    "a wrong shape": ([config(), chunk(1, NARROW)], INVALID, r"has shape \(9, 5\)"),
    "a wrong type": ([config(), chunk(1, A.double())], INVALID, "float64"),
    "a wrong name": ([config(), chunk(1, A, "y")], INVALID, r"\['y'\]"),
    "a wrong count": ([config(), chunk(1, A), commit(A, count=8)], INVALID, "of 8 inputs, and 9"),
    "a wrong digest": ([config(), chunk(1, A), commit(A, digest="ab" * 32)], INVALID, "digest"),
    "too many inputs": ([config(), chunk(1, MANY), chunk(2, MANY)], EXHAUSTED, "at most 1000"),
    "too many bytes": (
        [config(), chunk(1, MANY), chunk(2, MANY[:300])],
        EXHAUSTED,
        "at most 25000",
    ),
    "a path for a name": ([config(name="../x")], INVALID, "must match"),
    "a long source": ([config(source="x" * 257)], INVALID, "257 characters"),
    "a wild rate": ([config(rate=0.7)], INVALID, "false_alarm_rate is 0.7"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_stream_that_is_not_as_it_should_be_leaves_nothing(
    service: Running, home: Path, what: str
) -> None:
    steps, code, sentence = REFUSED[what]
    with pytest.raises(grpc.aio.AioRpcError, match=sentence) as refused:
        await service.client.baseline.FitBaseline(iter(steps))
    assert refused.value.code() is code
    assert [path.name for path in (home / "fits").iterdir()] == ["lock"]
    assert (await service.client.fits.jobs()).jobs == []


async def test_a_caller_that_goes_away_leaves_nothing(service: Running, home: Path) -> None:
    async def half() -> AsyncIterator[pb.FitBaselineRequest]:
        yield config()
        yield chunk(1, A)
        await asyncio.sleep(60)

    call = service.client.baseline.FitBaseline(half())
    await until(lambda: bool(list((home / "fits").glob(".*"))))
    call.cancel()
    await until(lambda: not list((home / "fits").glob(".*")))


async def test_what_a_killed_server_had_not_committed_is_swept(home: Path) -> None:
    inputs = home / "fits" / f".{'a' * 32}" / "inputs"
    inputs.mkdir(parents=True)
    (inputs / "00000001.safetensors").write_bytes(b"x")
    (home / "fits" / "an operator's own").mkdir()
    async with serving(home):
        assert {path.name for path in (home / "fits").iterdir()} == {"lock", "an operator's own"}
    (home / "fits" / "an operator's own").rmdir()


@pytest.mark.usefixtures("service")
async def test_a_second_server_is_told_that_the_first_has_the_jobs(home: Path) -> None:
    # Its own audit log, which it would be refused for first.
    other = (home / "mad.toml").read_text() + '\n[security]\naudit_log = "other.jsonl"\n'
    (home / "other.toml").write_text(other)
    with pytest.raises(Exception, match="another server runs the fits"):
        async with serving(home, "other.toml"):
            pass


def steps_of(x: Tensor, request_id: str) -> Iterator[pb.FitBaselineRequest]:
    return fit_steps({"x": x.numpy()}, fit_config(request_id=request_id), chunk_bytes=3000)


async def test_a_stream_sent_again_is_the_same_job(service: Running) -> None:
    fit_baseline = service.client.baseline.FitBaseline
    few = ordinary(30, seed=84)  # too few for a fit, which fails at once
    first = (await fit_baseline(steps_of(few, "again"))).job
    second = (await fit_baseline(steps_of(few, "again"))).job
    assert first.job_id == second.job_id
    with pytest.raises(grpc.aio.AioRpcError, match=first.job_id) as refused:
        await fit_baseline(steps_of(ordinary(30, seed=85), "again"))
    assert refused.value.code() is grpc.StatusCode.ABORTED
    other = (await fit_baseline(steps_of(few, "another"))).job
    assert other.job_id != first.job_id
    failed = await service.client.fits.wait(first.job_id, poll_s=0.1)
    assert failed.state == pb.FIT_JOB_STATE_FAILED
    assert "give at least 134 trusted inputs" in failed.error
    await service.client.fits.cancel(other.job_id)


async def test_an_unknown_job_is_not_found(service: Running) -> None:
    for call in (service.client.fits.job, service.client.fits.cancel):
        with pytest.raises(grpc.aio.AioRpcError, match=r"no fit job '\.\./x'") as refused:
            await call("../x")
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_others_hold_the_room_until_they_end(service: Running) -> None:
    held, over = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[pb.FitBaselineRequest]:
        yield config()
        yield chunk(1, MANY)
        held.set()
        await over.wait()

    call = service.client.baseline.FitBaseline(slow())
    await held.wait()
    refused = await refusal(service)
    while "without its commit" in str(refused.details()):  # the slow one's chunk is on its way
        refused = await refusal(service)
    assert "bytes of trusted inputs wait for fits" in str(refused.details())
    assert refused.code() is EXHAUSTED
    over.set()
    with pytest.raises(grpc.aio.AioRpcError, match="ended after 1 chunks without its commit"):
        await call


async def refusal(service: Running) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.client.baseline.FitBaseline(iter([config(), chunk(1, MANY[:300])]))
    return refused.value
