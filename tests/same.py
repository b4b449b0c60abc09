"""Numbers that must be the same in any company: to the bit, where the library's products are.

Everything else in scoring gives a row the same bits in any batch. Products of float64 do in MKL's
strict mode on Intel's processors; elsewhere they may differ in the last place.
"""

from collections.abc import Sequence
from functools import cache

import pytest
import torch

import mad.capture  # noqa: F401  # asks for the strict mode before the first product


@cache
def products_agree() -> bool:
    """Whether a row's product of float64 is the same alone, in small batches and in large ones."""
    generator = torch.Generator().manual_seed(0)
    for coordinates, kept in ((8, 8), (17, 300), (129, 1_000)):
        rows = torch.randn(64, coordinates, generator=generator, dtype=torch.float64)
        table = torch.randn(coordinates, kept, generator=generator, dtype=torch.float64)
        start = torch.randn(kept, generator=generator, dtype=torch.float64)
        together = torch.addmm(start, rows, table)
        for height in (1, 2, 3, 5, 8, 13, 31):
            alone = [torch.addmm(start, some, table) for some in rows.split(height)]
            if not torch.equal(torch.cat(alone), together):
                return False
    return True


def same(expected: Sequence[float]) -> object:
    """Return what equals these numbers to the bit, or to 1e-9 where products do not agree."""
    if products_agree():
        return expected
    return pytest.approx(expected, rel=1e-9, abs=1e-12)
