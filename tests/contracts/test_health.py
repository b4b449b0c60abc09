"""Laws of health: whether a stream is what its reference promised."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import betabinom, binomtest, hypergeom, ks_2samp

from mad.calibration.conformal import p_values
from mad.calibration.health import (
    binomial_interval,
    chance_interval,
    examine,
    promised_interval,
)
from mad.errors import InputError
from mad.types import Bits, Reference


def normal(size: int, *, seed: int, shift: float = 0.0) -> Bits:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64) + shift


def reference(size: int, *, seed: int = 0) -> Reference:
    return normal(size, seed=seed).sort().values


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3_000), st.integers(1, 5_000), st.sampled_from([0.001, 0.01, 0.1, 0.29]))
def test_the_share_of_alarms_by_chance_is_beta_binomial(
    size: int, inputs: int, rate: float
) -> None:
    # The alarm rate given the reference is Beta(k, n + 1 - k); the alarms given it, binomial.
    rank = sum(1 for k in range(1, size + 1) if k / (size + 1) <= rate)
    found = chance_interval(rate, size, inputs=inputs, confidence=0.98)
    if rank == 0:
        assert found == (0.0, 0.0)
        return
    law = betabinom(inputs, rank, size + 1 - rank)
    for edge, tail in zip(found, (0.01, 0.99), strict=True):
        # The quantile: the fewest alarms that reach the tail, whatever rounds at its edge.
        alarms = round(edge * inputs)
        assert law.cdf(alarms) >= tail - 1e-9
        assert alarms == 0 or law.cdf(alarms - 1) <= tail + 1e-9


def test_a_longer_stream_and_a_larger_reference_leave_less_to_chance() -> None:
    def width(size: int, inputs: int) -> float:
        interval = chance_interval(0.01, size, inputs=inputs)
        return interval.high - interval.low

    assert width(500, 1_000) > width(5_000, 1_000) > width(5_000, 1_000_000)
    # Endless streams leave what the reference alone leaves.
    promised = promised_interval(0.01, 5_000)
    assert chance_interval(0.01, 5_000, inputs=10**9) == pytest.approx(promised, rel=1e-3)


def test_ordinary_streams_are_found_ill_no_more_often_than_promised() -> None:
    worlds = [
        examine(
            normal(300, seed=2 * world),
            reference(400, seed=2 * world + 1),
            false_alarm_rate=0.05,
            confidence=0.9,
        )
        for world in range(600)
    ]
    for ill in (
        sum(health.standing != "as promised" for health in worlds),
        sum(health.has_drifted for health in worlds),
    ):
        assert binomtest(ill, 600, 0.1, alternative="greater").pvalue > 1e-3
        assert ill > 0


def test_figures_are_those_of_the_stream() -> None:
    stream, trusted = normal(500, seed=1, shift=0.4), reference(300)
    health = examine(stream, trusted, false_alarm_rate=0.05)
    assert (health.inputs, health.reference, health.nominal) == (500, 300, 0.05)
    assert health.alarms == int((p_values(stream, trusted) <= 0.05).sum())
    assert health.rate == health.alarms / 500
    assert health.attainable == 1 / 301
    expected = binomtest(health.alarms, 500).proportion_ci(0.99, method="exact")
    assert health.observed == pytest.approx((expected.low, expected.high))
    assert health.drift_p_value == ks_2samp(stream.numpy(), trusted.numpy()).pvalue


@pytest.mark.parametrize(("shift", "sign"), [(0.5, 1), (-0.5, -1)])
def test_the_drift_says_which_way(shift: float, sign: int) -> None:
    health = examine(normal(500, seed=1, shift=shift), reference(300), false_alarm_rate=0.05)
    assert health.has_drifted
    assert math.copysign(1, health.drift) == sign
    assert 0.1 < abs(health.drift) < 0.4


def test_a_stream_with_many_alarms_is_said_to_have_more_than_chance_explains() -> None:
    stream = torch.cat([reference(960), torch.full((40,), torch.inf, dtype=torch.float64)])
    health = examine(stream, reference(960), false_alarm_rate=0.01)
    # Ranks 2 to 9 of 961 are the highest 1 % but the strangest, which 40 share.
    assert health.alarms == 48
    assert health.standing == "more"
    assert health.verdict.startswith(
        "observed 4.8 % against a promised 1 %: more than chance explains ("
    )


def test_a_stream_without_alarms_is_said_to_have_fewer() -> None:
    health = examine(normal(2_000, seed=1, shift=-9.0), reference(2_000), false_alarm_rate=0.05)
    assert health.standing == "fewer"
    assert "observed 0 % against a promised 5 %: fewer than chance explains" in health.verdict
    assert "; surprises run lower than the reference's (Kolmogorov-Smirnov 1, p " in health.verdict


def test_an_ordinary_stream_is_said_to_be_within_chance() -> None:
    health = examine(reference(1_000), reference(1_000), false_alarm_rate=0.01)
    low, high = (f"{betabinom(1_000, 10, 991).ppf(tail) / 10:.2g}" for tail in (0.005, 0.995))
    assert health.verdict == (
        f"observed 0.9 % against a promised 1 %: within chance ({low}-{high} %)"
    )


def test_a_reference_too_small_for_the_rate_is_named_with_what_it_needs() -> None:
    verdict = examine(reference(50), reference(50), false_alarm_rate=0.01).verdict
    assert verdict == "a reference of 50 cannot reach 1 %: it needs 99, and can reach 2 %"


@pytest.mark.parametrize("trusted", [0, 50])
def test_nothing_is_said_of_no_inputs(trusted: int) -> None:
    health = examine(normal(0, seed=0), reference(trusted), false_alarm_rate=0.01)
    assert health.verdict == "no inputs yet, against a promised 1 %"
    assert (health.rate, health.standing, health.has_drifted) == (0.0, "as promised", False)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 200), (0, 0)])
def test_the_interval_is_scipys_exact_one(successes: int, trials: int) -> None:
    if trials == 0:
        assert binomial_interval(0, 0) == (0.0, 1.0)
        return
    expected = binomtest(successes, trials).proportion_ci(0.99, method="exact")
    assert binomial_interval(successes, trials) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("inputs", [1, 40, 3_000, 10_000_000])
@pytest.mark.parametrize(("reference", "rate"), [(19, 0.05), (999, 0.01), (200_000, 0.3)])
def test_the_chance_of_alarms_is_scipys_exact_one(reference: int, rate: float, inputs: int) -> None:
    rank = math.floor(rate * (reference + 1) + 1e-9)
    low, high = (round(edge * inputs) for edge in chance_interval(rate, reference, inputs=inputs))

    def at_most(alarms: int) -> float:
        drawn = alarms + rank
        return float(hypergeom.sf(rank - 1, reference + inputs, reference, drawn))

    for edge, tail in ((low, 0.005), (high, 0.995)):
        assert at_most(edge - 1) < tail + 1e-6
        assert edge == inputs or at_most(edge) > tail - 1e-6


def test_more_successes_than_trials_is_refused() -> None:
    with pytest.raises(InputError, match="3 successes in 2 trials"):
        binomial_interval(3, 2)


def test_one_rank_of_a_reference_promises_what_the_smallest_of_uniforms_does() -> None:
    # P(smallest of 99 uniforms <= x) = 1 - (1 - x) ** 99.
    expected = (1 - 0.995 ** (1 / 99), 1 - 0.005 ** (1 / 99))
    assert promised_interval(0.01, 99) == pytest.approx(expected, rel=1e-9)


def test_a_reference_too_small_for_the_rate_never_alarms() -> None:
    assert promised_interval(0.01, 98) == (0.0, 0.0)
