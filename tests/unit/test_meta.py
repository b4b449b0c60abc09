"""Dictionaries over the directions of others, in a world of two levels that is known."""

from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.base import Step
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import load_dictionaries, save_dictionaries
from mad.components.dictionaries.initial import Start
from mad.components.dictionaries.kinds.meta import MetaEncoder, MetaLearner
from mad.components.dictionaries.kinds.topk import TopKEncoder, TopKLearner
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.meta import meta_dictionary, meta_of, through, undecomposed
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.topk import topk_dictionary
from mad.components.dictionaries.train import figures
from mad.components.dictionaries.training import Training
from tests.dictionaries import looking

SITE = Look.at("site", "auto")
META = DictionaryPlan(width=16, k=2, steps=300, batch_size=64, learning_rate=5e-3, dead_after=3_000)
BASE = DictionaryPlan(
    width=32, k=2, steps=200, batch_size=128, learning_rate=5e-3, meta_width=16, meta_k=2
)
FEW = torch.zeros(0, dtype=torch.int64)


def quiet(_step: int, _figures: object) -> None:
    """Say nothing."""


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PARTS = functional.normalize(drawn(8, 24, seed=0), dim=1)
"""What every direction of the world is a sum of two of."""

PAIRS = torch.tensor(list(combinations(range(8), 2)))
DIRECTIONS = functional.normalize(PARTS[PAIRS].sum(dim=1), dim=1)


def vectors(count: int = 4_000) -> Tensor:
    """Return sums of two of the 28 directions."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.rand(count, 28, generator=generator).topk(2, dim=1).indices
    return (DIRECTIONS[chosen] * (1 + torch.rand(count, 2, 1, generator=generator))).sum(dim=1)


def known(lengths: Tensor | None = None) -> Dictionary:
    """Return the dictionary of the world's own directions, of other lengths if they are given."""
    return topk_dictionary(
        site="site",
        pooling="auto",
        k=2,
        encoder=DIRECTIONS.T,
        bias=torch.zeros(28),
        decoder=DIRECTIONS if lengths is None else DIRECTIONS * lengths.unsqueeze(1),
        centre=torch.full((24,), 0.3),
        scale=torch.tensor(2.0),
    )


@cache
def over_known() -> Dictionary:
    return meta_dictionary(known(), META, step_done=quiet)


def trained(plan: DictionaryPlan) -> Training:
    own = vectors()
    training = Training.begin(SITE, Examples.own(own), plan)
    generator = torch.Generator().manual_seed(0)
    for _ in range(plan.steps):
        rows = torch.randint(len(own), (plan.batch_size,), generator=generator)
        training.step(Examples.own(own[rows]))
    return training


def codes_of(one: Dictionary) -> MetaEncoder:
    assert isinstance(one.encoder, MetaEncoder)
    return one.encoder


def table(one: Dictionary) -> Tensor:
    """Return how much of each meta-latent each base latent is, as a dense table."""
    codes = codes_of(one)
    return Latents(codes.offsets, codes.components, codes.shares).dense(codes.width)


def test_what_all_directions_are_sums_of_is_recovered() -> None:
    cosines = functional.normalize(over_known().decoder, dim=1) @ PARTS.T
    assert cosines.amax(dim=0).min() > 0.99
    assert undecomposed(known(), over_known()) < 1e-3


def test_every_direction_is_written_as_its_own_two_parts() -> None:
    part = (functional.normalize(over_known().decoder, dim=1) @ PARTS.T).argmax(dim=1)
    codes = codes_of(over_known())
    assert codes.offsets.diff().tolist() == [2] * 28
    found = part[codes.components].reshape(28, 2).sort(dim=1).values
    # One of the spare meta-latents may be a direction of its own.
    assert (found == PAIRS).all(dim=1).sum() >= 26


@pytest.mark.parametrize("count", [0, 1, 50])
def test_magnitudes_are_those_of_the_dense_product(count: int) -> None:
    one, own = over_known(), vectors()[:count]
    source = one.source.normalised(own)
    expected = known().encoder.encode(source).dense(28) @ table(one)
    found = one.encoder.encode(source)
    torch.testing.assert_close(found.dense(16), expected)
    assert (found.values != 0).all()
    assert torch.equal(found.offsets.diff(), (expected != 0).sum(dim=1))


def test_what_cancels_is_not_active() -> None:
    base = TopKEncoder(torch.eye(2), torch.zeros(2), 2)
    shares = torch.tensor([1.0, 2.0, -2.0])
    codes = MetaEncoder(
        base, torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), shares, meta_width=2
    )
    found = codes.encode(torch.tensor([[3.0, 3.0], [0.0, 4.0], [-1.0, -1.0]]))
    assert found.offsets.tolist() == [0, 1, 2, 2]
    assert found.components.tolist() == [0, 1]
    assert found.values.tolist() == [3.0, -8.0]


def test_directions_keep_their_lengths() -> None:
    long = known(torch.linspace(0.5, 4.0, 28))
    one = through(long, *meta_parts())
    torch.testing.assert_close(table(one) @ one.decoder, long.decoder, rtol=0, atol=0.05)
    activations = {"site": vectors()[:50]}
    expected = long.activity(activations)["site"].residual
    found = one.activity(activations)["site:meta"].residual
    torch.testing.assert_close(found, expected, rtol=0, atol=0.2)


