"""Switch dictionaries: which expert a vector goes to, what is active there, what training asks."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.base import Step
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kinds.experts import alike
from mad.components.dictionaries.kinds.switch import (
    Route,
    SwitchEncoder,
    SwitchLearner,
    route,
    strongest,
)
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.train import figures, train_autoencoder
from mad.errors import ConfigError

PLAN = DictionaryPlan(kind="switch", width=20, experts=4, k=3)
WAYS = [(1, False), (2, False), (1, True), (2, True)]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def encoder(active: int, *, always_on: bool, k: int = 3) -> SwitchEncoder:
    """Return four experts of five latents each, of vectors of six coordinates."""
    return SwitchEncoder(
        weight=drawn(6, 20, seed=1),
        bias=drawn(20, seed=2),
        router=drawn(6, 4 - always_on, seed=3),
        router_bias=drawn(4 - always_on, seed=4),
        k=k,
        experts=4,
        active_experts=active,
        always_on=always_on,
    )


def by_hand(one: SwitchEncoder, vector: Tensor) -> Tensor:
    """Compute every latent of one vector, and silence all but the largest of chosen experts."""
    odds = (vector @ one.router + one.router_bias).exp()
    chances = odds / odds.sum()
    chosen = sorted(range(len(chances)), key=lambda e: -float(chances[e]))[: one.active_experts]
    weights = torch.zeros(4, dtype=torch.float64)
    for expert in chosen:
        weights[expert] = chances[expert]
    if one.always_on:
        weights[3] = 1.0
    latents = (vector @ one.weight + one.bias).clamp_min(0) * weights.repeat_interleave(5)
    least = latents.sort(descending=True).values[one.k - 1]
    return torch.where(latents >= least, latents, 0.0)


@pytest.mark.parametrize(("active", "always_on"), WAYS)
def test_the_largest_latents_of_the_chosen_experts_are_active(
    active: int,
    always_on: bool,
) -> None:
    one, vectors = encoder(active, always_on=always_on), drawn(50, 6, seed=5)
    expected = torch.stack([by_hand(one, vector) for vector in vectors])
    torch.testing.assert_close(one.encode(vectors).dense(20), expected)


@pytest.mark.parametrize(("active", "always_on"), WAYS)
def test_no_other_expert_has_active_latents(
    active: int,
    always_on: bool,
) -> None:
    one, vectors = encoder(active, always_on=always_on, k=20), drawn(50, 6, seed=5)
    used = one.encode(vectors).dense(20).unflatten(1, (4, 5)).any(dim=2)
    allowed = torch.zeros_like(used).scatter(1, one.route(vectors).experts, value=True)
    assert not (used & ~allowed).any()
    assert used.any(dim=1).sum() > 40


def test_a_vector_has_the_same_latents_alone_and_in_a_batch() -> None:
    one, vectors = encoder(1, always_on=False), drawn(50, 6, seed=5)
    together = one.encode(vectors)
    for row in range(50):
        alone = one.encode(vectors[row : row + 1])
        torch.testing.assert_close(alone.dense(20), together.dense(20)[row : row + 1])


def test_the_balance_is_one_when_every_expert_is_chosen_as_often() -> None:
    chosen = torch.tensor([[0], [1], [2], [3]])
    even = torch.full((4, 4), 0.25)
    assert Route(chosen, even[:, :1], even).balance().item() == 1.0
    uneven = torch.tensor([[0.4, 0.2, 0.2, 0.2]]).expand(4, 4)
    assert Route(chosen, even[:, :1], uneven).balance().item() == pytest.approx(1.0)


def test_the_balance_is_the_number_of_experts_when_one_is_sure_to_get_everything() -> None:
    chances = functional.one_hot(torch.zeros(5, dtype=torch.int64), 4).float()
    assert Route(torch.zeros(5, 1).long(), chances[:, :1], chances).balance().item() == 4.0


def test_the_balance_leaves_an_always_on_expert_out() -> None:
    chosen = torch.tensor([[0, 2], [1, 2]])
    halves = torch.full((2, 2), 0.5)
    assert Route(chosen, halves, halves).balance().item() == 1.0


@pytest.mark.parametrize(("active", "always_on"), WAYS)
def test_gradients_are_those_of_finite_differences(
    active: int,
    always_on: bool,
) -> None:
    one, vectors = encoder(active, always_on=always_on), drawn(4, 6, seed=5)

    def explained(weight: Tensor, bias: Tensor, router: Tensor, shift: Tensor) -> Tensor:
        chosen = route(vectors, router, shift, active=active, always_on=always_on)
        blocks = list(zip(weight.split(5, dim=1), bias.split(5), strict=True))
        return strongest(vectors, chosen, blocks, 3).explained(drawn(20, 6, seed=6))

    leaves = (one.weight, one.bias, one.router, one.router_bias)
    assert torch.autograd.gradcheck(explained, [leaf.requires_grad_() for leaf in leaves])


def learner(plan: DictionaryPlan = PLAN) -> SwitchLearner:
    return SwitchLearner.begin(Start(drawn(6, 20), drawn(20), drawn(20, 6)), plan)


def test_the_router_learns_from_the_reconstruction_and_the_balance() -> None:
    one, batch = learner(), Examples.own(drawn(40, 6, seed=7))
    forward = one.forward(batch.source)
    assert torch.autograd.grad(forward.explained.square().sum(), one.router)[0].any()
    nobody = Step(0.0, torch.zeros(0, dtype=torch.int64))
    balance = one.penalty(forward, batch, nobody)
    assert torch.autograd.grad(balance, one.router)[0].any()


def test_dead_latents_learn_only_from_vectors_that_their_expert_gets() -> None:
    one, batch = learner(), Examples.own(drawn(40, 6, seed=7))
    with torch.no_grad():
        one.router_bias.copy_(torch.tensor([9.0, 9.0, 9.0, -99.0]))
        one.encoder_bias.fill_(9.0)
    dead = torch.tensor([0, 5, 17])  # the last of an expert that gets nothing
    forward = one.forward(batch.source)
    penalty = one.penalty(forward, batch, Step(0.0, dead))
    gradient = torch.autograd.grad(penalty, one.encoder_bias)[0]
    assert gradient.nonzero().flatten().tolist() == [0, 5]


def clusters(count: int) -> tuple[Tensor, Tensor]:
    """Return sums of two of the eight features of one of four clusters, and the clusters."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * functional.normalize(torch.randn(4, 32, generator=generator), dim=1)
    features = functional.normalize(torch.randn(4, 8, 32, generator=generator), dim=2)
    cluster = torch.randint(4, (count,), generator=generator)
    pair = torch.rand(count, 8, generator=generator).topk(2, dim=1).indices
    strength = 1 + torch.rand(count, 2, 1, generator=generator)
    return centres[cluster] + (features[cluster[:, None], pair] * strength).sum(dim=1), cluster


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_every_cluster_gets_an_expert_of_its_own(seed: int) -> None:
    vectors, cluster = clusters(3000)
    plan = replace(PLAN, width=64, k=4, steps=300, batch_size=128, seed=seed)
    found = train_autoencoder("site", vectors, plan, step_done=lambda _step, _figures: None)
    assert isinstance(found.encoder, SwitchEncoder)
    chosen = found.encoder.route(found.source.normalised(vectors)).experts[:, 0]
    pairs = {(c, e) for c, e in zip(cluster.tolist(), chosen.tolist(), strict=True)}
    assert {c for c, _ in pairs} == {e for _, e in pairs} == {0, 1, 2, 3}
    assert len(pairs) == 4
    assert figures(found, vectors).unexplained_variance < 0.02


