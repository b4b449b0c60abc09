"""An unmodified tritonclient: its sync, asyncio and stream calls, in an environment of its own."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mad.capture.model import MonitoredModel
from mad.service.oip.serving import InferencePlan
from mad.service.oip.upstream import UpstreamPlan
from tests.oip.peer import needs_peers, run
from tests.service.running import Running, running
from tests.worlds import World, tiny_module

pytestmark = [needs_peers, pytest.mark.slow]

ORDINARY = torch.tensor([[2.0] + [0.0] * 7] * 2)
SCORES = {
    "mad.surprise_bits",
    "mad.mechanism_bits",
    "mad.novelty_bits",
    "mad.p_value",
    "mad.is_alert",
}
STREAMED = 500


async def facts(address: str, model: str) -> Any:
    """Return what tritonclient saw of a server."""
    return json.loads(await asyncio.to_thread(run, "calls", address, model, str(STREAMED)))


def check(seen: Any, world: World) -> None:
    """Hold what tritonclient saw against what it should see of a server of the tiny world."""
    with torch.no_grad():
        own = world.model.module(ORDINARY).tolist()
    unary = seen["unary"]
    assert unary["live"] and unary["ready"] and unary["model_ready"]  # noqa: PT018  # one claim
    assert not unary["other_ready"]
    assert unary["extensions"] == ["mad_scores"]
    assert {each["name"] for each in unary["metadata"]["outputs"]} == {"output", *SCORES}
    assert unary["index"]["models"][0]["state"] == "READY"
    assert set(unary["all"]["outputs"]) == {"output", *SCORES}
    assert unary["all"]["outputs"]["output"] == own
    assert unary["all"]["id"] == "all"
    assert unary["all"]["parameters"]["mad.baseline"] == "tiny@1"
    assert set(unary["some"]["outputs"]) == {"mad.is_alert", "output"}
    assert unary["some"]["outputs"]["mad.is_alert"] == [True]
    assert unary["some"]["parameters"]["mad.alert_ids"]
    assert unary["dry"]["parameters"]["mad.alert"]
    assert "mad.alert_ids" not in unary["dry"]["parameters"]


def check_refusals(unary: Any) -> None:
    statuses = {name: said[0] for name, said in unary.items() if name.startswith("no_")}
    assert statuses == {
        "no_model": "StatusCode.NOT_FOUND",
        "no_output": "StatusCode.INVALID_ARGUMENT",
        "no_shape": "StatusCode.INVALID_ARGUMENT",
        "no_baseline": "StatusCode.NOT_FOUND",
        "no_method": "StatusCode.UNIMPLEMENTED",
    }


def check_streams(seen: Any, world: World) -> None:
    with torch.no_grad():
        own = world.model.module(ORDINARY).tolist()
    assert seen["stream"]["ids"] == [str(index) for index in range(STREAMED)]
    assert seen["stream"]["alerts"] == ["50", "150", "250", "350", "450"]
    assert len(seen["stream"]["errors"]) == 1
    aio = seen["aio"]
    assert aio["live"]
    assert aio["no_model"] == "StatusCode.NOT_FOUND"
    assert aio["stream"] == [[str(index), None] for index in range(20)]
    assert [each["id"] for each in aio["infer"]] == [str(index) for index in range(8)]
    assert all(each["outputs"]["output"] == own for each in aio["infer"])


async def test_an_unmodified_tritonclient_works(service: Running, world: World) -> None:
    seen = await facts(service.address, "tiny")
    check(seen, world)
    check_refusals(seen["unary"])
    check_streams(seen, world)
    assert "has no output 'nope'" in seen["stream"]["errors"][0]


async def test_it_works_through_a_proxy_in_front_of_another_of_our_servers(
    service: Running, world: World, tmp_path: Path
) -> None:
    upstream = UpstreamPlan(address=service.address, patience_s=20)
    plan = InferencePlan(mode="proxy", upstream=upstream)
    # Two threads may run two modules, not one: hooks of both would see both.
    own = replace(world, model=MonitoredModel.of(tiny_module().eval(), name="tiny", inputs=["x"]))
    async with running(own, tmp_path / "proxy", inference=plan) as proxy:
        seen = await facts(proxy.address, "tiny")
        scored = {"model": "tiny", "baseline": "tiny", "traffic": "live"}
        assert proxy.sample("mad_inputs_scored_total", **scored) >= STREAMED
    check(seen, world)
    check_refusals(seen["unary"])
    check_streams(seen, world)
    assert "has no output 'nope'" in seen["stream"]["errors"][0]
