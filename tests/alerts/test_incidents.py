"""Incidents: alerts that share a mechanism, and each alert in exactly one."""

import itertools
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from mad.alerts.acknowledging import Finding
from mad.alerts.grouping import GroupPlan, OpenIncidents
from mad.alerts.log import AlertLog
from mad.alerts.values import Acknowledgement, Incident, Mechanism, Retention, Wanted
from mad.fit import FitPlan
from mad.service.alert_writer import drafts
from mad.types import Alert, Charge, Explanation
from tests.alerts.examples import ALERT, about
from tests.planted import planted_monitor, trusted

numbers = itertools.count()
Drawn = tuple[int, int, int, float, int]
many = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.integers(0, 30),
        st.integers(0, 1),
        st.floats(0, 100),
        st.integers(-5000, 5000),
    ),
    max_size=40,
)


def made(drawn: list[Drawn]) -> list[Alert]:
    return [
        about(str(next(numbers)), one, other, context=context, surprise_bits=bits, seconds=seconds)
        for one, other, context, bits, seconds in drawn
    ]


def every_incident(log: AlertLog) -> list[Incident]:
    found, token = log.incidents("", 1000, "", include_closed=True)
    assert not token
    return found


@given(batches=st.lists(many, max_size=3))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_alert_belongs_to_one_incident_and_counts_add_up(
    log: AlertLog, batches: list[list[Drawn]]
) -> None:
    for batch in batches:
        log.append(made(batch))
    alerts, _ = log.listing(Wanted(), 1000, "")
    belongs = Counter(one.incident_id for one in alerts)
    assert {one.incident_id: one.alerts for one in every_incident(log)} == belongs
    assert "" not in belongs


@given(alerts=many, most=st.integers(1, 4))
def test_no_more_are_open_than_may_be_and_the_least_recently_seen_closes(
    alerts: list[Drawn], most: int
) -> None:
    group = OpenIncidents(iter(()), GroupPlan(quiet_s=1e9, max_open=most))
    seen: dict[str, int] = {}
    for number, alert in enumerate(made(alerts), start=1):
        seen[group.add(alert, number)] = number
        assert len(group) <= most
        latest = sorted(seen, key=seen.__getitem__)[-most:]
        opened = {one.incident_id for one in group.take_changed() if one.is_open}
        assert opened <= set(latest)


