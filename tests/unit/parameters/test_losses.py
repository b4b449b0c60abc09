"""Losses of a decomposition: numbers worked out by hand, and the plain formulas beside ours."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mad.bench.truth.resid_mlp import FoldedPasses, ResidMlp
from mad.components.parameters.importance import ScalarImportance
from mad.components.parameters.layers import matrix_layer
from mad.components.parameters.sigmoids import lower_leaky, upper_leaky
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.adversary import Adversary
from mad.components.parameters.training.initial import initial, pieces
from mad.components.parameters.training.losses import Attempt, Now, Terms, terms
from mad.components.parameters.training.matrices import Matrices
from mad.components.parameters.training.noise import Demand, Noise
from mad.components.parameters.training.passes import Passes
from mad.components.parameters.training.plan import LayerPlan, SpdPlan
from mad.components.parameters.training.twin import Twin
from mad.components.parameters.training.zeros import Zeros
from tests.unit.parameters.models import Tied

TIED = SpdPlan(
    layers=(LayerPlan("linear1", 6), LayerPlan("linear2", 6)),
    ties=(("linear1", "linear2"),),
    frequency_coefficient=0.01,
)
NOTHING = torch.zeros(())


def single(weight: Tensor, u: Tensor) -> tuple[nn.Module, Subcomponents]:
    """Return a layer that reads one number, and one piece of it with an importance of a half."""
    model = nn.Sequential(nn.Linear(1, len(weight), bias=False))
    model[0].weight = nn.Parameter(weight.reshape(-1, 1))
    zero = torch.zeros(1, 1)
    half = ScalarImportance(zero, zero, zero, torch.tensor([0.5]))
    u = u.reshape(1, -1).requires_grad_()
    return model, Subcomponents(matrix_layer(model, "0"), torch.ones(1, 1), u, half)


def terms_of_single(weight: Tensor, u: Tensor, noise: Tensor, **changes: object) -> Terms:
    model, piece = single(weight, u)
    plan = SpdPlan(layers=(LayerPlan("0", 1),), **changes)  # type: ignore[arg-type]  # its fields
    batch, row = torch.ones(1, 1), {"0": noise}
    passes = Twin(model, [piece.layer])
    attempt = Attempt.at(passes, {"0": piece}, batch, torch.ones(1), plan.distance)
    now = Now(Noise(row, row, {}, None), {}, plan.p, plan.gamma)
    with torch.no_grad():
        return terms(attempt, plan, now, NOTHING)


def test_losses_of_one_number_are_those_worked_out_by_hand() -> None:
    noise = torch.tensor([[0.5, 0.25]])
    found = terms_of_single(
        torch.tensor([2.0]), torch.tensor([1.5]), noise, frequency_coefficient=1.0
    )
    # Half, and half of the other half: 0.75 of 1.5; and a quarter of the 0.5 that it misses.
    assert float(found.stochastic) == pytest.approx((2 - (0.75 * 1.5 + 0.25 * 0.5)) ** 2)
    assert float(found.layerwise) == pytest.approx(float(found.stochastic))
    assert float(found.importance) == pytest.approx(0.5)
    assert float(found.frequency) == pytest.approx(0.5 * math.log2(1.5))


def test_the_smooth_penalty_saturates() -> None:
    noise = torch.zeros(1, 2)
    given = torch.tensor([2.0]), torch.tensor([1.5]), noise
    found = terms_of_single(*given, penalty="smooth_l0", gamma=1.0)
    assert float(found.importance) == pytest.approx(0.25 / 1.25)


def test_logits_are_compared_in_nats() -> None:
    # The model's are 1 to 3; without delta and u, the masked ones are even.
    weight = torch.tensor([0.0, math.log(3.0)])
    found = terms_of_single(weight, torch.zeros(2), torch.zeros(1, 1), delta=False, distance="kl")
    wanted = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert float(found.stochastic) == pytest.approx(wanted)


def test_from_one_to_all_layers_are_masked() -> None:
    # Each row orders three layers; its last number says how many are masked.
    routing = torch.tensor([[0.9, 0.1, 0.5, 0.0], [0.2, 0.3, 0.4, 0.5], [0.2, 0.3, 0.4, 0.99]])
    places = {"a": (3,), "b": (3,), "c": (3, 2)}
    routed = Noise({}, {}, {}, routing).routed(places)
    assert routed["a"].squeeze(1).tolist() == [False, True, True]
    assert routed["b"].squeeze(1).tolist() == [True, True, True]
    assert routed["c"].squeeze(2).tolist() == [[False] * 2, [False] * 2, [True] * 2]


def gradients(
    passes: Passes,
    plan: SpdPlan,
    matrices: Matrices,
    parameters: Mapping[str, Tensor],
    given: tuple[Tensor, Tensor, Noise],
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss and its gradients as training has them."""
    batch, weight, noise = given
    made = pieces(matrices, plan, parameters)
    attempt = Attempt.at(passes, made, batch, weight, plan.distance)
    loss = terms(attempt, plan, Now(noise, {}, plan.p, plan.gamma), NOTHING).total(plan)
    return loss, list(torch.autograd.grad(loss, list(parameters.values())))


