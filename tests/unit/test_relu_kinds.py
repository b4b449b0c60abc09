"""Penalised magnitudes shrink, by how much theory says, and least squares makes it good."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.base import Learner, Step
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kinds.gated import GatedEncoder
from mad.components.dictionaries.kinds.registry import LEARNERS
from mad.components.dictionaries.kinds.relu import ReLUEncoder
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.shrinkage import gains, relative_bias
from mad.components.dictionaries.steering import Steering
from mad.components.dictionaries.training import Training
from mad.errors import ConfigError

Penalised = Literal["relu", "lp", "gated"]
ONE_EACH = Examples.own(torch.eye(4))
"""Four orthogonal features, one active in each vector, at a strength of one."""


def settled(kind: Penalised) -> Tensor:
    """Return the magnitudes that a constant coefficient of 0.2 leaves, from the known directions.

    With one active latent of length one, ``k = s = 1``: the loss of each is ``(1 - z)^2`` plus 0.2
    times its cost.
    """
    plan = DictionaryPlan(kind=kind, width=4, k=1, p=0.5)
    start = Start(torch.eye(4), torch.zeros(4), torch.eye(4), threshold=torch.tensor(0.3))
    learner = LEARNERS[kind](start, plan)
    weights = learner.parameters
    assert float(learner.buffers["held"].exp()) == pytest.approx(0.2)
    optimiser = torch.optim.Adam(list(weights.values()), lr=0.005)
    for _ in range(400):
        optimiser.zero_grad()
        loss(learner).backward()
        optimiser.step()
        with torch.no_grad():
            functional.normalize(weights["decoder"], dim=1, out=weights["decoder"])
    latents = learner.forward(ONE_EACH.source).latents
    assert latents.components.tolist() == [0, 1, 2, 3]
    return latents.values.detach()


def loss(learner: Learner) -> Tensor:
    forward = learner.forward(ONE_EACH.source)
    lost = (ONE_EACH.target - forward.explained).square().sum() / ONE_EACH.target.square().sum()
    nobody = torch.zeros(0, dtype=torch.int64)
    return lost + learner.penalty(forward, ONE_EACH, Step(1.0, nobody))


def test_an_l1_penalty_shrinks_each_magnitude_by_half_of_it() -> None:
    torch.testing.assert_close(settled("relu"), torch.full((4,), 1 - 0.2 / 2), rtol=0, atol=2e-3)


def test_an_lp_penalty_shrinks_a_strong_magnitude_by_half_its_slope_there() -> None:
    expected = 1.0
    for _ in range(50):
        expected = 1 - 0.2 / 2 * 0.5 / math.sqrt(expected + 0.1)
    assert expected > 0.95
    torch.testing.assert_close(settled("lp"), torch.full((4,), expected), rtol=0, atol=2e-3)


def test_gated_magnitudes_do_not_shrink() -> None:
    torch.testing.assert_close(settled("gated"), torch.ones(4), rtol=0, atol=2e-3)


def separate(count: int = 4_000) -> Tensor:
    """Return vectors of twelve coordinates, each used by a fifth of them."""
    generator = torch.Generator().manual_seed(0)
    used = torch.rand(count, 12, generator=generator) < 0.2
    return used * (1 + torch.rand(count, 12, generator=generator))


VECTORS = separate()


def biases(kind: Penalised) -> tuple[float, float, Training]:
    """Return the relative bias in training and of the result, with one active latent of 2.4."""
    plan = DictionaryPlan(kind=kind, width=24, k=1, steps=250, batch_size=128, learning_rate=1e-2)
    training = Training.begin(Look.at("site", "auto"), Examples.own(VECTORS), plan)
    for rows in torch.arange(250 * 128).reshape(250, 128) % len(VECTORS):
        training.step(Examples.own(VECTORS[rows]))
    source = training.source.normalised(VECTORS)
    finished = training.finish(Examples.own(VECTORS))
    after = finished.encoder.encode(source).explained(finished.decoder)
    before = training.learner.forward(source).explained.detach()
    if isinstance(finished.encoder, ReLUEncoder):
        assert finished.encoder.shrunk == pytest.approx(float(relative_bias(before, source)))
    return float(relative_bias(before, source)), float(relative_bias(after, source)), training


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[float, float, Training]]:
    return {"relu": biases("relu"), "lp": biases("lp"), "gated": biases("gated")}


def test_at_one_activity_l1_shrinks_most_and_gates_not_at_all(
    found: dict[str, tuple[float, float, Training]],
) -> None:
    before = {kind: bias for kind, (bias, _, _) in found.items()}
    assert before["relu"] < 0.65
    assert before["relu"] + 0.05 < before["lp"] < 0.9
    assert before["gated"] == pytest.approx(1, abs=0.03)


def test_nothing_is_shrunk_when_training_is_finished(
    found: dict[str, tuple[float, float, Training]],
) -> None:
    for _, after, _ in found.values():
        assert after == pytest.approx(1, abs=0.03)


def test_gains_leave_the_active_set_and_explain_more(
    found: dict[str, tuple[float, float, Training]],
) -> None:
    training = found["relu"][2]
    source = training.source.normalised(VECTORS)
    forward = training.learner.forward(source)
    finished = training.finish(Examples.own(VECTORS))
    latents = finished.encoder.encode(source)
    assert torch.equal(latents.components, forward.latents.components)
    lost = (source - forward.explained.detach()).square().sum()
    assert (source - latents.explained(finished.decoder)).square().sum() < 0.95 * lost


def test_gains_are_those_of_least_squares() -> None:
    """Against the dense normal equations, with one activation's weight for the common gain."""
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(60, 6, generator=generator) * (torch.rand(60, 6, generator=generator) < 0.4)
    table[:, 5] = 0
    decoder = functional.normalize(torch.randn(6, 4, generator=generator), dim=1)
    factors = torch.tensor([1.5, 2.0, 1.2, 3.0, 1.0, 7.0])
    target = (table * factors) @ decoder + 0.1 * torch.randn(60, 4, generator=generator)
    parts = (table.T.unsqueeze(2) * decoder.unsqueeze(1)).flatten(1).double()
    common = (table @ decoder * target).sum() / (table @ decoder).square().sum()
    hold = table[table > 0].square().mean().double() * torch.eye(6)
    expected = torch.linalg.solve(
        parts @ parts.T + hold, parts @ target.flatten().double() + hold.sum(dim=1) * common
    )
    found = gains(Latents.where(table > 0, table), decoder, target)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)
    assert float(found[5]) == pytest.approx(float(common), rel=1e-5)


