"""Heights at which rows get the same numbers are found by running the model, and kept to."""

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch

from mad.capture.heights import ANY, Heights, agreeing, filled
from mad.types import Inputs

ROWS = {"x": torch.arange(64)}


def rule(of: Callable[[int, int, int], object]) -> Callable[[Inputs], Sequence[bytes]]:
    """Let a row's signature depend on the row, its place, and the height."""

    def run(inputs: Inputs) -> list[bytes]:
        rows = inputs["x"].tolist()
        return [repr(of(row, place, len(rows))).encode() for place, row in enumerate(rows)]

    return run


@pytest.mark.parametrize("most", [1, 2, 3, 8, 64])
def test_a_model_that_rounds_alike_may_run_at_any_height(most: int) -> None:
    found = agreeing(rule(lambda row, _place, _height: row), ROWS, most=most)
    assert found == Heights(tuple(range(1, most + 1)))


def test_small_heights_that_round_otherwise_are_left_out() -> None:
    found = agreeing(rule(lambda row, _place, height: (row, height < 16)), ROWS, most=64)
    assert found == Heights(tuple(range(16, 65)))


def test_a_height_at_which_a_place_matters_is_left_out() -> None:
    def of(row: int, place: int, height: int) -> object:
        return row, height == 6 and place == 5

    found = agreeing(rule(of), ROWS, most=8)
    assert found == Heights((1, 2, 3, 4, 5, 7, 8))


def test_a_model_of_whole_batches_runs_one_input_at_a_time() -> None:
    found = agreeing(rule(lambda row, _place, height: (row, height)), ROWS, most=64)
    assert found == Heights((1,))


def test_a_model_that_never_repeats_itself_has_no_heights() -> None:
    ticks = itertools.count()
    assert agreeing(rule(lambda *_: next(ticks)), ROWS, most=64) is None


def test_a_slow_model_is_tried_at_few_heights_that_alone_are_used() -> None:
    hours = itertools.count(0.0, 3_600.0)
    found = agreeing(rule(lambda row, *_: row), ROWS, most=64, clock=lambda: next(hours))
    assert found is not None
    assert {1, 2, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64} < set(found.agreeing)
    assert 11 not in found.agreeing
    assert list(found.runs(11)) == [(0, 11, 12)]


def test_more_inputs_than_the_largest_height_run_in_turns() -> None:
    assert list(Heights((2, 4, 8)).runs(19)) == [(0, 8, 8), (8, 16, 8), (16, 19, 4)]
    assert list(Heights((1,)).runs(3)) == [(0, 1, 1), (1, 2, 1), (2, 3, 1)]
    assert list(ANY.runs(1_000)) == [(0, 1_000, 1_000)]


def test_a_batch_is_filled_with_copies_of_its_first_input() -> None:
    inputs = {"a": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([7, 9])}
    full = filled(inputs, 4)
    assert full["a"].tolist() == [[1.0], [2.0], [1.0], [1.0]]
    assert full["b"].tolist() == [7, 9, 7, 7]
    assert filled(inputs, 2) is inputs


def test_heights_are_told_shortly() -> None:
    assert str(Heights((1, 4, 5, 6, 9))) == "1, 4-6, 9"
    assert str(ANY) == "any"
