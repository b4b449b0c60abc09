"""Trusted sets of two groups, and codes with hidden clusters fitted to them."""

import torch
from torch import Tensor

from mad.codes.base import SetCode
from mad.codes.bayes import BayesCode
from mad.codes.sets.conditional import ConditionalCode
from mad.codes.sets.experts import ExpertsCode
from mad.codes.sets.independent import IndependentCode
from mad.codes.sets.mixture import MixtureCode
from tests.contracts.test_codes import activity_of
from tests.contracts.trusted_sets import COMPONENTS, counts, kept

INPUTS = 400
GENERATOR = torch.Generator().manual_seed(0)


def two_groups(count: int, *, mixed: bool = False) -> Tensor:
    """Draw sets of four out of eight: all of one half, or, when mixed, two of each; then noise."""
    first = torch.rand(count, generator=GENERATOR) < 0.5
    halves = torch.stack([first] * 4 + [~first] * 4, dim=1)
    if mixed:
        half_of_each = torch.rand(count, 2, 4, generator=GENERATOR).argsort(dim=2) < 2
        halves = half_of_each.flatten(start_dim=1)
    return halves ^ (torch.rand(count, COMPONENTS, generator=GENERATOR) < 0.05)


TRUSTED_SETS = two_groups(INPUTS)
TRUSTED = activity_of(TRUSTED_SETS)
CONTEXT = torch.randint(3, (INPUTS,), generator=GENERATOR)
SAMPLE = kept(TRUSTED_SETS, CONTEXT)
COUNTS = counts(TRUSTED_SETS, CONTEXT)
MIXTURE = MixtureCode.fit(SAMPLE, COUNTS)
EXPERTS = ExpertsCode.fit(SAMPLE, COUNTS)
INDEPENDENT = IndependentCode.fit(COUNTS)
BAYES = BayesCode.of((MIXTURE, ConditionalCode.fit(COUNTS), INDEPENDENT))
CODES: dict[str, SetCode] = {"mixture": MIXTURE, "experts": EXPERTS, "bayes": BAYES}
