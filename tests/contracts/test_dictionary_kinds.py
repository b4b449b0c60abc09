"""Laws of every kind of dictionary; a new one joins by adding one line to a table."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import load_dictionaries, save_dictionaries
from mad.components.dictionaries.kinds.registry import ENCODERS, LEARNERS
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import Dead, DictionaryPlan
from mad.components.dictionaries.train import figures, train
from mad.components.dictionaries.training import StepFigures, Training

PLAN = DictionaryPlan(
    width=48, k=3, steps=250, batch_size=128, learning_rate=7e-3, dead_after=5_000, seed=1
)
KINDS: dict[str, DictionaryPlan] = {
    "topk": PLAN,
    "relu": replace(PLAN, kind="relu"),
    "lp": replace(PLAN, kind="lp"),
    "gated": replace(PLAN, kind="gated"),
    "switch": replace(PLAN, kind="switch", experts=4, active_experts=2),
    "jumprelu": replace(PLAN, kind="jumprelu"),
    "batch_topk": replace(PLAN, kind="batch_topk"),
    "matryoshka": replace(PLAN, kind="matryoshka"),
    "bits": replace(PLAN, kind="bits", resolution=0.1),
}
CALIBRATED = frozenset({"relu", "lp", "batch_topk", "matryoshka"})
"""Kinds whose result is not, to rounding, what they trained: thresholds and gains are fitted."""

AVERAGED = frozenset({"relu", "lp", "gated", "jumprelu", "batch_topk", "matryoshka"})
"""Kinds of which ``k`` is how many latents are active on average, not at most."""

OWN_NUMBER = frozenset({"bits"})
"""Kinds of which ``k`` is but the start: they find how many latents should be active."""

COORDINATES = 16
OWN, ACROSS = Look.at("site", "auto"), Look(("site",), ("other",), "auto")


def superposed(count: int = 4_000) -> Tensor:
    """Return sums of three of 24 directions in sixteen dimensions."""
    generator = torch.Generator().manual_seed(0)
    directions = functional.normalize(torch.randn(24, COORDINATES, generator=generator), dim=1)
    chosen = torch.rand(count, 24, generator=generator).topk(3, dim=1).indices
    strengths = 1 + torch.rand(count, 3, 1, generator=generator)
    return (directions[chosen] * strengths).sum(dim=1)


VECTORS = superposed()
TURNED = VECTORS.roll(1, dims=1)[:, :12] * 7 + 1
"""What another layer might make of the vectors, in fewer dimensions and other units."""


@cache
def trained(name: str, k: int = PLAN.k) -> Dictionary:
    plan = replace(KINDS[name], k=k)
    return train(OWN, Examples.own(VECTORS), plan, step_done=lambda *_: None)


def steps(training: Training, first: int, last: int) -> list[StepFigures]:
    return [
        training.step(Examples.own(VECTORS[number * 16 : (number + 1) * 16]))
        for number in range(first, last)
    ]


def begun(name: str, *, steps: int, dead: Dead = "auxiliary") -> Training:
    """Begin a training to whose small batches many latents are dead."""
    plan = replace(KINDS[name], steps=steps, dead=dead, dead_after=15)
    return Training.begin(OWN, Examples.own(VECTORS), plan)


def rows_of(latents: Latents) -> list[Tensor]:
    return list(latents.components.tensor_split(latents.offsets[1:-1]))


def linear_rank_leaves(vectors: Tensor, rank: int) -> float:
    """Return the share of variance that the best linear map of this rank leaves over."""
    variances: Tensor = torch.linalg.svdvals(vectors - vectors.mean(dim=0)).square()
    return float(variances[rank:].sum() / variances.sum())


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    kind = request.param
    assert isinstance(kind, str)
    return kind


def test_every_kind_is_in_the_table() -> None:
    assert {plan.kind for plan in KINDS.values()} == set(LEARNERS)


def test_latents_have_a_row_a_vector_and_directions_a_row_a_latent(name: str) -> None:
    dictionary = trained(name)
    latents = dictionary.latents({"site": VECTORS[:50]})
    assert len(latents) == 50
    assert latents.components.shape == latents.values.shape == (int(latents.offsets[-1]),)
    assert dictionary.decoder.shape == (dictionary.width, COORDINATES)
    assert dictionary.encoder.width == dictionary.width
    assert latents.explained(dictionary.decoder).shape == (50, COORDINATES)


def test_the_active_set_is_the_nonzero_magnitudes_ascending(name: str) -> None:
    dictionary = trained(name)
    latents = dictionary.latents({"site": VECTORS})
    assert (latents.values != 0).all()
    for components in rows_of(latents):
        assert (components.diff() > 0).all()
        assert ((components >= 0) & (components < dictionary.width)).all()


def test_a_dictionary_comes_back_from_disk_bit_for_bit(name: str, tmp_path: Path) -> None:
    dictionary = trained(name)
    save_dictionaries(tmp_path, [dictionary], seen=torch.tensor([1]))
    (again,) = load_dictionaries(tmp_path).parts
    assert isinstance(again, Dictionary)
    assert type(again.encoder) is ENCODERS[dictionary.encoder.kind]
    assert again.fingerprint == dictionary.fingerprint
    there, here = (one.latents({"site": VECTORS}) for one in (again, dictionary))
    assert torch.equal(there.components, here.components)
    assert torch.equal(there.values, here.values)


def test_a_vector_has_the_same_latents_alone_and_in_a_batch(name: str) -> None:
    dictionary = trained(name)
    together = dictionary.latents({"site": VECTORS[:40]}).dense(dictionary.width)
    for row in range(40):
        alone = dictionary.latents({"site": VECTORS[row : row + 1]}).dense(dictionary.width)
        # Rounding may move a latent over its threshold, where it jumps; none is so near here.
        assert torch.equal(alone != 0, together[row : row + 1] != 0)
        torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-4, atol=1e-5)


def test_the_same_plan_gives_the_same_dictionary(name: str) -> None:
    few = replace(KINDS[name], steps=20, dead_after=100)
    first, second = (
        train(OWN, Examples.own(VECTORS), few, step_done=lambda *_: None) for _ in range(2)
    )
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("dead", get_args(Dead))
def test_training_resumes_to_the_very_weights_of_an_uninterrupted_run(
    name: str, dead: Dead
) -> None:
    whole = begun(name, steps=24, dead=dead)
    steps(whole, 0, 12)
    kept: Mapping[str, Tensor] = {key: one.clone() for key, one in whole.state.items()}
    assert any(one.dead_share > 0 for one in steps(whole, 12, 24))
    after = begun(name, steps=24, dead=dead)
    after.restore(kept)
    steps(after, 12, 24)
    assert set(after.state) == set(whole.state)
    for key, one in whole.state.items():
        assert torch.equal(after.state[key], one), key


def test_parameters_say_by_their_names_where_latents_are(name: str) -> None:
    learner = begun(name, steps=1).learner
    for key, one in learner.parameters.items():
        assert one.is_leaf
        assert one.requires_grad
        if key.startswith("encoder"):
            assert one.shape[-1] == learner.width, key
        if key.startswith("decoder"):
            assert one.shape[0] == learner.width, key


def test_the_result_is_what_training_computed(name: str) -> None:
    training = Training.begin(OWN, Examples.own(VECTORS), KINDS[name])
    steps(training, 0, 60)
    dictionary = training.finish(Examples.own(VECTORS))
    source = training.source.normalised(VECTORS)
    forward = training.learner.forward(source)
    latents = dictionary.encoder.encode(source)
    explained, as_trained = latents.explained(dictionary.decoder), forward.explained.detach()
    if name in CALIBRATED:
        lost = [float((source - one).square().mean()) for one in (explained, as_trained)]
        assert lost[0] < lost[1] + 0.05
    else:
        assert torch.equal(latents.components, forward.latents.components)
        torch.testing.assert_close(explained, as_trained, rtol=1e-3, atol=1e-4)


def test_as_many_latents_are_active_as_were_asked_for(name: str) -> None:
    latents = trained(name).latents({"site": VECTORS})
    if name in OWN_NUMBER:
        pytest.skip("how many are active is what this kind finds")
    if name in AVERAGED:
        assert latents.offsets.diff().float().mean() == pytest.approx(PLAN.k, rel=0.2)
    else:
        assert latents.offsets.diff().max() <= PLAN.k


@pytest.mark.slow
def test_more_active_latents_leave_less_unexplained(name: str) -> None:
    if name in OWN_NUMBER:
        pytest.skip("how many are active is what this kind finds")
    tight, loose = (figures(trained(name, k), VECTORS) for k in (1, PLAN.k))
    assert loose.unexplained_variance < tight.unexplained_variance - 0.1


def test_superposed_directions_are_explained_better_than_by_any_linear_map(name: str) -> None:
    if name in OWN_NUMBER:
        pytest.skip("in so few coordinates latents cost more bits than they save")
    assert figures(trained(name), VECTORS).unexplained_variance < 0.75 * linear_rank_leaves(
        VECTORS, PLAN.k
    )


@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
def test_another_site_is_explained_as_well(name: str, skip: bool) -> None:
    """A transcoder: what is read and what is explained differ in width, centre and scale."""
    plan = replace(KINDS[name], steps=150, skip=skip)
    if name in OWN_NUMBER:
        pytest.skip("in so few coordinates latents cost more bits than they save")
    dictionary = train(ACROSS, Examples(VECTORS, TURNED), plan, step_done=lambda *_: None)
    assert dictionary.decoder.shape == (dictionary.width, 12)
    assert (dictionary.skip is not None) == skip
    activity = dictionary.activity({"site": VECTORS, "other": TURNED})["other"]
    left = activity.residual.square().sum() / (TURNED - TURNED.mean(dim=0)).square().sum()
    # The skip alone could be the best linear map, for the one is a linear map of the other.
    assert left < 0.75 * linear_rank_leaves(TURNED, PLAN.k)
