"""The code of the output given the active set: right components, wrong output."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from mad.codes.base import Code
from mad.codes.output import LEANS, TRUSTS, OutputCode
from mad.codes.sets.chow_liu import TreeCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.nearest import NearestSetsCode
from mad.codes.sets.size_index import SizeIndexCode
from mad.codes.sets.worst_pair import WorstPairCode
from mad.codes.statistics import KeptSets, SetCounts
from tests.contracts.test_codes import activity_of
from tests.contracts.trusted_sets import (
    CONTEXT as ANY_CONTEXT,
    COUNTS as ANY_COUNTS,
    EVERY_SET,
    GENERATOR,
    KEPT as ANY_KEPT,
    NEVER_SEEN,
    auroc,
    counts,
    everywhere,
    groups,
    kept,
)

INPUTS = 500


def output_of(sets: Tensor) -> Tensor:
    """Return the group of ten components that most members are of."""
    members: Tensor = sets.unflatten(1, (4, 10)).sum(dim=2)
    return members.argmax(dim=1)


SETS = groups(INPUTS, GENERATOR, mixed=False)
OUTPUT = output_of(SETS)
KEPT, COUNTS = kept(SETS, OUTPUT), counts(SETS, OUTPUT)
CODE = OutputCode.fit(KEPT, COUNTS)
# Outputs that have nothing to do with the set, to see every law away from certainty too.
UNDECIDED = OutputCode.fit(ANY_KEPT, ANY_COUNTS)


@pytest.mark.parametrize("known", [[0], [0, 1, 2], [0, 3, 70]])
def test_kraft_sum_over_known_outputs_and_a_new_one_is_one(known: list[int]) -> None:
    context = torch.tensor(known)[torch.arange(300) % len(known)]
    sets = EVERY_SET
    code = OutputCode.fit(ANY_KEPT, ANY_COUNTS)
    if known != [0, 1, 2]:
        trusted = torch.rand(300, 8, generator=GENERATOR) < 0.1 + 0.05 * (context.unsqueeze(1) % 5)
        code = OutputCode.fit(kept(trusted, context), counts(trusted, context))
    total = sum(
        torch.exp2(-code.lengths(sets, everywhere(output))) for output in [*known, NEVER_SEEN]
    )
    torch.testing.assert_close(total, torch.ones(256).double(), rtol=0, atol=1e-12)


def dense_bits(sets: Tensor, output: Tensor, *, lean: float, trust: float) -> Tensor:
    """Multiply naive Bayes' evidence of every component, active or silent, to a power."""
    overall = (SETS.sum(dim=0).double() + 0.5) / (INPUTS + 1)
    frequency = OUTPUT.bincount(minlength=4).double()
    scores = torch.zeros(len(sets), 5).double()
    for label in range(4):
        own = SETS[label == OUTPUT].sum(dim=0).double()
        rate = (own + lean * overall) / (frequency[label] + lean)
        ratio = torch.where(sets, rate / overall, (1 - rate) / (1 - overall))
        scores[:, label] = ((frequency[label] + 0.5) / (INPUTS + 2.5)).log()
        scores[:, label] += trust * ratio.log().sum(dim=1)
    scores[:, 4] = math.log(0.5 / (INPUTS + 2.5))
    chance = scores.softmax(dim=1)
    return -chance[torch.arange(len(sets)), output.clamp_max(4)].log2()


def test_lengths_are_tempered_naive_bayes() -> None:
    errors = []
    for lean, trust in itertools.product(LEANS, TRUSTS):
        expected = dense_bits(SETS, OUTPUT, lean=lean, trust=trust)
        lengths = CODE.lengths(activity_of(SETS), OUTPUT)
        errors.append((expected - lengths).abs().max().item())
    assert min(errors) < 1e-10
    (lean, trust) = list(itertools.product(LEANS, TRUSTS))[errors.index(min(errors))]
    strange = (OUTPUT + 1) % 5
    expected = dense_bits(SETS, strange, lean=lean, trust=trust)
    torch.testing.assert_close(CODE.lengths(activity_of(SETS), strange), expected)


@pytest.mark.parametrize("output", [0, 1, 2, NEVER_SEEN, -1])
def test_contributions_add_up_to_the_length(output: int) -> None:
    contributions = UNDECIDED.contributions(EVERY_SET, everywhere(output)).sum(dim=1)
    lengths = UNDECIDED.lengths(EVERY_SET, everywhere(output))
    torch.testing.assert_close(contributions, lengths, rtol=1e-12, atol=1e-12)
    assert torch.isfinite(lengths).all()
    assert (lengths >= 0).all()


def test_no_output_costs_nothing() -> None:
    nothing = everywhere(-1, INPUTS)
    assert not CODE.lengths(activity_of(SETS), nothing).any()
    assert not CODE.contributions(activity_of(SETS), nothing).any()
    assert not CODE.typical(nothing).any()


