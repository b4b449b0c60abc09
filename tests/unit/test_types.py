"""An activity is sparse by rows; some of its inputs are an activity too."""

import torch

from mad.types import Activity

WHOLE = Activity(
    offsets=torch.tensor([0, 2, 2, 5]),
    components=torch.tensor([1, 4, 0, 2, 3]),
    magnitudes=torch.tensor([0.1, 0.4, 1.0, 1.2, 1.3]),
    residual=torch.arange(6.0).reshape(3, 2),
    activation=-torch.arange(6.0).reshape(3, 2),
    num_components=5,
)


def test_some_inputs_come_in_the_order_asked_for_and_as_often() -> None:
    some = WHOLE.take(torch.tensor([2, 1, 0, 2]))
    assert len(some) == 4
    assert some.offsets.tolist() == [0, 3, 3, 5, 8]
    assert some.components.tolist() == [0, 2, 3, 1, 4, 0, 2, 3]
    torch.testing.assert_close(some.magnitudes[3:5], torch.tensor([0.1, 0.4]))
    assert some.residual[:, 0].tolist() == [4, 2, 0, 4]
    assert some.activation[:, 1].tolist() == [-5, -3, -1, -5]
    assert some.num_components == 5
    assert some.rows.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]


def test_one_input_may_have_no_component_and_none_may_be_asked_for() -> None:
    assert WHOLE.row(1).offsets.tolist() == [0, 0]
    assert WHOLE.row(1).residual.tolist() == [[2, 3]]
    assert WHOLE.row(2).components.tolist() == [0, 2, 3]
    assert len(WHOLE.take(torch.tensor([], dtype=torch.int64))) == 0


def test_the_first_inputs_are_those_taken_in_order() -> None:
    for count in (0, 1, 2, 3):
        first, taken = WHOLE.first(count), WHOLE.take(torch.arange(count))
        assert len(first) == count
        assert first.components.tolist() == taken.components.tolist()
        assert first.offsets.tolist() == taken.offsets.tolist()
        assert torch.equal(first.magnitudes, taken.magnitudes)
        assert torch.equal(first.residual, taken.residual)
        assert torch.equal(first.activation, taken.activation)
