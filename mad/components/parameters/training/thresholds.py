"""Networks of importance that are thresholds: for pieces that an input needs if it reaches them.

A network has two units, one a side: ``gelu(k h - s) + gelu(-k h - s)`` with ``k = s / reach``. That
is above zero where ``|h|`` exceeds the reach, and nowhere else. So pieces that were not trained are
read out, stored and written for other libraries as trained ones are.
"""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mad.components.parameters.importance import (
    ImportanceFunction,
    ScalarImportance,
    SharedImportance,
    VectorImportance,
)

_STEEP: Final = 20.0
_SIDES: Final = torch.tensor([1.0, -1.0])


def beside(
    trained: ImportanceFunction, v: Float[Tensor, "source piece"], *, reach: float
) -> ImportanceFunction:
    """Add to the networks of a layer one for each piece, whose inner activation is ``rows @ v``."""
    assert reach > 0.0
    match trained:
        case ScalarImportance():
            return _scalar(trained, v, _STEEP / reach)
        case VectorImportance():
            return _vector(trained, v, _STEEP / reach)
        case SharedImportance():
            return _shared(trained, v, _STEEP / reach)
    raise AssertionError(trained.kind)


def _scalar(trained: ScalarImportance, v: Tensor, slope: float) -> ScalarImportance:
    both = torch.ones(v.shape[1], 2)
    hidden = max(trained.w_in.shape[1], 2)
    return ScalarImportance(
        _under(trained.w_in, slope * _SIDES * both, hidden),
        _under(trained.b_in, -_STEEP * both, hidden),
        _under(trained.w_out, both, hidden),
        functional.pad(trained.b_out, (0, v.shape[1])),
    )


def _vector(trained: VectorImportance, v: Tensor, slope: float) -> VectorImportance:
    both = torch.ones(v.shape[1], 2)
    hidden = max(trained.b_in.shape[1], 2)
    return VectorImportance(
        _under(trained.w_in, slope * _SIDES * v.T.unsqueeze(2), hidden),
        _under(trained.b_in, -_STEEP * both, hidden),
        _under(trained.w_out, both, hidden),
        functional.pad(trained.b_out, (0, v.shape[1])),
    )


def _shared(trained: SharedImportance, v: Tensor, slope: float) -> SharedImportance:
    count, (hidden, width) = v.shape[1], trained.w_out.shape
    w_out = functional.pad(trained.w_out, (0, count, 0, 2 * count))
    w_out[hidden:, width:] = torch.eye(count).repeat(2, 1)
    return SharedImportance(
        torch.cat([trained.w_in, slope * v, -slope * v], dim=1),
        functional.pad(trained.b_in, (0, 2 * count), value=-_STEEP),
        w_out,
        functional.pad(trained.b_out, (0, count)),
    )


def _under(
    networks: Float[Tensor, "component ... hidden"], more: Float[Tensor, "more ... units"], to: int
) -> Float[Tensor, "all ... wide"]:
    """Put networks under others, all with as many units; those that they lack do nothing."""
    both = [functional.pad(one, (0, to - one.shape[-1])) for one in (networks, more)]
    return torch.cat(both)