def test_typical_bits_are_the_mean_contributions_of_kept_sets_with_that_output() -> None:
    contributions = UNDECIDED.contributions(EVERY_KEPT, ANY_CONTEXT)
    for output in range(3):
        mean = contributions[output == ANY_CONTEXT].mean(dim=0)
        torch.testing.assert_close(UNDECIDED.typical(torch.tensor([output]))[0], mean)
    unseen = UNDECIDED.typical(torch.tensor([NEVER_SEEN]))[0]
    torch.testing.assert_close(unseen, contributions.mean(dim=0))


EVERY_KEPT = activity_of(
    torch.zeros(len(ANY_KEPT), 8, dtype=torch.bool).index_put(
        (ANY_KEPT.owners, ANY_KEPT.components), torch.tensor(True)
    )
)


def test_an_input_costs_the_same_alone_and_in_a_batch() -> None:
    whole = activity_of(SETS)
    alone = [CODE.lengths(whole.row(i), OUTPUT[i : i + 1]) for i in range(INPUTS)]
    torch.testing.assert_close(CODE.lengths(whole, OUTPUT), torch.cat(alone), rtol=1e-12, atol=0)


def test_swapped_outputs_are_found_and_no_code_of_sets_alone_sees_them() -> None:
    sets = groups(400, GENERATOR, mixed=False)
    true = output_of(sets)
    swapped = (true + torch.randint(1, 4, (400,), generator=GENERATOR)) % 4
    more = groups(400, GENERATOR, mixed=False)

    right = CODE.lengths(activity_of(more), output_of(more))
    wrong = CODE.lengths(activity_of(sets), swapped)
    assert (wrong.unsqueeze(1) > right).double().mean().item() > 0.98
    blind: tuple[Code, ...] = (
        IndependentCode.fit(COUNTS),
        TreeCode.fit(KEPT, COUNTS),
        NearestSetsCode.fit(KEPT, COUNTS),
        WorstPairCode.fit(KEPT, COUNTS),
        SizeIndexCode.fit(KEPT, COUNTS),
    )
    for code in blind:
        assert auroc(code, sets, more) == pytest.approx(0.5, abs=0.06)
        of_true, of_swapped = (code.lengths(activity_of(sets), y) for y in (true, swapped))
        assert torch.equal(of_true, of_swapped)


def test_components_that_speak_for_another_output_are_charged() -> None:
    set_of_first = (torch.arange(40) < 5).unsqueeze(0)
    charge = CODE.contributions(activity_of(set_of_first), torch.tensor([2]))[0]
    assert charge[:5].min() > 0
    assert not charge[5:].any()
    assert charge.sum().item() > 5


def test_copies_of_one_component_do_not_speak_as_many() -> None:
    """Ten copies of a witness that is right nine times in ten: one in ten costs about 3.3 bits."""
    label = torch.randint(2, (4000,), generator=GENERATOR)
    witness = label ^ (torch.rand(4000, generator=GENERATOR) < 0.1).long()
    copies = torch.stack([witness == 1] * 10, dim=1)
    code = OutputCode.fit(kept(copies[:2000], label[:2000]), counts(copies, label))
    bits = code.lengths(activity_of(copies[2000:]), label[2000:]).mean().item()
    entropy = -(0.9 * math.log2(0.9) + 0.1 * math.log2(0.1))
    assert bits == pytest.approx(entropy, abs=0.05)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, INPUTS - 1), min_size=1, max_size=3))
def test_statistics_of_shards_merge_to_the_same_code(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), INPUTS]
    shards: list[tuple[KeptSets, SetCounts]] = [
        (kept(SETS[a:b], OUTPUT[a:b], first_row=a), counts(SETS[a:b], OUTPUT[a:b]))
        for a, b in itertools.pairwise(edges)
    ]
    sample, total = shards[-1]
    for other_sample, other_total in shards[:-1]:
        sample, total = other_sample.merge(sample), total.merge(other_total)
    merged = OutputCode.fit(sample, total).lengths(activity_of(SETS), OUTPUT)
    assert torch.equal(merged, CODE.lengths(activity_of(SETS), OUTPUT))


def test_inputs_with_no_output_teach_nothing() -> None:
    nobody = everywhere(-1, INPUTS)
    code = OutputCode.fit(
        KEPT.merge(kept(SETS, nobody, first_row=INPUTS)), COUNTS.merge(counts(SETS, nobody))
    )
    lengths = code.lengths(activity_of(SETS), OUTPUT)
    assert torch.equal(lengths, CODE.lengths(activity_of(SETS), OUTPUT))


def test_where_no_output_was_ever_seen_any_costs_nothing() -> None:
    nobody = everywhere(-1, INPUTS)
    code = OutputCode.fit(kept(SETS, nobody), counts(SETS, nobody))
    assert (code.lengths(activity_of(SETS), OUTPUT) == 0).all()
    assert (code.contributions(activity_of(SETS), OUTPUT) == 0).all()
