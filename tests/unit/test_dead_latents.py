"""Latents that nothing activates are taught again, or begun anew."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries import resampling
from mad.components.dictionaries.base import Forward
from mad.components.dictionaries.dead import lift
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import Dead, DictionaryPlan, Kind
from mad.components.dictionaries.train import figures, train
from mad.components.dictionaries.training import Training

LOOK = Look.at("site", "auto")


def superposed(count: int = 8_000) -> Tensor:
    """Return sums of three of 80 directions in 32 dimensions."""
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(80, 32, generator=generator), dim=1)
    chosen = torch.rand(count, 80, generator=generator).topk(3, dim=1).indices
    strengths = 1 + torch.rand(count, 3, 1, generator=generator)
    return (directions[chosen] * strengths).sum(dim=1)


VECTORS = superposed()
# Steps far too long, which kill latents though there are fewer than directions.
PLAN = DictionaryPlan(
    width=64, k=3, steps=300, batch_size=128, learning_rate=0.04, dead_after=2_000
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["topk", "gated"])
def test_fewer_latents_are_dead_where_something_is_done_for_them(kind: Kind) -> None:
    def left(dead: Dead) -> tuple[float, float]:
        plan = replace(PLAN, kind=kind, dead=dead)
        trained = train(LOOK, Examples.own(VECTORS), plan, step_done=lambda *_: None)
        found = figures(trained, VECTORS)
        return found.dead_share, found.unexplained_variance

    nothing = left("none")
    assert nothing[0] > 0.04
    for dead in ("auxiliary", "resample"):
        something = left(dead)
        assert something[0] < 0.5 * nothing[0], dead
        assert something[1] < nothing[1], dead


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["relu", "lp", "gated"])
@pytest.mark.parametrize("dead", ["auxiliary", "resample", "none"])
def test_latents_silenced_below_zero_live_again_unless_they_are_left_alone(
    kind: Kind, dead: Dead
) -> None:
    plan = replace(PLAN, kind=kind, dead=dead, steps=400, learning_rate=0.01, batch_size=64)
    training = Training.begin(LOOK, Examples.own(VECTORS), plan)
    weights = training.learner.parameters
    bias = weights["encoder_gate_bias" if kind == "gated" else "encoder_bias"]
    source = training.source.normalised(VECTORS)
    with torch.no_grad():
        bias[:8] = -(source @ weights["encoder"][:, :8]).amax(dim=0) - 0.5
    for rows in torch.arange(400 * 64).reshape(400, 64) % len(VECTORS):
        training.step(Examples.own(VECTORS[rows]))
    silent = (training.silent_for[:8] > plan.dead_after).float().mean()
    assert silent == 1 if dead == "none" else silent < 0.5


def test_a_lift_changes_no_loss_and_raises_the_dead_alone() -> None:
    bias = torch.tensor([-9.0, 1.0, -4.0], requires_grad=True)
    lifted = lift(bias, torch.tensor([0, 2]))
    assert lifted == 0
    lifted.backward()
    assert bias.grad is not None
    assert bias.grad[0] == bias.grad[2] < 0
    assert bias.grad[1] == 0


def test_vectors_are_drawn_by_the_square_of_their_loss() -> None:
    """Losses of one, two and none: a chance of one and four fifths."""
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    forward = Forward(torch.zeros(3, 2), Latents.none(3))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.zeros(3)
    for _ in range(1_000):
        one = resampling.draw(forward, Examples.own(target), 1, generator=generator).target[0]
        drawn[int(one.sum())] += 1
    assert drawn[0] == 0
    # Three standard deviations of a share of 0.2 in a thousand.
    assert drawn[1] / 1_000 == pytest.approx(0.2, abs=0.038)


def test_a_vector_is_drawn_once() -> None:
    forward = Forward(torch.zeros(5, 1), Latents.none(5))
    batch = Examples.own(torch.arange(5.0).unsqueeze(1))
    drawn = resampling.draw(forward, batch, 50, generator=torch.Generator().manual_seed(0))
    assert drawn.target.flatten().sort().values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_begun_latents_stand_at_their_vectors_and_nothing_is_remembered_of_them() -> None:
    target = VECTORS[:, :10] * 3
    examples = Examples(VECTORS, target)
    training = Training.begin(
        Look(("site",), ("other",), "auto"), examples, replace(PLAN, kind="gated")
    )
    for _ in range(3):
        training.step(examples.first(128))
    before = {key: one.clone() for key, one in training.state.items()}
    weights, moments = training.learner.parameters, training.optimiser.state
    drawn = examples.first(2)
    dead = torch.tensor([3, 9, 40])
    begun = resampling.begin_anew(training.learner, moments, dead, drawn)
    assert begun.tolist() == [3, 9]
    for name, vectors in (("encoder", drawn.source), ("decoder", drawn.target)):
        rows = weights[name].T if name == "encoder" else weights[name]
        found = functional.normalize(rows[begun], dim=1)
        torch.testing.assert_close(found, functional.normalize(vectors, dim=1))
    living = torch.ones(64, dtype=torch.bool)
    living[dead] = False
    bias = weights["encoder_gate_bias"]
    torch.testing.assert_close(bias[begun], bias[living].mean().expand(2))
    others = [one for one in range(64) if one not in (3, 9)]
    for number, (name, one) in enumerate(weights.items()):
        axis = 0 if name == "decoder" else -1
        assert torch.equal(
            one.index_select(axis, torch.tensor(others)),
            before[f"parameter.{name}"].index_select(axis, torch.tensor(others)),
        )
        for moment in ("exp_avg", "exp_avg_sq"):
            kept, was = moments[one][moment], before[f"optimiser.{number}.{moment}"]
            assert (kept.index_select(axis, begun) == 0).all()
            left = torch.tensor(others)
            assert torch.equal(kept.index_select(axis, left), was.index_select(axis, left))


def test_all_latents_may_be_dead() -> None:
    training = Training.begin(LOOK, Examples.own(VECTORS), PLAN)
    every = torch.arange(64)
    resampling.begin_anew(
        training.learner, training.optimiser.state, every, Examples.own(VECTORS[:64])
    )
    for one in training.learner.parameters.values():
        assert one.isfinite().all()


def test_none_is_begun_anew_near_the_end_nor_unless_asked() -> None:
    plan = replace(PLAN, dead="resample", steps=100, batch_size=500)
    due = [step for step in range(1, 101) if resampling.is_due(plan, step)]
    assert due == list(range(4, 76, 4))
    assert not any(resampling.is_due(replace(plan, dead="none"), step) for step in range(1, 101))