def plainly(
    model: Tied, plan: SpdPlan, made: Mapping[str, Subcomponents], batch: Tensor, noise: Noise
) -> Tensor:
    """Return the loss by the formulas of the paper, with each delta component formed."""
    weights = {"linear1": model.linear1.weight.T, "linear2": model.linear2.weight.T}
    bias = {"linear1": torch.zeros(2), "linear2": model.linear2.bias}
    own = {"linear1": batch, "linear2": batch @ weights["linear1"]}
    logits = {name: one.importance.logits(own[name] @ one.v, None) for name, one in made.items()}

    # Once for all passes: what leaks below zero depends on the sign of the whole slope.
    importance = {name: lower_leaky(one) for name, one in logits.items()}

    def output(sources: Mapping[str, Tensor]) -> Tensor:
        rows = batch
        for name, one in made.items():
            if name not in sources:
                rows = rows @ weights[name] + bias[name]
                continue
            g, r, d = importance[name], sources[name][:, :-1], sources[name][:, -1:]
            delta = weights[name] - one.v @ one.u
            masked = ((g + (1 - g) * r) * (rows @ one.v)) @ one.u
            rows = masked + d * (rows @ delta) + bias[name]
        return torch.relu(rows)

    wanted: Tensor = model(batch).detach()
    passes = [noise.stochastic, *({name: one} for name, one in noise.layerwise.items())]
    missed = [(output(one) - wanted).square().mean() for one in passes]
    loss = missed[0] + (missed[1] + missed[2]) / 2
    for one in logits.values():
        s = upper_leaky(one).add(1e-12).pow(plan.p).sum(dim=0)
        loss = loss + plan.importance_coefficient * s.sum() / len(batch)
        often = (s * torch.log2(1 + s)).sum() / len(batch)
        loss = loss + plan.frequency_coefficient * often
    return loss


def test_gradients_are_those_of_the_plain_formulas() -> None:
    model, generator = Tied().double(), torch.Generator().manual_seed(0)
    matrices = Matrices.of(model, TIED)
    parameters = {
        name: one.detach().double().requires_grad_()
        for name, one in initial(matrices, TIED, generator).items()
    }
    batch = torch.rand(32, 5, generator=generator, dtype=torch.float64)
    demand = Demand.of(TIED, {"linear1": (32,), "linear2": (32,)})
    noise = demand.dealt(demand.drawn(generator).double())
    passes = Twin(model, matrices.layers)
    weight = torch.ones(32, dtype=torch.float64)
    loss, slopes = gradients(passes, TIED, matrices, parameters, (batch, weight, noise))
    plain = plainly(model, TIED, pieces(matrices, TIED, parameters), batch, noise)
    torch.testing.assert_close(loss, plain)
    wanted = torch.autograd.grad(plain, list(parameters.values()))
    for slope, other in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(slope, other, atol=1e-10, rtol=1e-8)


def test_one_input_of_zeros_stands_for_all() -> None:
    model, generator = Tied(), torch.Generator().manual_seed(0)
    matrices = Matrices.of(model, TIED)
    parameters = initial(matrices, TIED, generator)
    batch = torch.rand(32, 5, generator=generator)
    batch[5:] = 0.0
    passes = Twin(model, matrices.layers)
    rows, weight = Zeros(16).collapsed(batch)
    assert weight.tolist() == [1.0] * 5 + [27.0] + [0.0] * 10
    whole, few = (Demand.of(TIED, {"linear1": (count,), "linear2": (count,)}) for count in (32, 16))
    noise = whole.dealt(whole.drawn(generator))
    first = Noise(
        {name: one[:16] for name, one in noise.stochastic.items()},
        {name: one[:16] for name, one in noise.layerwise.items()},
        {},
        None,
    )
    assert few.count() == whole.count() // 2
    loss, slopes = gradients(passes, TIED, matrices, parameters, (batch, torch.ones(32), noise))
    ours, ours_slopes = gradients(passes, TIED, matrices, parameters, (rows, weight, first))
    torch.testing.assert_close(ours, loss)
    for slope, other in zip(ours_slopes, slopes, strict=True):
        torch.testing.assert_close(slope, other, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("delta", [True, False])
def test_a_folded_network_has_the_losses_of_the_network(delta: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / math.sqrt(shape[0])

    model = ResidMlp(drawn(6, 20), [(drawn(20, 4), drawn(4, 20)) for _ in range(2)])
    names = [f"layers.{layer}.mlp_{way}" for layer in (0, 1) for way in ("in", "out")]
    plan = SpdPlan(layers=tuple(LayerPlan(name, 8) for name in names), delta=delta)
    matrices = Matrices.of(model, plan)
    parameters = initial(matrices, plan, generator)
    batch = drawn(16, 6)
    demand = Demand.of(plan, dict.fromkeys(names, (16,)))
    given = batch, torch.ones(16), demand.dealt(demand.drawn(generator))
    torch.testing.assert_close(FoldedPasses(model).look(batch).output, model(batch))
    loss, slopes = gradients(FoldedPasses(model), plan, matrices, parameters, given)
    wanted, others = gradients(Twin(model, matrices.layers), plan, matrices, parameters, given)
    torch.testing.assert_close(loss, wanted)
    for slope, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(slope, other, atol=1e-6, rtol=1e-4)


def test_an_adversary_finds_masks_that_hurt_more() -> None:
    model, generator = Tied(), torch.Generator().manual_seed(0)
    plan = replace(TIED, adversarial_coefficient=1.0, adversary_steps=20, steps=1)
    matrices = Matrices.of(model, plan)
    made = pieces(matrices, plan, initial(matrices, plan, generator))
    batch = torch.rand(32, 5, generator=generator)
    passes = Twin(model, matrices.layers)
    attempt = Attempt.at(passes, made, batch, torch.ones(32), plan.distance)
    adversary = Adversary.begin(plan, attempt.places, generator)
    importance = {name: lower_leaky(one) for name, one in attempt.logits.items()}
    before = attempt.missed(adversary.sources, importance)
    adversary.attack(attempt)
    after = attempt.missed(adversary.sources, importance)
    assert after > before
    assert all(one.min() >= 0 and one.max() <= 1 for one in adversary.sources.values())
