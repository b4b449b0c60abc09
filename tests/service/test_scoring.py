"""Score and Explain over the wire say what the monitor says, and the listings show it."""

from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from torch import Tensor

from mad.client import request, tensor
from mad.types import Verdict
from mad.v1 import scoring_pb2 as pb, verdict_pb2
from tests.same import same
from tests.service.running import Running, anomalies, live
from tests.worlds import World


async def test_scores_are_the_monitors_verdicts(service: Running, world: World) -> None:
    inputs = {"x": torch.cat([live(3)["x"], anomalies(2)["x"]])}
    answer = await service.client.score(inputs)
    expected = world.monitor.judge(inputs).verdicts
    assert [_told(score.verdict) for score in answer.scores] == [_told(each) for each in expected]
    assert [
        [(part.bits, part.rarity_bits, part.rare_components_bits) for part in score.verdict.parts]
        for score in answer.scores
    ] == [
        [(part.bits, part.rarity_bits, part.rare_components_bits or 0.0) for part in verdict.parts]
        for verdict in expected
    ]
    assert [score.verdict.is_alert for score in answer.scores] == [False] * 3 + [True] * 2


def _told(verdict: Verdict | verdict_pb2.Verdict) -> tuple[float, ...]:
    return (
        verdict.surprise_bits,
        verdict.mechanism_bits,
        verdict.novelty_bits,
        verdict.description_bits,
        verdict.p_value,
    )


async def test_the_parts_of_a_verdict_add_up_to_its_description(service: Running) -> None:
    answer = await service.client.score(live(1))
    verdict = answer.scores[0].verdict
    assert sum(part.bits for part in verdict.parts) == pytest.approx(verdict.description_bits)
    assert {part.term for part in verdict.parts} == {
        verdict_pb2.TERM_SET,
        verdict_pb2.TERM_OUTPUT,
        verdict_pb2.TERM_RESIDUAL,
        verdict_pb2.TERM_NEIGHBOURS,
    }


async def test_an_answer_names_request_model_revision_and_time(service: Running) -> None:
    answer = await service.client.score(request(live(1), request_id="mine"))
    assert (answer.request_id, answer.model, answer.baseline_revision) == ("mine", "tiny", "tiny@1")
    age = datetime.now(UTC) - answer.score_time.ToDatetime(tzinfo=UTC)
    assert abs(age.total_seconds()) < 60


async def test_outputs_are_bit_equal_to_the_models_own(service: Running, world: World) -> None:
    inputs = live(5)
    answer = await service.client.score(inputs, options=pb.ScoreOptions(include_outputs=True))
    with torch.no_grad():
        expected: Tensor = world.model.module(inputs["x"])
    (output,) = answer.outputs
    assert output.name == "output"
    assert output.data == expected.numpy().tobytes()
    assert list(output.shape) == [5, 3]


async def test_outputs_stay_away_unless_asked_for(service: Running) -> None:
    assert not (await service.client.score(live(1))).outputs


async def test_a_request_above_the_batch_size_is_scored_in_slices(service: Running) -> None:
    inputs = {"x": torch.cat([live(30)["x"], anomalies(3)["x"]])}
    answer = await service.client.score(inputs, options=pb.ScoreOptions(include_outputs=True))
    expected = service.server.registry.resolve("").judge(inputs).verdicts
    assert [score.verdict.surprise_bits for score in answer.scores] == same(
        [verdict.surprise_bits for verdict in expected]
    )
    assert list(answer.outputs[0].shape) == [33, 3]
    assert [bool(score.alert_id) for score in answer.scores[-4:]] == [False, True, True, True]
    largest = service.sample("mad_batch_size_bucket", model="tiny", le="8.0")
    assert largest == service.sample("mad_batch_size_count", model="tiny") == 5


@pytest.mark.parametrize("baseline", ["", "tiny", "tiny@1"])
async def test_a_baseline_goes_by_default_name_or_revision(service: Running, baseline: str) -> None:
    answer = await service.client.score(live(1), baseline=baseline)
    assert answer.baseline_revision == "tiny@1"


async def test_every_kind_of_array_means_the_same(service: Running) -> None:
    torch_input = live(1)["x"]
    numpy_input = torch_input.numpy()
    strided = np.asfortranarray(np.concatenate([numpy_input, numpy_input]))[:1]
    answers = [
        await service.client.score({"x": array})
        for array in (torch_input, numpy_input, strided, tensor("x", numpy_input))
    ]
    assert len({answer.scores[0].verdict.surprise_bits for answer in answers}) == 1


async def test_an_explanation_adds_up_and_raises_no_alert(service: Running) -> None:
    answer = await service.client.explain(anomalies(1), max_charges=3)
    charged = sum(charge.bits for charge in answer.explanation.charges)
    assert len(answer.explanation.charges) == 3
    assert charged + answer.explanation.rest_bits == pytest.approx(answer.verdict.description_bits)
    assert not (await service.client.alerts()).alerts


async def test_counterfactuals_are_the_monitors_if_asked_for(
    service: Running, world: World
) -> None:
    inputs = anomalies(1)
    answer = await service.client.explain(inputs, max_charges=200, counterfactuals=True)
    _, explanation = world.monitor.explain(inputs, max_charges=200)
    expected = world.monitor.counterfactuals(inputs, explanation)
    assert [
        (one.site, tuple(one.removed), tuple(one.absent), one.label_before, one.label_after)
        for one in answer.counterfactuals
    ] == [
        (one.site, one.removed, one.absent, one.label_before, one.label_after) for one in expected
    ]
    assert [one.output_change for one in answer.counterfactuals] == [
        one.output_change for one in expected
    ]
    terms = {"components": verdict_pb2.TERM_SET, "residual": verdict_pb2.TERM_RESIDUAL}
    assert [one.term for one in answer.counterfactuals] == [terms[one.what] for one in expected]
    assert {one.what for one in expected} == {"components", "residual"}
    assert not (await service.client.explain(inputs, max_charges=200)).counterfactuals


async def test_baselines_are_listed_with_what_is_loaded(service: Running, world: World) -> None:
    service.server.store.save(world.baseline, activate=False)
    listed = (await service.client.baselines("tiny")).baselines
    assert [(each.version, each.is_active, each.is_loaded) for each in listed] == [
        (2, False, False),
        (1, True, True),
    ]
    assert not (await service.client.baselines("../tiny")).baselines


async def test_what_was_scored_is_counted_by_traffic(service: Running) -> None:
    await service.client.score(live(3), options=pb.ScoreOptions(traffic=pb.TRAFFIC_TRUSTED))
    await service.client.score(live(2))
    labels = {"model": "tiny", "baseline": "tiny"}
    assert service.sample("mad_inputs_scored_total", **labels, traffic="trusted") == 3
    assert service.sample("mad_inputs_scored_total", **labels, traffic="live") == 2


async def test_calls_are_counted_with_the_status_they_end_with(service: Running) -> None:
    await service.client.score(live(1))
    labels = {
        "grpc_type": "unary",
        "grpc_service": "mad.v1.ScoringService",
        "grpc_method": "Score",
    }
    assert service.sample("grpc_server_started_total", **labels) == 1
    assert service.sample("grpc_server_handled_total", **labels, grpc_code="OK") == 1