def test_gains_are_positive_even_where_a_latent_does_harm() -> None:
    table = torch.tensor([[1.0, 1.0]] * 50)
    target = torch.tensor([[2.0, -1.0]] * 50)
    found = gains(Latents.where(table > 0, table), torch.eye(2), target)
    assert found[0] > 1
    assert found[1] > 0


def test_gains_explain_no_less_than_one_for_all_where_latents_lean_on_each_other() -> None:
    """Least squares asks for 6 and -5: without the second, six times the first is far too much."""
    noise = torch.rand(2_000, generator=torch.Generator().manual_seed(0))
    table = torch.stack([0.7 + noise, torch.ones(2_000)], dim=1)
    target = (table @ torch.tensor([[6.0], [-5.0]])).expand(-1, 1)
    found = gains(Latents.where(table > 0, table), torch.ones(2, 1), target)
    alike = table.sum(dim=1, keepdim=True)
    common = (alike * target).sum() / alike.square().sum()
    left, left_alike = (
        (target - one).square().sum() for one in (table @ found.unsqueeze(1), common * alike)
    )
    assert (found > 0).all()
    assert left <= left_alike


def test_a_latent_seen_once_and_barely_gets_no_gain_of_its_own() -> None:
    table = torch.eye(2).repeat(50, 1)
    table[1:, 1] = 0
    table[0] = torch.tensor([0.0, 1e-4])
    target = (table > 0).float() * 1.5
    found = gains(Latents.where(table > 0, table), torch.eye(2), target)
    torch.testing.assert_close(found, torch.full((2,), 1.5), rtol=0.02, atol=0)


def test_a_relative_bias_is_one_where_nothing_is_explained() -> None:
    assert float(relative_bias(torch.zeros(3, 2), torch.ones(3, 2))) == 1


def test_the_coefficient_follows_the_activity() -> None:
    steering = Steering(wanted=2)
    first = float(steering.coefficient)

    def seen(active: int) -> float:
        steering.saw(Latents.where(torch.ones(5, active) > 0, torch.ones(5, active)))
        return float(steering.coefficient)

    assert seen(2) == pytest.approx(first)
    high = seen(4)
    assert high > 3 * first
    # What is held rises with every step, and stays when the activity is as wanted.
    assert seen(4) > high
    assert first < seen(2) < high
    assert seen(1) < first


def test_a_gated_encoder_is_its_equation() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, source = (torch.randn(3, n, generator=generator) for n in (5, 3))
    gate_bias, log_gain, magnitude_bias = torch.randn(3, 5, generator=generator)
    encoder = GatedEncoder(weight, gate_bias, log_gain, magnitude_bias)
    opened = (source @ weight + gate_bias > 0).float()
    magnitudes = (source @ (weight * log_gain.exp()) + magnitude_bias).relu()
    torch.testing.assert_close(encoder.encode(source).dense(5), opened * magnitudes)


@pytest.mark.parametrize("p", [0.0, 1.0, 1.5])
def test_an_exponent_that_is_no_lp_is_refused(p: float) -> None:
    plan = DictionaryPlan(kind="lp", width=4, p=p)
    with pytest.raises(ConfigError, match=rf"p is {p}; .* 0 < p < 1, or kind relu"):
        Training.begin(Look.at("site", "auto"), Examples.own(VECTORS), plan)
