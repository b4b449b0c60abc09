"""The code that copies kept trusted sets, and the neighbours it names."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jaccard
from scipy.special import logsumexp
from torch import Tensor

from mad.codes.sets import nearest
from mad.codes.sets.nearest import NearestSetsCode
from mad.codes.statistics import SetCounts
from tests.contracts.test_codes import activity_of
from tests.contracts.trusted_sets import (
    COMPONENTS,
    COUNTS,
    EVERY_SET,
    GENERATOR,
    INPUTS,
    KEPT,
    SETS,
    auroc,
    counts,
    everywhere,
    groups,
    kept,
)

CODE = NearestSetsCode.fit(KEPT, COUNTS)


def one(*components: int) -> Tensor:
    return torch.isin(torch.arange(COMPONENTS), torch.tensor(components)).unsqueeze(0)


def dense_log_chances(code: NearestSetsCode, sets: Tensor, centres: Tensor) -> Tensor:
    """Return the natural logarithm of each set's chance as a copy of each centre."""
    coin = torch.where(sets, code.rate, 1 - code.rate).unsqueeze(1)
    same = (sets.unsqueeze(1) == centres.unsqueeze(0)).double()
    return (code.copied * same + (1 - code.copied) * coin).log().sum(dim=2)


def test_lengths_are_the_mean_over_kept_sets_of_copies() -> None:
    logs = dense_log_chances(CODE, SETS, SETS).numpy()
    expected = (math.log(INPUTS) - logsumexp(logs, axis=1)) / math.log(2)
    lengths = CODE.lengths(activity_of(SETS), everywhere(0, INPUTS))
    np.testing.assert_allclose(lengths.numpy(), expected, rtol=1e-12)


def test_the_share_copied_is_the_one_that_codes_each_set_best_by_the_others() -> None:
    bits = {}
    for copied in nearest.COPIED:
        code = NearestSetsCode(
            CODE.rows, CODE.offsets, CODE.components, CODE.rate, copied, CODE.rate
        )
        logs = dense_log_chances(code, SETS, SETS).numpy()
        np.fill_diagonal(logs, -np.inf)
        bits[copied] = (math.log(INPUTS - 1) - logsumexp(logs, axis=1)).mean() / math.log(2)
    assert CODE.copied == min(bits, key=lambda copied: bits[copied])
    assert CODE.typical(everywhere(0))[0].sum().item() == pytest.approx(bits[CODE.copied])


def test_contributions_average_over_the_sets_that_explain_the_input() -> None:
    chances = dense_log_chances(CODE, SETS[:9], SETS)
    share = torch.softmax(chances, dim=1)
    same = (SETS[:9].unsqueeze(1) == SETS).double()
    coin = torch.where(SETS[:9], CODE.rate, 1 - CODE.rate).unsqueeze(1)
    bits = -(CODE.copied * same + (1 - CODE.copied) * coin).log2()
    expected = (share.unsqueeze(2) * bits).sum(dim=1)
    naming = (share * (share * INPUTS).log2()).sum(dim=1)
    active = SETS[:9].double()
    expected += active * (naming / active.sum(dim=1)).unsqueeze(1)
    found = CODE.contributions(activity_of(SETS[:9]), everywhere(0, 9))
    torch.testing.assert_close(found, expected)


def test_neighbours_are_nearest_by_jaccard_distance_with_ties_by_row() -> None:
    scored = SETS[17:18] ^ one(3)
    found = CODE.nearest(activity_of(scored), count=INPUTS)
    distances = [jaccard(scored[0].numpy(), row.numpy()) for row in SETS]
    assert [n.row for n in found] == sorted(range(INPUTS), key=lambda row: (distances[row], row))
    assert [n.distance for n in found] == pytest.approx(sorted(distances))


def test_a_neighbour_says_how_the_sets_differ() -> None:
    sets = torch.cat([one(0, 4), one(1, 5, 6), one(3)])
    context = everywhere(0, 3)
    code = NearestSetsCode.fit(kept(sets, context, first_row=70), counts(sets, context))
    (near,) = code.nearest(activity_of(one(1, 2, 5)), count=1)
    assert (near.row, near.distance) == (71, 0.5)
    assert (near.shared, near.missing, near.extra) == ((1, 5), (6,), (2,))


def test_an_empty_set_is_nearest_to_an_empty_set() -> None:
    sets = torch.cat([one(0, 4), one()])
    code = NearestSetsCode.fit(kept(sets, everywhere(0, 2)), counts(sets, everywhere(0, 2)))
    near, far = code.nearest(activity_of(one()), count=5)
    assert (near.row, near.distance, near.missing) == (1, 0.0, ())
    assert (far.row, far.distance, far.missing) == (0, 1.0, (0, 4))


def test_mixtures_of_groups_are_told_from_groups() -> None:
    usual, mixed = (groups(400, GENERATOR, mixed=mixed) for mixed in (False, True))
    trusted, context = groups(600, GENERATOR, mixed=False), everywhere(0, 600)
    code = NearestSetsCode.fit(kept(trusted, context), counts(trusted, context))
    assert auroc(code, mixed, usual) > 0.95


def test_at_most_so_many_sets_are_copied_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "MAX_KEPT", 50)
    code = NearestSetsCode.fit(KEPT, COUNTS)
    assert code.rows.tolist() == sorted(set(code.rows.tolist()))
    assert len(code.rows) == 50
    total = torch.exp2(-code.lengths(EVERY_SET, everywhere(0))).sum().item()
    assert total == pytest.approx(1, abs=1e-12)


def test_a_component_no_kept_set_holds_costs_its_own_coin() -> None:
    context = everywhere(0, 3)
    sets = torch.cat([one(0), one(0), one(0)])
    seen_once = SetCounts.of(activity_of(torch.cat([sets, one(7)])), everywhere(0, 4))
    code = NearestSetsCode.fit(kept(sets, context), seen_once)
    with_it, without = code.lengths(activity_of(torch.cat([one(0, 7), one(0)])), context[:2])
    drawn = (1 - code.copied) * 1.5 / 5
    assert float(with_it - without) == pytest.approx(math.log2((1 - drawn) / drawn))
