"""Positions of one input become one vector."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings, strategies as st

from mad.components.pooling import Pooling, parse_pooling, pool, poolings, unpool
from mad.errors import ConfigError

SEQUENCE = torch.tensor([[[1.0, 10.0], [3.0, 20.0], [2.0, 60.0]]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [2.0, 30.0]),
        ("max", [3.0, 60.0]),
        ("last", [2.0, 60.0]),
        ("mean_max", [2.0, 30.0, 3.0, 60.0]),
        ("auto", [2.0, 60.0]),
        ("flatten", [1.0, 10.0, 3.0, 20.0, 2.0, 60.0]),
    ],
)
def test_a_sequence_is_pooled_over_positions(pooling: Pooling, expected: list[float]) -> None:
    assert pool(SEQUENCE, pooling).tolist() == [expected]


def test_a_convolutional_map_has_its_channels_first() -> None:
    channels = SEQUENCE.transpose(1, 2).reshape(1, 2, 3, 1)
    assert pool(channels, "auto").tolist() == [[2.0, 30.0, 3.0, 60.0]]


@pytest.mark.parametrize(
    ("shape", "pooling", "expected"),
    [
        ((2,), "auto", {"": "flatten"}),
        ((2, 3), "auto", {"": "flatten"}),
        ((2, 5, 3), "auto", {"": "last", "max": "max"}),
        ((2, 1, 3), "auto", {"": "last"}),
        ((2, 3, 5, 5), "auto", {"": "mean_max"}),
        ((2, 5, 3), "mean", {"": "mean"}),
    ],
)
def test_a_sequence_is_looked_at_in_two_ways_unless_one_is_named(
    shape: tuple[int, ...], pooling: Pooling, expected: dict[str, Pooling]
) -> None:
    assert poolings(torch.zeros(shape), pooling) == expected


def test_vectors_and_numbers_are_taken_as_they_are() -> None:
    assert pool(torch.ones(4, 3), "mean").shape == (4, 3)
    assert pool(torch.ones(4), "auto").shape == (4, 1)


def test_an_unknown_pooling_is_refused_with_the_choices() -> None:
    assert parse_pooling("last") == "last"
    with pytest.raises(ConfigError, match="'median' is none of auto, flatten"):
        parse_pooling("median")


SHAPES = [(2,), (2, 4), (2, 1, 4), (2, 5, 4), (2, 4, 3, 3), (2, 4, 1, 1), (2, 3, 2, 2, 2)]
POOLINGS: list[Pooling] = list(get_args(Pooling))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SHAPES), st.sampled_from(POOLINGS), st.integers(0, 2**31), st.booleans())
def test_unpooled_changes_move_the_pooled_vector_exactly(
    shape: tuple[int, ...], pooling: Pooling, seed: int, flat: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    activations, wanted = (torch.randn(shape, generator=generator).double() for _ in range(2))
    if flat:
        # Equal positions, as of a channel that a rectifier silences everywhere.
        activations = torch.full_like(activations, 0.5)
    change = pool(wanted, pooling) - pool(activations, pooling)
    added = unpool(change, activations, pooling)
    torch.testing.assert_close(
        pool(activations + added, pooling), pool(wanted, pooling), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("pooling", POOLINGS)
def test_no_change_adds_nothing_and_twice_the_change_adds_twice(pooling: Pooling) -> None:
    activations = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    change = torch.randn(pool(activations, pooling).shape)
    once = unpool(change, activations, pooling)
    assert once.shape == activations.shape
    assert not unpool(0 * change, activations, pooling).any()
    torch.testing.assert_close(unpool(2 * change, activations, pooling), 2 * once)


@pytest.mark.parametrize(
    ("pooling", "change", "expected"),
    [
        ("last", [5.0, 7.0], [[0, 0], [0, 0], [5, 7]]),
        ("mean", [5.0, 7.0], [[5, 7]] * 3),
        ("max", [5.0, 7.0], [[5, 7]] * 3),
        # The first feature is 1, 3, 2: below its maximum by 2, 0, 1, on average 1.
        ("mean_max", [0.0, 0.0, 1.0, 0.0], [[-1, 0], [1, 0], [0, 0]]),
        ("mean_max", [1.0, 0.0, 1.0, 0.0], [[1, 0]] * 3),
    ],
)
def test_a_change_is_spread_over_positions_as_documented(
    pooling: Pooling, change: list[float], expected: list[list[float]]
) -> None:
    added = unpool(torch.tensor([change]), SEQUENCE, pooling)
    torch.testing.assert_close(added, torch.tensor([expected], dtype=torch.float32))
