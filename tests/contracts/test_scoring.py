"""Laws of scoring: exact books, and the same input gets the same verdict."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import binomtest

from mad.codes.accounting import Books
from mad.scoring import context_of
from tests.same import same
from tests.worlds import World, ordinary, strange, tiny_world


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


def test_parts_add_up_to_the_description(world: World) -> None:
    inputs = {"x": torch.cat([ordinary(20, seed=5), strange(20, seed=6)])}
    for verdict in world.monitor.judge(inputs).verdicts:
        total = math.fsum(part.bits for part in verdict.parts)
        assert total == pytest.approx(verdict.description_bits, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 500))
def test_charges_and_rest_add_up_to_the_description(max_charges: int) -> None:
    verdict, explanation = tiny_world().monitor.explain(
        {"x": strange(1, seed=7)}, max_charges=max_charges
    )
    total = math.fsum(charge.bits for charge in explanation.charges) + explanation.rest_bits
    assert total == pytest.approx(verdict.description_bits, rel=1e-9)


def test_one_by_one_equals_batched(world: World) -> None:
    x = torch.cat([ordinary(30, seed=8), strange(10, seed=9)])
    monitor = world.monitor.steadied(most=40)
    together = monitor.judge({"x": x}).verdicts
    for row, verdict in enumerate(together):
        (alone,) = monitor.judge({"x": x[row : row + 1]}).verdicts
        assert [alone.description_bits, alone.surprise_bits] == same(
            [verdict.description_bits, verdict.surprise_bits]
        )
        assert (alone.is_alert, alone.context) == (verdict.is_alert, verdict.context)


def test_the_same_batch_is_judged_identically_twice(world: World) -> None:
    inputs = {"x": strange(12, seed=10)}
    assert world.monitor.judge(inputs).verdicts == world.monitor.judge(inputs).verdicts


def test_outputs_are_the_models_own(world: World) -> None:
    x = ordinary(9, seed=11)
    outputs = world.monitor.judge({"x": x}).outputs
    assert torch.equal(outputs["output"], world.model.module(x).detach())


def test_fresh_ordinary_inputs_raise_alerts_at_the_promised_rate(world: World) -> None:
    verdicts = world.monitor.judge({"x": ordinary(4000, seed=12)}).verdicts
    alerts = sum(verdict.is_alert for verdict in verdicts)
    # The rate given one reference of 150 spreads by about 0.018 around 0.05; allow a few of them.
    assert binomtest(alerts, 4000, 0.05 + 4 * 0.018, alternative="greater").pvalue > 1e-3
    assert binomtest(alerts, 4000, 0.05 - 2.5 * 0.018, alternative="less").pvalue > 1e-3


def test_strange_inputs_raise_alerts_with_explanations(world: World) -> None:
    judgement = world.monitor.judge({"x": strange(20, seed=13)})
    assert all(verdict.is_alert for verdict in judgement.verdicts)
    assert set(judgement.explanations) == set(range(20))


def test_inputs_explained_together_are_explained_as_alone(world: World) -> None:
    scorer = world.monitor.scorer
    scored = scorer.score({"x": strange(20, seed=13)})
    rarity = world.baseline.weighing.weigh(scored.ledger).rarity
    rows = [19, 3, *range(10), 3]
    together = tuple(
        scorer.explain(
            scored.observed, rows, rarity=rarity, leading=world.baseline.measured, max_charges=500
        )
    )
    assert len(together) == len(rows)
    for row, found in zip(rows, together, strict=True):
        (alone,) = scorer.explain(
            scored.observed, [row], rarity=rarity, leading=world.baseline.measured, max_charges=500
        )
        assert found.nearest == alone.nearest
        assert found.rest_bits == pytest.approx(alone.rest_bits, abs=1e-6)
        named = [
            {(one.site, one.term, one.index): (one.bits, one.magnitude) for one in each.charges}
            for each in (found, alone)
        ]
        assert named[0].keys() == named[1].keys()
        for key, cost in named[0].items():
            assert cost == pytest.approx(named[1][key], rel=1e-9, abs=1e-6)


def test_explanations_are_made_for_alerts_only(world: World) -> None:
    x = torch.cat([ordinary(5, seed=14), strange(1, seed=15)])
    judgement = world.monitor.judge({"x": x})
    alerting = {row for row, verdict in enumerate(judgement.verdicts) if verdict.is_alert}
    assert set(judgement.explanations) == alerting
    assert 5 in alerting


def test_a_model_that_breaks_down_is_infinitely_surprising_by_every_measure(world: World) -> None:
    x = ordinary(3, seed=16)
    x[1] = torch.finfo(torch.float32).max
    before, broken, after = world.monitor.judge({"x": x}).verdicts
    assert {part.bits for part in broken.parts} == {math.inf}
    assert {part.rarity_bits for part in broken.parts} == {math.inf}
    measures = (broken.surprise_bits, broken.mechanism_bits, broken.novelty_bits)
    assert measures == (math.inf,) * 3
    assert all(math.isfinite(one.description_bits) for one in (before, after))
    assert broken.is_alert
    assert broken.p_value == 1 / (world.baseline.manifest.reference_inputs + 1)


def test_a_site_that_is_not_a_number_leaves_other_sites_and_inputs_as_they_were(
    world: World,
) -> None:
    scored = world.monitor.scorer.score({"x": ordinary(3, seed=17)})
    activity, context = dict(scored.observed.activity), scored.observed.context
    harmed = activity["3"].residual.clone()
    harmed[1, 0] = torch.nan
    activity["3"] = replace(activity["3"], residual=harmed)
    expected = scored.ledger.bits.clone()
    expected[1, [site == "3" for site, _ in scored.ledger.keys]] = torch.inf
    assert torch.equal(Books.of(world.baseline.parts).ledger(activity, context).bits, expected)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"logits": torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])}, [1, 0]),
        ({"logits": torch.tensor([[0.0, 2.0], [5.0, 2.0]]).bfloat16()}, [1, 0]),
        ({"tokens": torch.eye(4)[torch.tensor([[0, 1], [2, 3]])]}, [1, 3]),
        ({"odds": torch.tensor([[-1.0], [1.0]])}, [0, 1]),
        ({"flags": torch.tensor([[False, True], [True, False]])}, [1, 0]),
        ({"flag": torch.tensor([False, True])}, [0, 1]),
        ({"words": torch.nn.functional.one_hot(torch.tensor([300, 49_999]), 50_000)}, [44, 79]),
        ({"nothing": torch.empty(2, 0)}, [-1, -1]),
        ({"waves": torch.ones(2, 3, dtype=torch.complex64)}, [-1, -1]),
        ({"loss": torch.tensor(1.0)}, [-1, -1]),
        ({"summary": torch.ones(5, 3)}, [-1, -1]),
        ({}, [-1, -1]),
    ],
)
def test_the_context_is_what_the_first_output_predicts(
    outputs: dict[str, torch.Tensor], expected: list[int]
) -> None:
    assert context_of(outputs, "predicted", batch=2).tolist() == expected
    assert context_of(outputs, "none", batch=2).tolist() == [-1, -1]