def meta_parts() -> tuple[TopKEncoder, Tensor]:
    """Return a dictionary of unit directions that knows their parts, by its weights alone."""
    own = torch.linalg.pinv(PARTS)
    return TopKEncoder(own, torch.zeros(8), 2), PARTS


def test_both_dictionaries_leave_the_same_over_where_all_directions_are_sums() -> None:
    before, after = (figures(one, vectors()) for one in (known(), over_known()))
    assert after.unexplained_variance == pytest.approx(before.unexplained_variance, abs=1e-3)


def test_it_looks_where_the_base_does_under_a_name_of_its_own() -> None:
    assert tuple(over_known().views.items()) == (("site:meta", "site"),)
    other = through(looking(known(), suffix="max"), *meta_parts())
    assert tuple(other.views) == ("site:max_meta",)


def test_it_is_written_and_read_back_bit_for_bit(tmp_path: Path) -> None:
    save_dictionaries(tmp_path, [over_known()], seen=torch.tensor([1]))
    again = load_dictionaries(tmp_path)
    assert again.parts[0].fingerprint == over_known().fingerprint
    activations = {"site": vectors()[:20]}
    found = again.activity(activations)["site:meta"]
    expected = over_known().activity(activations)["site:meta"]
    assert torch.equal(found.magnitudes, expected.magnitudes)
    assert torch.equal(found.residual, expected.residual)


def test_any_kind_can_be_the_meta_dictionary() -> None:
    relu = replace(META, kind="relu", steps=600)
    assert undecomposed(known(), meta_dictionary(known(), relu, step_done=quiet)) < 0.1


def jointly(weight: float) -> tuple[Dictionary, Dictionary]:
    """Return a base and its meta-dictionary, trained together."""
    training = trained(replace(BASE, meta_weight=weight))
    assert isinstance(training.learner, MetaLearner)
    base = training.finish(Examples.own(vectors()))
    return base, meta_of(training.learner, base)


@pytest.mark.slow
def test_directions_trained_jointly_are_better_sums_of_parts_than_those_trained_alone() -> None:
    alone = trained(replace(BASE, meta_width=0)).finish(Examples.own(vectors()))
    base, meta = jointly(1.0)
    assert isinstance(base.encoder, TopKEncoder)
    afterwards = undecomposed(alone, meta_dictionary(alone, META, step_done=quiet))
    assert undecomposed(base, meta) < 0.5 * afterwards


@pytest.mark.slow
def test_directions_resist_being_sums_of_parts_when_that_is_asked() -> None:
    watched, resisting = (undecomposed(*jointly(weight)) for weight in (0.0, -0.3))
    assert resisting > 1.5 * watched


def test_at_no_weight_the_base_is_what_it_would_be_alone() -> None:
    few = replace(BASE, steps=30)
    alone, watched = (
        trained(plan).finish(Examples.own(vectors()))
        for plan in (replace(few, meta_width=0), replace(few, meta_weight=0.0))
    )
    assert torch.equal(watched.decoder, alone.decoder)


def joint(weight: float) -> tuple[MetaLearner, Examples]:
    start = Start(drawn(24, 28, seed=2), torch.zeros(28), DIRECTIONS.clone())
    plan = replace(BASE, width=28, meta_weight=weight, batch_size=28)
    return MetaLearner.begin(TopKLearner.begin(start, plan), plan), Examples.own(vectors()[:9])


def test_the_gradient_of_the_base_is_the_weight_times_that_of_the_error() -> None:
    found = {}
    for weight in (1.0, -0.5):
        learner, batch = joint(weight)
        loss = learner.penalty(learner.forward(batch.source), batch, Step(0.0, FEW))
        names = ("decoder", "meta.decoder", "meta.encoder")
        found[weight] = torch.autograd.grad(loss, [learner.parameters[name] for name in names])
    torch.testing.assert_close(found[-0.5][0], -0.5 * found[1.0][0])
    for one, two in zip(found[-0.5][1:], found[1.0][1:], strict=True):
        torch.testing.assert_close(one, two)


def test_directions_take_turns_where_a_batch_is_smaller_than_the_decoder() -> None:
    learner, batch = joint(1.0)
    learner = replace(learner, rows=20)
    shown = []
    for _ in range(2):
        loss = learner.penalty(learner.forward(batch.source), batch, Step(0.0, FEW))
        gradient = torch.autograd.grad(loss, learner.parameters["decoder"])[0]
        shown.append(gradient.any(dim=1).nonzero().flatten().tolist())
    assert shown == [list(range(20)), sorted([*range(20, 28), *range(12)])]


def test_joint_training_resumes_to_the_very_weights_of_an_uninterrupted_run() -> None:
    plan = replace(BASE, steps=20, dead_after=40)
    batches = [Examples.own(piece) for piece in vectors().split(200)]
    whole, before, after = (Training.begin(SITE, Examples.own(vectors()), plan) for _ in range(3))
    for batch in batches:
        whole.step(batch)
    for batch in batches[:10]:
        before.step(batch)
    after.restore({name: one.clone() for name, one in before.state.items()})
    for batch in batches[10:]:
        after.step(batch)
    assert {"parameter.meta.decoder", "buffer.meta.turn"} <= set(whole.state)
    for name, one in whole.state.items():
        assert torch.equal(after.state[name], one), name
