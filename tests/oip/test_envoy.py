"""A real Envoy with the shipped settings: copies of requests, and requests asked about."""

import asyncio
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from mad.service.oip import inference_pb2 as pb
from mad.service.oip.serving import InferencePlan
from tests.oip.asking import infer, raw
from tests.oip.peer import PYTHON, ROOT, needs_peers
from tests.reliability.ports import free_ports
from tests.reliability.processes import Served, serving
from tests.reliability.serving import Plan
from tests.service.running import anomalies, live, until

pytestmark = [needs_peers, pytest.mark.slow]
ENVOY = Path(PYTHON).parent / "envoy"
CALLERS = 4


@contextmanager
def envoy(settings: str, *, model: Served, mad: Served, directory: Path) -> Iterator[str]:
    """Run Envoy with settings of ``deploy/envoy``, at free ports; return where it listens.

    By then it knows that mad is healthy.
    """
    listens, admin = free_ports(2)
    ports = {"8000": str(listens), "9001": model.address.split(":")[1], "9901": str(admin)}
    ports["8001"] = mad.address.split(":")[1]
    text = (ROOT / "deploy/envoy" / settings).read_text()
    text = re.sub(r"port_value: (\d+)", lambda found: f"port_value: {ports[found[1]]}", text)
    # How late an answer may be before the request passes without it is a choice of an operator's;
    # a busy machine makes answers later than that.
    text = text.replace("message_timeout: 0.25s", "message_timeout: 30s")
    file = directory / settings
    file.write_text(text)
    command = [str(ENVOY), "-c", str(file), "-l", "error", "--concurrency", "1"]
    with subprocess.Popen([*command, "--disable-hot-restart"]) as process:
        try:
            _await_health(admin)
            yield f"127.0.0.1:{listens}"
        finally:
            process.kill()


def _await_health(admin: int) -> None:
    page = f"http://127.0.0.1:{admin}/stats?filter=cluster.mad.membership_healthy"
    stop = time.monotonic() + 60
    while time.monotonic() < stop:
        with suppress(OSError), urllib.request.urlopen(page, timeout=5) as stats:
            if stats.read().decode().strip().endswith(": 1"):
                return
        time.sleep(0.1)
    pytest.fail("Envoy does not find mad healthy")


@asynccontextmanager
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel once there is an answer."""
    async with grpc.aio.insecure_channel(address) as opened:
        async with asyncio.timeout(30):
            await opened.channel_ready()
        yield opened


async def asked(opened: grpc.aio.Channel, calls: int) -> Counter[str]:
    """Make calls, some at once, and count how they end."""
    ends: Counter[str] = Counter()
    left = iter(range(calls))

    async def caller() -> None:
        for number in left:
            try:
                answer = await infer(opened, raw(live(1, seed=number), "output"))
                ends["OK" if answer.outputs[0].name == "output" else "empty"] += 1
            except grpc.aio.AioRpcError as error:
                ends[error.code().name] += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return ends


def scored(mad: Served) -> Callable[[], float]:
    return lambda: mad.sample("mad_inputs_scored_total", traffic="live")


async def test_every_request_is_copied_and_a_frozen_or_dead_mad_fails_no_caller(
    tmp_path: Path,
) -> None:
    with (
        serving(tmp_path / "model") as model,
        serving(tmp_path / "mad", Plan(inference=InferencePlan(mode="mirror"))) as mad,
        envoy("mirror.yaml", model=model, mad=mad, directory=tmp_path) as address,
    ):
        async with channel(address) as opened:
            assert await asked(opened, 400) == {"OK": 400}
            await until(lambda: scored(mad)() == 400)
            assert mad.process.pid is not None
            os.kill(mad.process.pid, signal.SIGSTOP)
            assert await asked(opened, 400) == {"OK": 400}
            os.kill(mad.process.pid, signal.SIGKILL)
            assert await asked(opened, 400) == {"OK": 400}


async def test_what_raises_an_alert_is_blocked_and_a_dead_mad_lets_all_pass(
    tmp_path: Path,
) -> None:
    with (
        serving(tmp_path / "model") as model,
        serving(tmp_path / "mad", Plan(inference=InferencePlan(reaction="block"))) as mad,
        envoy("ext_proc.yaml", model=model, mad=mad, directory=tmp_path) as address,
    ):
        async with channel(address) as opened:
            assert await asked(opened, 100) == {"OK": 100}
            assert scored(mad)() == 100
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await infer(opened, raw(anomalies(1), "output"))
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "the request is refused; alert " in str(refused.value.details())
            mad.process.kill()
            mad.process.join()
            assert await asked(opened, 100) == {"OK": 100}
            assert isinstance(await infer(opened, raw(anomalies(1))), pb.ModelInferResponse)


@pytest.mark.parametrize("settings", ["mirror.yaml", "ext_proc.yaml"])
def test_the_shipped_settings_are_valid(settings: str) -> None:
    command = [str(ENVOY), "--mode", "validate", "-c", str(ROOT / "deploy/envoy" / settings)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
