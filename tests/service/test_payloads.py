"""Activations and codes over the wire: the same flow as inputs, without a run of the model."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

import grpc
import pytest
import torch
from hypothesis import given, settings, strategies as st

from mad.client import request
from mad.service.convert_payloads import payload
from mad.service.digests import digest
from mad.v1 import scoring_pb2 as pb, verdict_pb2
from tests.payloads import activation_message, activations_of, code_message, codes_of
from tests.service.running import LIMITS, Running, anomalies, gated, live, until
from tests.service.test_fuzz import FUZZ, ODD, mutated
from tests.worlds import World

INPUTS = {"x": torch.cat([live(6)["x"], anomalies(2)["x"]])}


def sent(world: World, inputs: dict[str, torch.Tensor] = INPUTS) -> pb.ActivationBatch:
    return activation_message(activations_of(world, inputs))


def coded(world: World, inputs: dict[str, torch.Tensor] = INPUTS) -> pb.CodeBatch:
    return code_message(codes_of(world, inputs))


async def test_activations_get_the_scores_of_their_inputs_bit_for_bit(
    service: Running, world: World
) -> None:
    inputs, activations = [await service.client.score(what) for what in (INPUTS, sent(world))]
    assert [score.verdict for score in activations.scores] == [
        score.verdict for score in inputs.scores
    ]
    assert {score.measure for score in activations.scores} == {verdict_pb2.MEASURE_SURPRISE}
    for score in activations.scores:
        assert bool(score.alert_id) == score.verdict.is_alert
    assert activations.scores[-1].alert_id
    alone = await service.client.score(sent(world, {"x": INPUTS["x"][3:4]}))
    assert alone.scores[0].verdict == inputs.scores[3].verdict
    assert (activations.model, activations.baseline_revision) == ("tiny", "tiny@1")


async def test_codes_go_by_the_mechanism_alone(service: Running, world: World) -> None:
    by_inputs, by_codes = [await service.client.score(what) for what in (INPUTS, coded(world))]
    for one, whole in zip(by_codes.scores, by_inputs.scores, strict=True):
        assert one.measure == verdict_pb2.MEASURE_MECHANISM
        assert one.verdict.mechanism_bits == pytest.approx(whole.verdict.mechanism_bits, rel=1e-12)
        assert math.isnan(one.verdict.surprise_bits)
        assert one.verdict.is_alert == (one.verdict.p_value <= 0.05) == bool(one.alert_id)
    assert {part.term for part in by_codes.scores[0].verdict.parts} == {
        verdict_pb2.TERM_SET,
        verdict_pb2.TERM_OUTPUT,
    }


async def test_alerts_of_codes_are_kept_with_what_was_sent(service: Running, world: World) -> None:
    message = request(coded(world, anomalies(3)), request_id="coded")
    answer = await service.client.score(message)
    raised = [score.alert_id for score in answer.scores if score.alert_id]
    assert raised
    kept = {alert.alert_id: alert for alert in (await service.client.alerts()).alerts}
    assert set(kept) == set(raised)
    for alert in kept.values():
        assert alert.input_digest == digest(payload(message), alert.input_index)
        assert math.isnan(alert.verdict.surprise_bits)
        assert alert.explanation.charges
    again = await service.client.score(message)
    assert [score.alert_id for score in again.scores if score.alert_id] == raised


async def test_codes_are_no_evidence_of_a_stream_that_goes_by_the_surprise(
    service: Running, world: World
) -> None:
    await service.client.score(coded(world))
    await service.client.score(sent(world))
    assert (await service.client.evidence()).stream.inputs == 8
    assert service.sample("mad_stream_inputs_left_out_total", model="tiny") == 0


async def test_the_model_is_not_run_for_what_was_run_elsewhere(
    service: Running, world: World
) -> None:
    codes, activations = coded(world), sent(world)
    await service.client.score(activations)  # the first looks up the shapes of the sites
    with gated(world) as gate:
        await service.client.score(codes)
        await service.client.score(activations)
        assert not gate.sizes


async def test_codes_wait_their_turn_and_are_refused_like_inputs(
    service: Running, world: World
) -> None:
    codes = coded(world, live(64))
    with gated(world) as gate:
        first = asyncio.create_task(service.client.score(live(1)))
        await until(lambda: bool(gate.sizes))
        waiting = [asyncio.create_task(service.client.score(codes)) for _ in range(7)]
        await until(lambda: service.queued == 7 * 64 + 1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.client.scoring.Score(request(codes))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.opened.set()
        await asyncio.gather(first, *waiting)
    assert service.queued == 0


async def test_explanations_come_with_the_scores_if_asked_for(
    service: Running, world: World
) -> None:
    options = pb.ScoreOptions(include_explanations=True, dry_run=True)
    for what in (INPUTS, sent(world), coded(world)):
        answer = await service.client.score(what, options=options)
        for score in answer.scores:
            assert score.HasField("explanation") == score.verdict.is_alert
        assert any(score.explanation.charges for score in answer.scores)
    assert not (await service.client.score(INPUTS)).scores[-1].HasField("explanation")


async def refusal(service: Running, message: pb.ScoreRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.client.scoring.Score(message)
    return refused.value.code(), str(refused.value.details())


async def test_inputs_and_something_in_their_place_are_refused(
    service: Running, world: World
) -> None:
    message = request(coded(world))
    message.inputs.extend(request(INPUTS).inputs)
    code, text = await refusal(service, message)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "1 inputs and codes in their place" in text


async def test_outputs_of_a_model_that_is_not_run_are_refused(
    service: Running, world: World
) -> None:
    options = pb.ScoreOptions(include_outputs=True)
    code, text = await refusal(service, request(sent(world), options=options))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "the model is not run for activations" in text


async def test_activations_of_another_model_fail_the_precondition(
    service: Running, world: World
) -> None:
    message = sent(world)
    message.model_fingerprint = "beef"
    code, text = await refusal(service, request(message))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "another model" in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda batch: batch.sites.pop(), "sites are ['1']; the baseline has ['1', '3']"),
        (lambda batch: batch.sites.append(batch.sites[0]), "site '1' is given twice"),
        (lambda batch: batch.outputs.pop(), "send the model's first, 'output', first"),
        (lambda batch: batch.sites[0].shape.append(1), "expected (batch, 16)"),
    ],
)
async def test_activations_that_do_not_fit_are_refused(
    service: Running, world: World, change: Callable[[Any], object], sentence: str
) -> None:
    message = sent(world)
    change(message)
    code, text = await refusal(service, request(message))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda batch: batch.views.pop(), "views are ['1']; the baseline has ['1', '3']"),
        (lambda batch: batch.views.append(batch.views[0]), "view '1' is given twice"),
        (lambda batch: batch.views[0].counts.__setitem__(0, 99), "its counts add up to"),
        (lambda batch: batch.contexts.pop(), "there are 7 contexts for 8 inputs"),
        (lambda batch: batch.views[1].components.__setitem__(0, 2**32 - 1), "component 4294967295"),
    ],
)
async def test_codes_that_do_not_fit_are_refused(
    service: Running, world: World, change: Callable[[Any], object], sentence: str
) -> None:
    message = coded(world)
    change(message)
    code, text = await refusal(service, request(message))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in text


async def test_more_codes_than_a_request_may_have_are_refused_unread(
    service: Running, world: World
) -> None:
    message = coded(world)
    message.views[0].counts.extend([0] * LIMITS.max_request_inputs)
    code, text = await refusal(service, request(message))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "72 inputs; this server takes at most 64" in text


@settings(FUZZ, max_examples=120)
@given(data=st.data())
async def test_mutated_payloads_have_a_meaningful_answer(
    service: Running, world: World, data: st.DataObject
) -> None:
    good = [request(sent(world), request_id="fuzz"), request(coded(world), request_id="fuzz")]
    whole = data.draw(st.sampled_from([one.SerializeToString() for one in good]))
    content = data.draw(mutated(whole))
    ask: Any = service.channel.unary_unary("/mad.v1.ScoringService/Score")
    assert await ask(content).code() not in ODD
