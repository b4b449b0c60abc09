"""Simulated streams: what is measured is what the service's own channels do."""

import math

import numpy as np
import pytest

from mad.bench.stream_scores import LAWS, gaussian
from mad.bench.streams import RATES, Surprises, both_channels, delays, false_alarms, one_monitor

# P(anomalous > ordinary) of two unit normals whose means differ by d is Phi(d / sqrt(2)).
EVIDENT = gaussian(6.0)


def test_the_laws_have_the_areas_they_are_named_for() -> None:
    assert [round(law.auroc, 2) for law in (LAWS[0], LAWS[2])] == [0.98, 0.93]


def test_a_stream_holds_anomalies_at_the_rate() -> None:
    stream = EVIDENT.stream(np.random.default_rng(0), 20_000, rate=0.2)
    assert (stream > 3).mean() == pytest.approx(0.2, abs=0.01)


def test_alarms_come_after_the_anomalies_begin_and_never_in_their_absence() -> None:
    chance = np.random.default_rng(1)
    reference = np.sort(chance.standard_normal(1000))
    quiet = both_channels(reference, chance.standard_normal(1500))
    assert set(quiet) == {"fast, once in 100,000", "fast, once in 10,000", "never false"}
    assert set(quiet.values()) == {math.inf}
    loud = np.concatenate([chance.standard_normal(1500), np.full(100, 9.0)])
    assert all(1500 < first <= 1600 for first in both_channels(reference, loud).values())


def test_shares_of_false_alarms_grow_with_length() -> None:
    def at_ten(_reference: Surprises, stream: Surprises) -> dict[str, float]:
        return {"ten": 10.0 if stream[0] > 0 else math.inf}

    (row,) = false_alarms(at_ten, LAWS[0], references=[50], streams=400, lengths=[5, 20])
    assert row.shares[5] == 0
    assert row.shares[20] == pytest.approx(0.5, abs=0.1)


def test_more_anomalies_are_found_sooner() -> None:
    rows = list(delays(both_channels, EVIDENT, reference=2000, streams=5, length=1500))
    fast = [row for row in rows if row.method == "fast, once in 10,000"]
    assert [row.rate for row in fast] == list(RATES)
    assert [row.found for row in fast[1:]] == [1, 1]
    assert fast[0].median > fast[1].median > fast[2].median


@pytest.mark.slow
def test_the_never_false_channel_is_silent_where_fixed_p_values_are_not() -> None:
    rows = list(false_alarms(one_monitor, LAWS[0], references=[500], streams=20, lengths=[50_000]))
    shares = {row.method: row.shares[50_000] for row in rows}
    assert shares["never false"] == 0
    assert shares["fixed p-values"] > 0.05