def test_like_directions_begin_in_one_expert() -> None:
    centres = functional.normalize(drawn(3, 16, seed=8), dim=1)
    truth = torch.arange(3).repeat(10)
    directions = centres[truth] + 0.05 * drawn(30, 16, seed=9)
    order, means = alike(directions, 3, generator=torch.Generator().manual_seed(0))
    assert order.sort().values.tolist() == list(range(30))
    groups = truth[order].reshape(3, 10)
    assert (groups == groups[:, :1]).all()
    assert sorted(groups[:, 0].tolist()) == [0, 1, 2]
    torch.testing.assert_close(
        (means.T @ centres.T).amax(dim=1), torch.ones(3).double(), atol=0.02, rtol=0
    )


def test_like_directions_share_experts_out_evenly_however_many_there_are() -> None:
    directions = torch.cat([drawn(1, 8, seed=1).expand(9, 8), drawn(3, 8, seed=2)])
    order, means = alike(directions, 4, generator=torch.Generator().manual_seed(0))
    assert order.sort().values.tolist() == list(range(12))
    assert means.shape == (8, 4)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (replace(PLAN, experts=3), r"3 experts cannot share 20 latents .* the width to 21"),
        (replace(PLAN, active_experts=5), r"active_experts is 5; 4 experts leave 4 to choose"),
        (replace(PLAN, active_experts=4, always_on=True), r"is always on, leave 3 to choose"),
        (replace(PLAN, active_experts=0), r"active_experts is 0"),
    ],
)
def test_experts_that_cannot_be_are_refused(plan: DictionaryPlan, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        learner(plan)