@given(
    order=st.permutations([*(("a", n) for n in range(6)), *(("b", n) for n in range(6))]),
)
def test_the_order_of_independent_groups_does_not_matter(order: list[tuple[str, int]]) -> None:
    # Within a group the order is kept.
    left = {"a": list(range(6)), "b": list(range(6))}
    group = OpenIncidents(iter(()), GroupPlan())
    found: dict[str, list[str]] = {"a": [], "b": []}
    for sequence, (name, _) in enumerate(order, start=1):
        number = left[name].pop(0)
        base = 0 if name == "a" else 100
        alert = about(f"{name}{number}", base + number // 3, base + 50 + number // 3)
        found[name].append(group.add(alert, sequence))
    for ids in found.values():
        assert len(set(ids[:3])) == len(set(ids[3:])) == 1
        assert ids[0] != ids[3]
    assert not set(found["a"]) & set(found["b"])


def test_planted_mechanisms_are_told_apart() -> None:
    monitor = planted_monitor(FitPlan(name="planted", false_alarm_rate=0.02), count=2_000)
    alerts: dict[str, list[Alert]] = {}
    for seed, (name, features) in enumerate({"one": [50, 51, 52], "other": [58, 59, 60]}.items()):
        x, _ = trusted(80, seed=seed + 3)
        x[:, features] = 1.75 + 0.25 * torch.rand(80, 3, generator=torch.Generator().manual_seed(1))
        judgement = monitor.judge({"x": x})
        raised = drafts(monitor, judgement, {"x": x}, request_id="", time=datetime.now(UTC))
        alerts[name] = [alert for alert in raised.values() if alert.verdict.context == 0]
    group = OpenIncidents(iter(()), GroupPlan())
    found: dict[str, Counter[str]] = {"one": Counter(), "other": Counter()}
    for pair in zip(alerts["one"], alerts["other"], strict=False):
        for name, alert in zip(("one", "other"), pair, strict=True):
            found[name][group.add(alert, len(group))] += 1
    assert all(counts.total() >= 20 for counts in found.values())
    assert [len(counts) for counts in found.values()] == [1, 1]
    assert found["one"].keys() != found["other"].keys()


def test_an_incident_tells_what_its_alerts_have_in_common(log: AlertLog) -> None:
    log.append([about("a", 1, 2, surprise_bits=5, seconds=10)])
    log.append(
        [about("b", 1, 3, surprise_bits=9, seconds=-3600), about("c", 1, 2, surprise_bits=7)]
    )
    (incident,) = every_incident(log)
    assert incident.mechanisms[:2] == (Mechanism("act1", "set", 1), Mechanism("act1", "set", 2))
    assert (incident.alerts, incident.most_surprise_bits) == (3, 9.0)
    assert incident.representative_alert_id == "b"
    # In the order of the log: what clocks said may have gone back.
    assert incident.first_time == ALERT.time + timedelta(seconds=10)
    assert incident.last_time == ALERT.time
    assert (incident.model, incident.baseline, incident.context) == ("demo", "default", 7)
    assert incident.is_open


def test_another_context_or_baseline_is_another_incident(log: AlertLog) -> None:
    log.append([about("a", 1), about("b", 1, context=8), replace(about("c", 1), baseline="other")])
    assert len(every_incident(log)) == 3
    assert [one.baseline for one in log.incidents("other", 9, "", include_closed=False)[0]] == [
        "other"
    ]


def test_an_incident_closes_after_a_quiet_time(log_url: str) -> None:
    log = AlertLog.open(log_url, plan=GroupPlan(quiet_s=60))
    log.append([about("a", 1), about("b", 1, seconds=60), about("c", 1, seconds=121)])
    assert [(one.alerts, one.is_open) for one in every_incident(log)] == [(1, True), (2, False)]
    assert log.tidy(Retention(), ALERT.time + timedelta(seconds=181)).open_incidents == 1
    assert log.tidy(Retention(), ALERT.time + timedelta(seconds=182)).open_incidents == 0
    log.append([about("d", 1, seconds=122)])
    assert len(every_incident(log)) == 3
    log.close()


def test_an_acknowledged_incident_takes_no_more_alerts(log: AlertLog) -> None:
    log.append([about("a", 1)])
    (incident,) = every_incident(log)
    said = Acknowledgement("expected", "", "", ALERT.time)
    log.acknowledge(Finding(said=said, incident_id=incident.incident_id))
    log.append([about("b", 1)])
    assert [(one.alerts, one.is_open) for one in every_incident(log)] == [(1, True), (1, False)]


def test_incidents_go_on_after_a_restart(log: AlertLog, log_url: str) -> None:
    log.append([about("a", 1), about("b", 20)])
    log.close()
    again = AlertLog.open(log_url)
    again.append([about("c", 1), about("d", 20), about("e", 1)])
    assert [one.alerts for one in every_incident(again)] == [3, 2]
    again.close()


def test_servers_that_share_a_log_share_incidents(log: AlertLog, log_url: str) -> None:
    other = AlertLog.open(log_url)
    for number in range(6):
        (log, other)[number % 2].append([about(str(number), 1)])
    assert [one.alerts for one in every_incident(log)] == [6]
    other.close()


def test_incidents_are_the_same_in_either_database(log: AlertLog) -> None:
    generator = torch.Generator().manual_seed(0)
    picked = torch.randint(12, (60, 3), generator=generator).tolist()
    log.append([about(str(number), *some) for number, some in enumerate(picked)])
    group = OpenIncidents(iter(()), GroupPlan())
    for number, some in enumerate(picked):
        group.add(about(str(number), *some), number + 1)
    expected = sorted(group.take_changed(), key=lambda one: -one.last_sequence)
    assert every_incident(log) == expected


def test_incidents_come_in_pages_last_seen_first(log: AlertLog) -> None:
    log.append([about(str(number), 10 * number) for number in range(5)])
    log.append([about("again", 10)])
    first, token = log.incidents("", 3, "", include_closed=False)
    rest, end = log.incidents("", 3, token, include_closed=False)
    shown = [one.mechanisms[0].index for one in first + rest]
    assert (shown, end) == ([10, 40, 30, 20, 0], "")


@pytest.mark.parametrize("bits", [float("inf"), float("nan")])
def test_a_model_that_breaks_down_makes_one_incident(log: AlertLog, bits: float) -> None:
    for number in range(3):
        charges = tuple(Charge("act1", "set", index, bits, 0.5, 0.0, 0.0) for index in range(9))
        alert = about(str(number), surprise_bits=bits)
        log.append([replace(alert, explanation=Explanation(charges, bits))])
    (incident,) = every_incident(log)
    assert incident.alerts == 3
