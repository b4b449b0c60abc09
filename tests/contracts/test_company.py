"""Laws of company: an input gets the same bits alone and in any batch, at any place in it."""

from collections.abc import Sequence
from functools import cache
from typing import Literal, get_args

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.joined import Joined
from mad.fit import FitPlan, fit, split, train_dictionaries
from mad.fit.plan import SetCodeName
from mad.monitor import Monitor
from mad.types import Verdict
from tests.same import same
from tests.worlds import (
    CREATED,
    Rows,
    layered_module,
    ordinary,
    quiet,
    strange,
    tiny_module,
    tiny_world,
)

MOST = 8
Kind = Literal["convolution", "attention", "fussy", "coupled"]


class Fussy(nn.Module):
    """Rounds otherwise in small batches, as many matrix products do."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 1e-6) if len(x) < 5 else x


class Coupled(nn.Module):
    """Measures each input against the mean of its batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * x.mean(dim=0)


def module(kind: Kind) -> tuple[nn.Module, str]:
    """Return a model and a site of it."""
    match kind:
        case "convolution":
            with torch.random.fork_rng():
                torch.manual_seed(0)
                layers = (
                    nn.Conv1d(1, 16, 3, padding=1),
                    nn.ReLU(),
                    nn.Flatten(),
                    nn.Linear(128, 3),
                )
            return nn.Sequential(nn.Unflatten(1, (1, 8)), *layers), "2"
        case "attention":
            return layered_module(), "attention"
        case "fussy":
            return nn.Sequential(Fussy(), *tiny_module().children()), "2"
        case "coupled":
            return nn.Sequential(Coupled(), *tiny_module().children()), "2"


@cache
def monitor(kind: Kind) -> Monitor:
    """Watch a model of that kind, at heights that agree."""
    watched, site = module(kind)
    model = MonitoredModel.of(watched, name=kind, inputs=["x"])
    trusted, plan = Rows(ordinary(400, seed=1)), FitPlan(name="company", false_alarm_rate=0.05)
    rows = split(len(trusted), plan).fitting
    few = DictionaryPlan(width=32, k=4, steps=10, batch_size=128)
    trained = train_dictionaries(model, (site,), trusted, few, rows=rows, progress=quiet)
    decomposition = Joined(trained.dictionaries)
    baseline = fit(model, decomposition, trusted, plan, created=CREATED, progress=quiet)
    return Monitor.bind(model, decomposition, baseline).steadied(most=MOST)


def numbers(verdict: Verdict) -> list[float]:
    """Return every measure and part."""
    parts = [(p.bits, p.rarity_bits, p.rare_components_bits or 0.0) for p in verdict.parts]
    measures = (verdict.surprise_bits, verdict.mechanism_bits, verdict.novelty_bits)
    return [*measures, verdict.description_bits, verdict.p_value, *sum(parts, start=())]


def assert_same(found: Sequence[Verdict], expected: Sequence[Verdict]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert numbers(one) == same(numbers(other))
        assert (one.is_alert, one.context) == (other.is_alert, other.context)


INPUTS = torch.cat([ordinary(24, seed=3), strange(8, seed=4)])


@cache
def alone(kind: Kind) -> tuple[Verdict, ...]:
    """Judge each input by itself."""
    return tuple(monitor(kind).judge({"x": row.unsqueeze(0)}).verdicts[0] for row in INPUTS)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(get_args(Kind)),
    rows=st.lists(st.integers(0, len(INPUTS) - 1), min_size=1, max_size=20),
)
def test_company_and_place_change_no_bit(kind: Kind, rows: list[int]) -> None:
    together = monitor(kind).judge({"x": INPUTS[rows]}).verdicts
    assert_same(together, [alone(kind)[row] for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize("set_code", get_args(SetCodeName))
def test_every_kind_of_code_charges_the_same_in_any_company(set_code: SetCodeName) -> None:
    plan = FitPlan(name="company", false_alarm_rate=0.05, set_code=set_code, magnitudes=True)
    watched = tiny_world(plan).monitor.steadied(most=MOST)
    own = [watched.judge({"x": row.unsqueeze(0)}).verdicts[0] for row in INPUTS]
    for size in (2, 3, 5, 8, 13, len(INPUTS)):
        for rows in torch.arange(len(INPUTS)).flip(0).split(size):
            together = watched.judge({"x": INPUTS[rows]}).verdicts
            assert_same(together, [own[row] for row in rows.tolist()])


def test_explanations_are_of_the_same_bits() -> None:
    watched, x = monitor("fussy"), strange(6, seed=5)
    together = watched.judge({"x": x}, max_charges=1_000)
    for row, verdict in enumerate(together.verdicts):
        told, explanation = watched.explain({"x": x[row : row + 1]}, max_charges=1_000)
        assert_same([told], [verdict])
        costs = [
            [
                charge.bits
                for charge in sorted(each.charges, key=lambda one: (one.site, one.term, one.index))
            ]
            for each in (explanation, together.explanations[row])
        ]
        assert costs[0] == pytest.approx(costs[1], rel=1e-9, abs=1e-9)


def test_what_rounds_otherwise_in_small_batches_is_run_in_large_ones() -> None:
    heights = monitor("fussy").scorer.heights.agreeing
    assert heights
    assert min(heights) >= 5
    assert monitor("coupled").scorer.heights.agreeing == (1,)


def test_outputs_are_the_models_own_at_some_height() -> None:
    watched, x = monitor("fussy"), INPUTS[:3]
    own = watched.scorer.model.module(torch.cat([x, x[:1], x[:1], x[:1], x[:1]])).detach()
    assert torch.equal(watched.judge({"x": x}).outputs["output"], own[:3])


def test_an_output_of_the_whole_batch_is_of_the_inputs_given_alone() -> None:
    watched, x = monitor("fussy"), INPUTS[:3]

    def both(_module: nn.Module, _inputs: object, output: Tensor) -> tuple[Tensor, Tensor]:
        return output, output.mean()

    handle = watched.scorer.model.module.register_forward_hook(both)
    try:
        outputs = watched.judge({"x": x}).outputs
        assert torch.equal(outputs["output_1"], outputs["output_0"].mean())
        assert len(outputs["output_0"]) == 3
        assert watched.steadied(most=MOST).scorer.heights.agreeing == ()
    finally:
        handle.remove()


def test_trying_heights_leaves_chance_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    monitor("fussy").steadied(most=3)
    assert torch.equal(torch.randn(4), expected)
