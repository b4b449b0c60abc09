"""Kinds that come to thresholds: what they learn from, and what they are calibrated to."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.base import Step
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kinds.batch_topk import BatchTopKLearner, exceeded_by
from mad.components.dictionaries.kinds.jumprelu import Jumping, JumpReLUEncoder, jump
from mad.components.dictionaries.kinds.matryoshka import MatryoshkaLearner, explained_by_parts
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples
from mad.components.dictionaries.plan import DictionaryPlan, Kind
from mad.components.dictionaries.train import train_autoencoder

PLAN = DictionaryPlan(width=32, k=3)


def begun(coordinates: int = 8) -> Start:
    generator = torch.Generator().manual_seed(0)
    decoder = functional.normalize(torch.randn(32, coordinates, generator=generator), dim=1)
    return Start(decoder.T.clone(), torch.zeros(32), decoder, threshold=torch.tensor(0.8))


def drawn(count: int, coordinates: int = 8, *, seed: int = 1) -> Tensor:
    return torch.randn(count, coordinates, generator=torch.Generator().manual_seed(seed))


def trained(kind: Kind, vectors: Tensor, plan: DictionaryPlan) -> Dictionary:
    own = replace(plan, kind=kind)
    return train_autoencoder("site", vectors, own, step_done=lambda *_: None)


def test_values_jump_at_the_threshold() -> None:
    before = torch.tensor([-1.0, 0.9, 1.0, 1.1, 3.0])
    values, gates = jump(before, torch.ones(5), 0.5)
    assert values.tolist() == pytest.approx([0, 0, 0, 1.1, 3])
    assert gates.tolist() == [0, 0, 0, 1, 1]


def test_thresholds_learn_the_slope_of_the_expected_loss() -> None:
    """The expectation over dense values is smooth in the threshold, although no loss is.

    Of ``E[(c - v)^2 + a * gate]`` for values ``z`` with density ``f``, ``v`` being ``z`` above the
    threshold ``t`` and zero below, the slope is ``f(t) * (c^2 - (c - t)^2 - a)``.
    """
    before = torch.linspace(0, 4, 400_001, dtype=torch.float64)
    threshold = torch.tensor(1.2, dtype=torch.float64, requires_grad=True)
    values, gates = jump(before.float(), threshold.float().expand(before.numel()), 0.02)
    # The straight-through estimate weighs the slope of the square at the value as it is now: in the
    # middle between an open gate, where it is -2 (c - t), and a closed one, where it is -2 c.
    ((2.0 - values.double()).square() + 0.3 * gates.double()).mean().backward()
    assert threshold.grad is not None
    density, c, t, a = 1 / 4, 2.0, 1.2, 0.3
    assert float(threshold.grad) == pytest.approx(density * (c**2 - (c - t) ** 2 - a), rel=0.01)


def test_values_pass_gradients_on_where_they_are_open_and_gates_none() -> None:
    before = torch.tensor([0.95, 1.05, 5.0], requires_grad=True)
    values, gates = jump(before, torch.ones(3), 0.5)
    (values.sum() + gates.sum()).backward()
    assert before.grad is not None
    assert before.grad.tolist() == [0, 1, 1]


def test_thresholded_training_has_the_gradients_of_dense_autograd() -> None:
    weights, source = Jumping.begin(begun()), drawn(64)
    forward = weights.forward(source)
    assert forward.rates is not None
    loss = (source - forward.explained).square().mean() + 0.01 * forward.rates.sum()
    found = torch.autograd.grad(loss, list(weights.parameters.values()))
    before = source @ weights.encoder + weights.encoder_bias
    values, gates = jump(before.flatten(), weights.threshold.expand_as(before).flatten(), 0.5)
    dense = values.view_as(before) @ weights.decoder
    loss = (source - dense).square().mean() + 0.01 * gates.sum() / 64
    wanted = torch.autograd.grad(loss, list(weights.parameters.values()))
    assert forward.latents.components.numel() == int(gates.sum())
    for name, one, other in zip(weights.parameters, found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6, msg=name)
        assert one.abs().sum() > 0


@pytest.mark.parametrize(("count", "k"), [(10, 1), (1_000, 3), (2_500, 5)])
def test_the_threshold_is_exceeded_k_times_a_vector(count: int, k: int) -> None:
    """Several pieces of the sample, of which each alone would give another threshold."""
    start = begun()
    sample = drawn(count) * torch.linspace(0.1, 3, count).unsqueeze(1)
    threshold = exceeded_by(sample, start.encoder, start.bias, k)
    latents = JumpReLUEncoder(start.encoder, start.bias, threshold.expand(32)).encode(sample)
    assert latents.components.numel() == pytest.approx(k * count, abs=1)


def test_the_threshold_is_zero_where_too_few_latents_are_above() -> None:
    start = begun()
    threshold = exceeded_by(drawn(50), start.encoder, start.bias - 100, 3)
    assert threshold == 0


@pytest.mark.parametrize("kind", ["batch_topk", "matryoshka"])
def test_after_training_k_latents_are_active_on_average_alone_as_in_a_batch(kind: Kind) -> None:
    vectors = drawn(1_500)
    plan = replace(PLAN, steps=60, batch_size=128)
    dictionary = trained(kind, vectors, plan)
    together = dictionary.latents({"site": vectors})
    assert together.components.numel() == pytest.approx(3 * 1_500, abs=1)
    counts = together.offsets.diff()
    assert counts.min() < 3 < counts.max()
    alone = sum(
        dictionary.latents({"site": vectors[row : row + 1]}).components.numel()
        for row in range(100)
    )
    assert alone == int(counts[:100].sum())


@pytest.mark.parametrize("running", [0.0, 0.8, 1e6])
def test_a_batch_activates_its_largest_latents_whatever_the_running_threshold(
    running: float,
) -> None:
    start, source = begun(), drawn(40)
    learner = BatchTopKLearner.begin(replace(start, threshold=torch.tensor(running)), PLAN)
    latents = learner.forward(source).latents
    table = source @ start.encoder
    last = table.flatten().topk(3 * 40).values[-1]
    torch.testing.assert_close(
        latents.dense(32).detach(), torch.where(table >= last, table, 0.0), rtol=1e-5, atol=1e-6
    )


def test_parts_explain_what_their_first_latents_add_up_to() -> None:
    generator = torch.Generator().manual_seed(2)
    table = torch.randn(20, 32, generator=generator).relu() * (torch.arange(20) != 7).unsqueeze(1)
    decoder = begun().decoder
    parts = explained_by_parts(Latents.where(table > 0, table), decoder, (4, 5, 32))
    for place, width in enumerate((4, 5, 32)):
        wanted = table[:, :width] @ decoder[:width]
        torch.testing.assert_close(parts[:, place], wanted, rtol=1e-4, atol=1e-5)


def test_matryoshka_loses_the_mean_of_what_its_parts_miss() -> None:
    plan = replace(PLAN, prefixes=(0.1, 0.5))
    learner, source = MatryoshkaLearner.begin(begun(), plan), drawn(40)
    assert learner.widths == (4, 16, 32)
    forward = learner.forward(source)
    table = forward.latents.dense(32).detach()
    decoder = learner.whole.decoder.detach()
    missed = [
        float((source - table[:, :width] @ decoder[:width]).square().sum())
        for width in learner.widths
    ]
    squares = float(source.square().sum())
    step = Step(0.0, torch.zeros(0, dtype=torch.int64))
    penalty = learner.penalty(forward, Examples.own(source), step)
    wanted = (sum(missed) / 3 - missed[-1]) / squares
    assert float(penalty.detach()) == pytest.approx(wanted, rel=1e-4)


def general(count: int) -> tuple[Tensor, Tensor]:
    """Return vectors of one of four kinds, each with one of eight fine differences of its own.

    The kinds' four directions explain three quarters of the squares, and no other four as much.
    """
    generator = torch.Generator().manual_seed(3)
    axes = torch.linalg.qr(torch.randn(48, 36, generator=generator)).Q.T
    kind = torch.randint(4, (count,), generator=generator)
    fine = 4 + 8 * kind + torch.randint(8, (count,), generator=generator)
    return 2 * axes[kind] + axes[fine], axes


@pytest.mark.slow
def test_the_first_latents_of_a_matryoshka_are_general() -> None:
    """Of the squares, 4 (1 - 1/4) are the kinds' and 1 - 1/32 the differences': 24 % are left."""
    vectors, axes = general(4_000)
    plan = DictionaryPlan(
        width=64, k=2, steps=250, batch_size=256, learning_rate=5e-3, prefixes=(1 / 8, 1.0)
    )
    nested, flat = (trained(kind, vectors, plan) for kind in ("matryoshka", "batch_topk"))
    missed = [_missed_by_first(8, dictionary, vectors) for dictionary in (nested, flat)]
    assert missed[0] < 0.25
    assert missed[1] > 0.5
    # A kind's direction less the mean of all has a cosine of the root of 3/4 with its axis.
    assert (nested.decoder[:8] @ axes[:4].T).amax(dim=0).min() > 0.8


def _missed_by_first(count: int, dictionary: Dictionary, vectors: Tensor) -> float:
    source = dictionary.source.normalised(vectors)
    table = dictionary.encoder.encode(source).dense(dictionary.width)[:, :count]
    error = source - table @ dictionary.decoder[:count]
    return float(error.square().sum() / source.square().sum())


def superposed(count: int) -> tuple[Tensor, Tensor]:
    """Return sums of three on average of 64 directions in 32 dimensions, and the directions."""
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(64, 32, generator=generator), dim=1)
    active = torch.rand(count, 64, generator=generator) < 3 / 64
    strengths = active * (1 + torch.rand(count, 64, generator=generator))
    return strengths @ directions, directions


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jumprelu", "batch_topk"])
def test_superposed_directions_are_recovered(kind: Kind) -> None:
    vectors, directions = superposed(8_000)
    plan = DictionaryPlan(width=128, k=4, steps=500, batch_size=512, learning_rate=4.5e-3)
    dictionary = trained(kind, vectors, plan)
    cosines = functional.normalize(dictionary.decoder, dim=1) @ directions.T
    assert (cosines.amax(dim=0) > 0.95).float().mean() >= 0.95
