"""Scores in steps, for callers of little trust."""

import math
from pathlib import Path

import pytest

from mad.client import AsyncClient, request
from mad.service.auth.guard import Access
from mad.v1 import scoring_pb2 as pb
from tests.service.auth.conftest import token_of, write_principals
from tests.service.running import Running, anomalies, live, running
from tests.worlds import World

EXPLAINED = pb.ScoreOptions(include_explanations=True)


def steps(bits: float, step: float) -> float:
    return math.floor(bits / step) * step


def assert_is_coarse(found: pb.Score, fine: pb.Score, step: float) -> None:
    for name in ("surprise_bits", "mechanism_bits", "novelty_bits"):
        assert getattr(found.verdict, name) == steps(getattr(fine.verdict, name), step)
    assert found.verdict.is_alert == fine.verdict.is_alert
    assert math.isnan(found.verdict.p_value)
    assert math.isnan(found.verdict.description_bits)
    assert list(found.verdict.parts) == []
    assert (found.verdict.context, found.verdict.active_components) == (-1, 0)
    assert not found.HasField("explanation")


@pytest.mark.parametrize("step", [4.0, 0.75])
async def test_a_coarse_reader_gets_bits_in_steps_and_no_more(
    world: World, tmp_path: Path, step: float
) -> None:
    roles = {"coarse": ["score.coarse"], "fine": ["score.read"], "both": ["admin"]}
    file = write_principals(tmp_path / "tokens.toml", roles)
    access = Access(principals=file, coarse_bits=step)
    inputs = {"x": anomalies(3)["x"].clone()}
    inputs["x"][0] = live()["x"][0]
    async with running(world, tmp_path, access=access) as service:
        answers: dict[str, pb.ScoreResponse] = {}
        for name in roles:
            async with AsyncClient(service.address, token=token_of(name)) as client:
                answers[name] = await client.score(inputs, options=EXPLAINED)
        async with AsyncClient(service.address, token=token_of("coarse")) as client:
            asked = [request(inputs, request_id="a", options=EXPLAINED)]
            (streamed,) = [answer async for answer in client.stream(asked)]
    assert [one.verdict.is_alert for one in answers["fine"].scores] == [False, True, True]
    for coarse in (answers["coarse"], streamed.response):
        for found, fine in zip(coarse.scores, answers["fine"].scores, strict=True):
            assert_is_coarse(found, fine, step)
    for found, fine in zip(answers["both"].scores, answers["fine"].scores, strict=True):
        assert found.verdict == fine.verdict
        assert found.explanation == fine.explanation


async def test_what_is_kept_of_an_alert_is_fine_whoever_raised_it(guarded: Running) -> None:
    async with AsyncClient(guarded.address, token=token_of("score.coarse")) as client:
        answer = await client.score(anomalies())
    async with AsyncClient(guarded.address, token=token_of("alerts.read")) as client:
        (alert,) = (await client.alerts()).alerts
    assert alert.alert_id == answer.scores[0].alert_id
    assert len(alert.verdict.parts) > 0
    assert len(alert.explanation.charges) > 0


async def test_inputs_alike_that_alarm_again_and_again_are_suspected_and_answered_as_ever(
    guarded: Running,
) -> None:
    async with AsyncClient(guarded.address, token=token_of("score.read")) as client:
        answers = [await client.score(anomalies()) for _ in range(15)]
    suspicions = guarded.sample("mad_probe_suspicions_total", model="tiny", reason="near_duplicate")
    assert suspicions >= 1
    assert len({answer.scores[0].verdict.SerializeToString() for answer in answers}) == 1
