"""What handles tensors refuses, in tests, other axes than its types promise."""

import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader

import pytest
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from mad.calibration.conformal import p_values
from mad.types import Ledger
from tests import checked

ONES = torch.ones(3, dtype=torch.float64)


@checked.checked
def twice(x: Float32[Tensor, " row"]) -> Float32[Tensor, " row"]:
    return torch.cat([x, x])


@checked.checked
def both(x: Float[Tensor, " row"], y: Float[Tensor, " row"]) -> int:
    return len(x) + len(y)


@checked.checked
@dataclass(frozen=True)
class Pair:
    """Two tensors of one length."""

    x: Float[Tensor, " row"]
    y: Float[Tensor, " row"]


def test_every_module_of_the_rooms_is_checked() -> None:
    found = [
        module
        for name, module in sys.modules.items()
        if any(name == room or name.startswith(f"{room}.") for room in checked.ROOMS)
    ]
    assert found
    loaders = {type(module.__spec__.loader) for module in found if module.__spec__ is not None}
    assert SourceFileLoader not in loaders
    assert len(loaders) == 1


def test_our_own_functions_and_values_refuse_other_axes_and_kinds_of_number() -> None:
    with pytest.raises(TypeError, match="2 dimensions"):
        p_values(torch.zeros(3, 2, dtype=torch.float64), ONES)
    with pytest.raises(TypeError, match="float32, not float64"):
        p_values(ONES.float(), ONES)
    with pytest.raises(TypeError, match="dimension part is 1"):
        Ledger((), ONES.expand(2, 3), ONES[:2, None])


def test_a_result_is_of_the_size_of_the_arguments() -> None:
    with pytest.raises(TypeError, match="dimension row is 6"):
        twice(torch.ones(3))


def test_arguments_and_fields_of_one_axis_are_of_one_size_in_each_call() -> None:
    assert both(ONES, ONES) == 6
    assert both(ONES[:2], ONES[:2]) == 4
    with pytest.raises(TypeError, match="dimension row is 2"):
        both(ONES, ONES[:2])
    assert len(Pair(ONES, ONES).x) == 3
    with pytest.raises(TypeError, match="dimension row is 2"):
        Pair(ONES, ONES[:2])


def test_what_was_imported_too_early_to_be_checked_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"before they could be checked.*mad\.types"):
        checked.install()
