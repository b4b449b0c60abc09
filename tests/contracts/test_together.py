"""Codes that add up, read together: what each says by itself, whoever else is read or scored."""

import pytest
import torch

from mad.codes.base import Code
from mad.codes.bayes import BayesCode
from mad.codes.output import OutputCode
from mad.codes.sets.conditional import ConditionalCode
from mad.codes.sets.mixture import MixtureCode
from mad.codes.together import Together, joint_of
from tests.contracts.clustered import (
    CONTEXT,
    COUNTS,
    EXPERTS,
    INDEPENDENT,
    MIXTURE,
    SAMPLE,
    TRUSTED_SETS,
    two_groups,
)
from tests.contracts.test_codes import activity_of
from tests.contracts.trusted_sets import EVERY_CONTEXT, EVERY_SET, counts, everywhere, kept

OTHER_SETS, OTHER_CONTEXT = two_groups(len(CONTEXT), mixed=True), 5 * CONTEXT - 1
OTHER = (kept(OTHER_SETS, OTHER_CONTEXT), counts(OTHER_SETS, OTHER_CONTEXT))
CODES: list[tuple[str, Code]] = [
    ("one", BayesCode.of((MIXTURE, EXPERTS))),
    ("one", OutputCode.fit(SAMPLE, COUNTS)),
    ("one", INDEPENDENT),
    ("two", EXPERTS),
    ("two", MixtureCode.fit(*OTHER, clusters=3)),
    ("two", OutputCode.fit(*OTHER)),
]


@pytest.mark.parametrize("context", [*EVERY_CONTEXT, 4, 9])
@pytest.mark.parametrize("some", [CODES, CODES[:1], CODES[1:2], CODES[2:3], CODES[4:]])
def test_each_code_charges_what_it_does_alone(some: list[tuple[str, Code]], context: int) -> None:
    activity = {"one": EVERY_SET, "two": EVERY_SET.take(torch.arange(256).flip(0))}
    own = everywhere(context)
    found = torch.from_numpy(Together.of(some).lengths(activity, own))
    expected = torch.stack([code.lengths(activity[view], own) for view, code in some], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_inputs_cost_the_same_bits_in_any_company() -> None:
    activity = {"one": activity_of(TRUSTED_SETS), "two": activity_of(OTHER_SETS)}
    codes = Together.of(CODES)
    together = codes.lengths(activity, CONTEXT)
    for size in (1, 3, 7):
        for rows in torch.arange(60).split(size):
            some = {view: one.take(rows) for view, one in activity.items()}
            assert (codes.lengths(some, CONTEXT[rows]) == together[rows]).all()


def test_what_does_not_add_up_is_left_to_itself() -> None:
    assert joint_of(ConditionalCode.fit(COUNTS)) is None
    assert joint_of(BayesCode.of((MIXTURE, ConditionalCode.fit(COUNTS)))) is None
