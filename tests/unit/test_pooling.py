"""Positions of one input become one vector."""

import pytest
import torch

from mad.components.pooling import Pooling, parse_pooling, pool
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


def test_vectors_and_numbers_are_taken_as_they_are() -> None:
    assert pool(torch.ones(4, 3), "mean").shape == (4, 3)
    assert pool(torch.ones(4), "auto").shape == (4, 1)


def test_an_unknown_pooling_is_refused_with_the_choices() -> None:
    assert parse_pooling("last") == "last"
    with pytest.raises(ConfigError, match="'median' is none of auto, flatten"):
        parse_pooling("median")
