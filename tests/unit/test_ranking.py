"""Charges that account for most of what is rare come first."""

import torch
from hypothesis import given, settings, strategies as st

from mad.codes.ranking import most_telling, telling


def chosen(
    excess: list[float],
    part: list[int],
    rarity: list[float],
    *,
    leading: list[bool] | None = None,
    naming: list[bool] | None = None,
    limit: int = 99,
) -> list[int]:
    above, of, rare = torch.tensor(excess).double(), torch.tensor(part), torch.tensor(rarity)
    found = most_telling(
        telling(above, of, rare.double()),
        of,
        leading=torch.tensor(leading or [True] * len(rarity)).long()[of],
        naming=torch.tensor(naming or [True] * len(rarity)),
        limit=limit,
    )
    return [int(index) for index in found]


def test_a_rare_part_is_named_before_one_that_is_ordinary() -> None:
    # The second part has the largest excess, but is as long as usual.
    assert chosen([2.0, 3.0, 9.0, -6.0], [0, 0, 1, 1], [20.0, 1.0]) == [1, 0, 2, 3]


def test_charges_of_two_rare_parts_mix_by_their_shares_of_rarity() -> None:
    # Of 5 bits, 4.5 and 0.5; of 12 bits, 8 and 4.
    assert chosen([9.0, 1.0, 14.0, 7.0], [0, 0, 1, 1], [5.0, 12.0]) == [2, 0, 3, 1]


def test_no_charge_accounts_for_more_than_it_is_above_typical() -> None:
    # The first part looks rarer than a million bits, but is only 3 bits longer than usual.
    assert chosen([2.0, 1.0, 9.0, 1.0], [0, 0, 1, 1], [1e6, 20.0]) == [2, 0, 1, 3]


def test_what_is_below_typical_takes_nothing_from_what_is_above() -> None:
    # The first charge has all 4 bits of its part; the third 7 of 8 shares of 6 bits, 5.25.
    assert chosen([6.0, -5.0, 7.0, 1.0], [0, 0, 1, 1], [4.0, 6.0]) == [2, 0, 3, 1]


def test_a_charge_that_names_nothing_comes_last_and_keeps_a_place_among_eight() -> None:
    excess, part = [500.0, *(float(10 - place) for place in range(9))], [0, *[1] * 9]
    assert chosen(excess, part, [90.0, 5.0]) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert chosen(excess, part, [90.0, 5.0], limit=8) == [1, 2, 3, 4, 5, 6, 7, 0]
    assert chosen(excess, part, [90.0, 5.0], limit=7) == [1, 2, 3, 4, 5, 6, 7]
    assert chosen(excess, part, [90.0, 5.0], limit=0) == []


def test_what_an_alert_is_for_comes_before_what_has_more_bits() -> None:
    # The second part has 20 times the bits; what the first has below typical is no reason.
    excess, part, rarity = [3.0, 1.0, -2.0, 80.0, 40.0], [0, 0, 0, 1, 1], [10.0, 90.0]
    assert chosen(excess, part, rarity) == [3, 4, 0, 1, 2]
    assert chosen(excess, part, rarity, leading=[True, False]) == [0, 1, 3, 4, 2]
    assert chosen(excess, part, rarity, leading=[True, False], limit=2) == [0, 1]
    assert chosen(excess, part, rarity, leading=[False, True]) == [3, 4, 0, 1, 2]


def test_components_keep_two_places_in_eight() -> None:
    # The rest that nothing explains has more bits at each of its coordinates.
    excess, part = [3.0, 1.0, -2.0, *(80.0 - place for place in range(9))], [0] * 3 + [1] * 9
    rarity, naming = [10.0, 90.0], [True, False]
    assert chosen(excess, part, rarity, naming=naming)[:11] == [*range(3, 12), 0, 1]
    assert chosen(excess, part, rarity, naming=naming, limit=9) == [*range(3, 10), 0, 1]
    assert chosen(excess, part, rarity, naming=naming, limit=8) == [*range(3, 9), 0, 1]
    assert chosen(excess, part, rarity, naming=naming, limit=7) == [*range(3, 10)]
    # What a component has below typical is no reason.
    below = [-1.0, -2.0, -3.0, *excess[3:]]
    assert chosen(below, part, rarity, naming=naming, limit=8) == [*range(3, 11)]


def test_bits_without_end_come_first_and_leave_an_order() -> None:
    infinity = float("inf")
    assert chosen([1.0, 2.0, infinity, 0.0], [0, 0, 1, 1], [50.0, infinity])[0] == 2
    assert chosen([-1.0, -2.0, 3.0, 1.0], [0, 0, 1, 1], [0.0, 2.0])[:2] == [2, 3]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-9, 9), st.integers(0, 2), st.floats(0, 50)), min_size=1, max_size=20
    ),
    st.integers(0, 25),
)
def test_no_charge_is_chosen_twice_and_as_many_as_there_may_be(
    charges: list[tuple[float, int, float]], limit: int
) -> None:
    excess, part, rarity = (list(column) for column in zip(*charges, strict=True))
    naming = [True, False, True]
    indices = chosen(excess, part, [*rarity, 1.0, 1.0, 1.0][:3], naming=naming, limit=limit)
    assert len(set(indices)) == len(indices)
    alone = sum(part.count(number) == 1 for number in part)
    kept = min(limit // 8, alone)
    assert len(indices) == kept + min(limit - kept, len(part) - alone)
