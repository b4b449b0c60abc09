"""Activations and active sets sent in the place of inputs: judged alike, and refused by name."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from mad.baseline.bundle import Baseline
from mad.components.joined import Joined
from mad.components.unexplained import Unexplained
from mad.errors import BaselineError, InputError
from mad.fit import FitPlan, fit
from mad.monitor import Monitor
from mad.payloads import ActivationBatch, CodeBatch
from mad.types import MEASURES
from tests.payloads import activations_of, codes_of, with_view
from tests.worlds import CREATED, PLAN, Rows, World, ordinary, quiet, strange, tiny_world

INPUTS = {"x": torch.cat([ordinary(40, seed=5), strange(5, seed=6)])}


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world(replace(PLAN, magnitudes=True))


def refit(world: World, plan: FitPlan, *, seed: int = 1) -> Baseline:
    trusted = Rows(ordinary(400, seed=seed))
    return fit(world.model, world.decomposition, trusted, plan, created=CREATED, progress=quiet)


def bound(world: World, baseline: Baseline) -> Monitor:
    return Monitor.bind(world.model, world.decomposition, baseline)


def test_activations_get_the_verdicts_of_their_inputs_bit_for_bit(world: World) -> None:
    batch = activations_of(world, INPUTS)
    world.monitor.check_activations(batch)
    judged, expected = world.monitor.judge_activations(batch), world.monitor.judge(INPUTS)
    assert judged.verdicts == expected.verdicts
    assert judged.explanations == expected.explanations
    assert sum(verdict.is_alert for verdict in judged.verdicts) >= 5


def test_a_model_that_broke_down_elsewhere_is_charged_infinitely_many_bits(world: World) -> None:
    batch = activations_of(world, {"x": ordinary(2, seed=5)})
    batch.activations["3"][1, 0] = torch.nan
    world.monitor.check_activations(batch)
    whole, broken = world.monitor.judge_activations(batch).verdicts
    assert math.isfinite(whole.description_bits)
    assert broken.description_bits == math.inf
    assert broken.is_alert


def test_codes_get_the_mechanism_of_their_inputs_and_nothing_else(world: World) -> None:
    batch = codes_of(world, INPUTS)
    world.monitor.check_codes(batch)
    judged, expected = world.monitor.judge_codes(batch), world.monitor.judge(INPUTS)
    reference = world.baseline.references[MEASURES.index("mechanism")]
    for verdict, whole in zip(judged.verdicts, expected.verdicts, strict=True):
        assert verdict.mechanism_bits == pytest.approx(whole.mechanism_bits, rel=1e-12)
        assert math.isnan(verdict.surprise_bits)
        assert math.isnan(verdict.novelty_bits)
        assert math.isnan(verdict.description_bits)
        assert [part.term for part in verdict.parts] == ["set", "output", "magnitudes"] * 2
        assert set(verdict.parts) <= set(whole.parts)
        assert (verdict.context, verdict.active_components) == (
            whole.context,
            whole.active_components,
        )
        at_least = int((reference >= verdict.mechanism_bits).sum())
        assert verdict.p_value == (at_least + 1) / (len(reference) + 1)
        assert verdict.is_alert == (verdict.p_value <= 0.05)


def test_an_explanation_of_codes_adds_up_to_the_parts_of_the_mechanism(world: World) -> None:
    judged = world.monitor.judge_codes(codes_of(world, INPUTS))
    assert judged.explanations
    for row, explanation in judged.explanations.items():
        charged = sum(charge.bits for charge in explanation.charges) + explanation.rest_bits
        assert charged == pytest.approx(sum(part.bits for part in judged.verdicts[row].parts))


def test_codes_of_trusted_inputs_alert_as_rarely_as_promised(world: World) -> None:
    rates = []
    for seed in range(8):
        monitor = bound(world, refit(world, PLAN, seed=100 + seed))
        batch = codes_of(world, {"x": ordinary(1_000, seed=200 + seed)})
        verdicts = monitor.judge_codes(batch, max_charges=0).verdicts
        rates.append(sum(verdict.is_alert for verdict in verdicts) / len(verdicts))
    # Each rate is of Beta(5, 96): a deviation of 0.022, and 0.0076 for the mean of eight.
    assert sum(rates) / len(rates) <= 0.05 + 4 * 0.0076


def test_codes_are_ranked_among_their_own_context_where_the_baseline_does(world: World) -> None:
    monitor = bound(world, refit(world, replace(PLAN, by_context=True, alert_on="mechanism")))
    found, expected = monitor.judge_codes(codes_of(world, INPUTS)), monitor.judge(INPUTS)
    assert [verdict.p_value for verdict in found.verdicts] == [
        verdict.p_value for verdict in expected.verdicts
    ]


def test_a_baseline_without_contexts_asks_for_no_labels(world: World) -> None:
    monitor = bound(world, refit(world, replace(PLAN, context="none")))
    codes = replace(codes_of(world, INPUTS), contexts=torch.zeros(0, dtype=torch.int64))
    activations = replace(activations_of(world, INPUTS), outputs={})
    monitor.check_codes(codes)
    monitor.check_activations(activations)
    expected = monitor.judge(INPUTS).verdicts
    assert monitor.judge_activations(activations).verdicts == expected
    assert [one.mechanism_bits for one in monitor.judge_codes(codes).verdicts] == pytest.approx(
        [one.mechanism_bits for one in expected]
    )


def site(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., ActivationBatch]:
    return lambda batch: replace(
        batch, activations={**batch.activations, "3": change(batch.activations["3"])}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: replace(batch, activations={}), r"sites are \[\]; the baseline has \['1'"),
        (site(lambda x: x.double()), r"site '3' is float64; the model gives float32"),
        (site(lambda x: x[:, :4]), r"site '3' has shape \(3, 4\); expected \(batch, 16\)"),
        (site(lambda x: x.unsqueeze(1)), r"site '3' has shape \(3, 1, 16\)"),
        (site(lambda x: x[:2]), r"sites differ in batch size: \{'1': 3, '3': 2\}"),
        (site(lambda x: x[:0]), "site '3' is an empty batch"),
        (site(lambda x: x.sum()), r"site '3' has shape \(\)"),
        (lambda batch: replace(batch, outputs={}), r"outputs are \[\]; send the model's first"),
        (
            lambda batch: replace(batch, outputs={"output": torch.zeros(2, 3)}),
            "sites and output differ in batch size",
        ),
        (
            lambda batch: replace(batch, outputs={"output": torch.zeros(3, 4)}),
            r"output 'output' has shape \(3, 4\); expected \(batch, 3\)",
        ),
    ],
)
def test_activations_that_the_model_does_not_give_are_refused(
    world: World, change: Callable[[ActivationBatch], ActivationBatch], message: str
) -> None:
    batch = change(activations_of(world, {"x": ordinary(3, seed=5)}))
    with pytest.raises(InputError, match=message):
        world.monitor.check_activations(batch)


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values)


THREE = {
    "counts": numbers(2, 0, 1),
    "components": numbers(4, 7, 0),
    "magnitudes": numbers(1.0, 2, 3),
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"counts": numbers(2, 0, 2)},
            "view '3' has 3 components and 3 magnitudes, and its counts",
        ),
        ({"magnitudes": numbers(1.0, 2)}, "3 components and 2 magnitudes"),
        ({"counts": numbers(2, 1)}, r"views differ in batch size: \{'1': 3, '3': 2\}"),
        ({"components": numbers(4, 32, 0)}, "component 32; there are 32, from 0"),
        ({"components": numbers(7, 4, 0)}, "the components of row 0 do not ascend"),
        ({"components": numbers(4, 4, 0)}, "the components of row 0 do not ascend"),
        ({"magnitudes": numbers(1.0, 2, 0)}, "magnitude 0.0 in row 2; leave silent components out"),
        ({"magnitudes": numbers(1.0, math.nan, 3)}, "magnitude nan in row 0"),
        ({"magnitudes": numbers(1.0, 2, math.inf)}, "magnitude inf in row 2"),
    ],
)
def test_codes_that_no_dictionary_gives_are_refused(
    world: World, changed: dict[str, torch.Tensor], message: str
) -> None:
    batch = with_view(codes_of(world, {"x": ordinary(3, seed=5)}), "3", **{**THREE, **changed})
    with pytest.raises(InputError, match=message):
        world.monitor.check_codes(batch)


@pytest.mark.parametrize(
    ("contexts", "message"),
    [
        ((), "there are 0 contexts for 3 inputs"),
        ((0, 1, 2, 0), "there are 4 contexts for 3 inputs"),
        ((0, -1, 2), "a context is -1"),
    ],
)
def test_labels_that_no_model_predicts_are_refused(
    world: World, contexts: tuple[int, ...], message: str
) -> None:
    batch = codes_of(world, {"x": ordinary(3, seed=5)})
    with pytest.raises(InputError, match=message):
        world.monitor.check_codes(replace(batch, contexts=torch.tensor(contexts).long()))


def test_codes_of_no_view_or_another_are_refused(world: World) -> None:
    batch = codes_of(world, {"x": ordinary(3, seed=5)})
    with pytest.raises(InputError, match=r"views are \[\]; the baseline has \['1', '3'\]"):
        world.monitor.check_codes(replace(batch, views={}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_fingerprint": "beef"}, r"fitted on another model \(fingerprint .* 'beef'\)"),
        ({"decomposition_fingerprint": ""}, r"fitted on another decomposition"),
    ],
)
def test_codes_of_another_model_or_decomposition_are_refused(
    world: World, change: dict[str, str], message: str
) -> None:
    batch: CodeBatch = replace(codes_of(world, INPUTS), **change)  # type: ignore[arg-type]  # strings
    with pytest.raises(BaselineError, match=message):
        world.monitor.check_codes(batch)


def test_activations_of_another_model_are_refused(world: World) -> None:
    batch = replace(activations_of(world, INPUTS), model_fingerprint="beef")
    with pytest.raises(BaselineError, match=r"fitted on another model \(fingerprint .* 'beef'\)"):
        world.monitor.check_activations(batch)


def test_what_goes_by_effect_needs_the_inputs(world: World) -> None:
    monitor = bound(world, refit(world, replace(PLAN, activity="effect")))
    with pytest.raises(BaselineError, match="activations have none: send inputs"):
        monitor.check_activations(activations_of(world, INPUTS))
    with pytest.raises(BaselineError, match="codes have none: send inputs"):
        monitor.check_codes(codes_of(world, INPUTS))


def test_a_baseline_without_components_has_no_use_for_codes(world: World) -> None:
    bare = Joined((Unexplained("1"), Unexplained("3")))
    trusted = Rows(ordinary(400, seed=1))
    baseline = fit(world.model, bare, trusted, PLAN, created=CREATED, progress=quiet)
    monitor = Monitor.bind(world.model, bare, baseline)
    batch = replace(codes_of(world, INPUTS), decomposition_fingerprint=bare.fingerprint)
    with pytest.raises(BaselineError, match="has no components, so active sets tell it nothing"):
        monitor.check_codes(batch)
    monitor.check_activations(activations_of(world, INPUTS))
