"""A proxy in front of a real MLServer: its answers, and scores of the activations it returns."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch

from mad.service.oip.serving import InferencePlan
from mad.service.oip.upstream import UpstreamPlan
from tests.oip.asking import infer, output, raw
from tests.oip.peer import PYTHON, ROOT, needs_peers
from tests.reliability.ports import free_ports
from tests.service.running import anomalies, live, running, until
from tests.worlds import World

pytestmark = [needs_peers, pytest.mark.slow]


@pytest.fixture
def mlserver(world: World, tmp_path: Path) -> Iterator[str]:
    """Return the address of an MLServer that runs the tiny world's model."""
    folder = tmp_path / "models"
    folder.mkdir()
    weights = {name: value.numpy() for name, value in world.model.module.state_dict().items()}
    np.savez(folder / "weights.npz", **weights)
    grpc_port, http_port, metrics_port = free_ports(3)
    server = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False}
    ports = {"grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port}
    (folder / "settings.json").write_text(json.dumps(server | ports))
    outputs = [
        {"name": name, "datatype": "FP32", "shape": [-1, width]}
        for name, width in (("logits", 3), ("layer_one", 16), ("layer_three", 16))
    ]
    model = {
        "name": "net",
        "implementation": "tests.oip.peers.net.Net",
        "parameters": {"uri": str(folder / "weights.npz")},
        "outputs": outputs,
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    with (tmp_path / "mlserver.log").open("wb") as log:
        process = subprocess.Popen(
            [str(Path(PYTHON).with_name("mlserver")), "start", str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield f"127.0.0.1:{grpc_port}"
        finally:
            process.terminate()
            process.wait(timeout=30)


async def test_a_proxy_in_front_of_mlserver(world: World, mlserver: str, tmp_path: Path) -> None:
    upstream = UpstreamPlan(
        address=mlserver,
        outputs=("logits",),
        activations={"1": "layer_one", "3": "layer_three"},
        patience_s=20,
        poll_s=0.2,
    )
    plan = InferencePlan(mode="proxy", model="net", upstream=upstream)
    inputs = {"x": torch.cat([live(3)["x"], anomalies(2)["x"]])}
    async with running(world, tmp_path, inference=plan) as service:
        await until(lambda: service.server.is_ready)
        response = await infer(service.channel, raw(inputs, model="net", request_id="mine"))
        async with grpc.aio.insecure_channel(mlserver) as channel:
            theirs = await infer(channel, raw(inputs, "logits", model="net", request_id="mine"))
        with pytest.raises(grpc.aio.AioRpcError) as through:
            await infer(service.channel, raw({"x": live(1)["x"][:, :7]}, model="net"))
    expected = world.monitor.judge(inputs).verdicts
    assert output(response, "logits").tobytes() == output(theirs, "logits").tobytes()
    assert len(response.outputs) == 6
    assert output(response, "mad.surprise_bits") == pytest.approx(
        [verdict.surprise_bits for verdict in expected], rel=1e-3
    )
    assert output(response, "mad.is_alert").tolist() == [False] * 3 + [True] * 2
    assert through.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
