"""Cross-conformal p-values, for when data are short: each trusted input fits and calibrates."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.errors import ConfigError
from mad.types import PValues


def cross_splits(count: int, *, folds: int, seed: int) -> tuple[Int64[Tensor, " held_out"], ...]:
    """Deal rows at random into folds whose sizes differ by at most one; each is ascending.

    A fold is held out from the fit on all others.

    Raises:
        ConfigError: fewer than two folds, or more folds than rows.
    """
    if not 2 <= folds <= count:  # noqa: PLR2004  # one fold would leave nothing to fit on
        raise ConfigError(
            f"{count} trusted inputs cannot be dealt into {folds} folds; choose from 2 to {count}"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return tuple(order[fold::folds].sort().values for fold in range(folds))


def cross_p_values(
    surprise: Float64[Tensor, "batch fold"], references: Sequence[Float64[Tensor, " _"]]
) -> PValues:
    """Rank an input among all trusted ones, each compared under the fit that did not see it.

    Column ``k`` of ``surprise`` and ``references[k]``, the ascending surprises of fold ``k``, come
    from the fit on all other folds. Ties count against the input.

    Law: ``P(p <= a) <= cross_promise(a)``; in practice close to ``a`` (Vovk 2015, Cross-conformal
    predictors), but not promised.
    """
    at_least = torch.ones(surprise.shape[0], dtype=torch.float64)
    for column, reference in zip(surprise.unbind(dim=1), references, strict=True):
        place = torch.searchsorted(reference, column.contiguous(), side="left")
        at_least += reference.numel() - place
    return at_least / (sum(reference.numel() for reference in references) + 1)


def cross_promise(rate: float, *, count: int, folds: int) -> float:
    """Return the false-alarm rate that is certain when the nominal one is ``rate``.

    ``2 a`` and a remainder below ``sqrt(2 / n)`` (Barber, Candes, Ramdas and Tibshirani 2021,
    Predictive inference with the jackknife+, theorem 4), for folds of one size.
    """
    few_folds = 2 * (1 - 1 / folds) / (count / folds + 1)
    many_folds = (1 - folds / count) / (folds + 1)
    return min(2 * rate + min(few_folds, many_folds), 1.0)
