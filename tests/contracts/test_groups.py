"""Laws of group-conditional p-values: the promise holds in every context large enough."""

import pytest
import torch
from scipy.stats import binomtest

from mad.calibration.conformal import p_values
from mad.calibration.groups import GroupedReference
from mad.types import Bits, Context

TRIALS = 1_500
RATE = 0.1
SHARES = torch.tensor([0.68, 0.3, 0.02])
"""The last context is too rare to have a reference of its own."""
OFFSETS = torch.tensor([0.0, 3.0, 9.0], dtype=torch.float64)
"""Surprises of different contexts hardly overlap."""


def draw(size: int, generator: torch.Generator) -> tuple[Bits, Context]:
    context = torch.multinomial(SHARES, size, replacement=True, generator=generator)
    noise = torch.randn(size, generator=generator, dtype=torch.float64)
    return noise + OFFSETS[context], context


def fitted(size: int = 200, *, seed: int = 0) -> GroupedReference:
    return GroupedReference.fit(
        *draw(size, torch.Generator().manual_seed(seed)), false_alarm_rate=RATE
    )


@pytest.mark.parametrize(("context", "pooled_rate"), [(0, (0.0, RATE / 10)), (1, (2 * RATE, 1.0))])
def test_false_alarms_stay_at_or_below_the_rate_in_every_context_of_its_own(
    context: int, pooled_rate: tuple[float, float]
) -> None:
    generator = torch.Generator().manual_seed(context)
    grouped = pooled = 0
    for _ in range(TRIALS):
        reference = GroupedReference.fit(*draw(200, generator), false_alarm_rate=RATE)
        assert context in reference.contexts.tolist()
        surprise = torch.randn(1, generator=generator, dtype=torch.float64) + OFFSETS[context]
        grouped += reference.p_values(surprise, torch.tensor([context])).item() <= RATE
        pooled += p_values(surprise, reference.pooled).item() <= RATE
    assert binomtest(grouped, TRIALS, RATE, alternative="greater").pvalue > 1e-3
    # What grouping is for: ranked among everybody, one context has nearly all the alarms.
    low, high = pooled_rate
    assert low <= pooled / TRIALS <= high


def test_over_all_inputs_false_alarms_exceed_the_rate_by_no_more_than_the_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    alarms = 0
    for _ in range(TRIALS):
        reference = GroupedReference.fit(*draw(200, generator), false_alarm_rate=RATE)
        alarms += reference.p_values(*draw(1, generator)).item() <= RATE
    bound = RATE + float(SHARES[2])
    assert binomtest(alarms, TRIALS, bound, alternative="greater").pvalue > 1e-3


def test_a_context_is_ranked_among_its_own() -> None:
    surprise, context = draw(200, torch.Generator().manual_seed(3))
    reference = GroupedReference.fit(surprise, context, false_alarm_rate=RATE)
    wanted = torch.linspace(-3, 12, 40, dtype=torch.float64)
    for group in (0, 1):
        expected = p_values(wanted, surprise[context == group].sort().values)
        found = reference.p_values(wanted, torch.full((40,), group))
        assert torch.equal(found, expected)


@pytest.mark.parametrize("context", [2, -1, 77])
def test_rare_and_unseen_contexts_are_ranked_among_everybody(context: int) -> None:
    surprise, contexts = draw(200, torch.Generator().manual_seed(3))
    reference = GroupedReference.fit(surprise, contexts, false_alarm_rate=RATE)
    wanted = torch.linspace(-3, 12, 40, dtype=torch.float64)
    found = reference.p_values(wanted, torch.full((40,), context))
    assert torch.equal(found, p_values(wanted, surprise.sort().values))


@pytest.mark.parametrize(("size", "has_its_own"), [(8, False), (9, True)])
def test_a_context_has_its_own_reference_from_the_size_that_reaches_the_rate(
    size: int, has_its_own: bool
) -> None:
    context = torch.cat([torch.zeros(size, dtype=torch.int64), torch.ones(50, dtype=torch.int64)])
    surprise = torch.randn(size + 50, dtype=torch.float64)
    reference = GroupedReference.fit(surprise, context, false_alarm_rate=RATE)
    assert (0 in reference.contexts.tolist()) == has_its_own


def test_inputs_of_several_contexts_are_judged_as_each_alone() -> None:
    reference = fitted()
    surprise, context = draw(64, torch.Generator().manual_seed(9))
    together = reference.p_values(surprise, context)
    alone = [reference.p_values(surprise[i : i + 1], context[i : i + 1]) for i in range(64)]
    assert torch.equal(together, torch.cat(alone))


def test_without_trusted_inputs_everything_is_ordinary() -> None:
    nothing = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    reference = GroupedReference.fit(*nothing, false_alarm_rate=RATE)
    assert reference.p_values(torch.ones(2, dtype=torch.float64), torch.arange(2)).tolist() == [
        1,
        1,
    ]
