"""What is said of alerts, what is asked of the log, and what leaves it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mad.alerts.acknowledging import Finding
from mad.alerts.log import AlertLog
from mad.alerts.retention import AT_ONCE
from mad.alerts.values import Acknowledgement, Disposition, Retention, Wanted
from mad.errors import InputError, NotFoundError
from tests.alerts.conftest import Shell
from tests.alerts.examples import ALERT, about, numbered

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def said(disposition: Disposition, comment: str = "looked at it") -> Acknowledgement:
    return Acknowledgement(disposition, comment, "ann", NOW)


def listed(log: AlertLog, wanted: Wanted) -> list[str]:
    return [one.alert.alert_id for one in log.listing(wanted, 100, "")[0]]


def test_the_last_acknowledgement_of_an_alert_counts(log: AlertLog) -> None:
    log.append([about("a", 1), about("b", 20)])
    log.acknowledge(Finding(said=said("true_positive"), alert_id="a"))
    log.acknowledge(Finding(said=said("expected", "a test"), alert_id="a"))
    assert log.find("a").acknowledgement == said("expected", "a test")
    assert log.find("b").acknowledgement is None


def test_what_is_said_of_an_incident_is_said_of_its_alerts(log: AlertLog) -> None:
    log.append([about("a", 1), about("b", 1), about("c", 20)])
    incident = log.find("a").incident_id
    log.acknowledge(Finding(said=said("true_positive"), alert_id="a"))
    recording = log.acknowledge(Finding(said=said("false_positive"), incident_id=incident))
    assert (recording.alerts, recording.is_new) == (2, True)
    log.acknowledge(Finding(said=said("expected"), alert_id="b"))
    kept = [log.find(name).acknowledgement for name in "abc"]
    assert kept == [said("false_positive"), said("expected"), None]


def test_a_retry_of_an_acknowledgement_records_nothing_more(log: AlertLog, shell: Shell) -> None:
    log.append([about("a", 1), about("b", 20)])
    finding = Finding(said=said("expected"), alert_id="a", request_id="r1")
    log.acknowledge(finding)
    again = log.acknowledge(
        replace(finding, said=replace(said("expected"), time=datetime.now(UTC)))
    )
    assert (again.acknowledgement, again.alerts, again.is_new) == (said("expected"), 1, False)
    assert shell("SELECT count(*) FROM mad_acknowledgements") == [(1,)]
    with pytest.raises(InputError, match="'r1' was that of another acknowledgement, of a"):
        log.acknowledge(replace(finding, alert_id="b"))


@pytest.mark.parametrize("target", [{"alert_id": "nobody"}, {"incident_id": "nobody"}])
def test_what_is_not_there_cannot_be_acknowledged(log: AlertLog, target: dict[str, str]) -> None:
    with pytest.raises(NotFoundError, match="'nobody'"):
        log.acknowledge(Finding(said=said("expected"), **target))


def test_an_unknown_alert_is_not_found(log: AlertLog) -> None:
    with pytest.raises(NotFoundError, match="there is no alert 'nobody'"):
        log.find("nobody")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), "dcba"),
        (Wanted(baseline="other"), "d"),
        (Wanted(begin=ALERT.time + timedelta(seconds=2)), "dc"),
        (Wanted(end=ALERT.time + timedelta(seconds=2)), "ba"),
        (
            Wanted(begin=ALERT.time + timedelta(seconds=1), end=ALERT.time + timedelta(seconds=3)),
            "cb",
        ),
        (Wanted(request_id="r-b"), "b"),
        (Wanted(least_surprise_bits=12), "db"),
        (Wanted(is_acknowledged=True), "ca"),
        (Wanted(is_acknowledged=False), "db"),
        (Wanted(disposition="expected"), "c"),
        (Wanted(disposition="true_positive"), "a"),
        (Wanted(disposition="expected", least_surprise_bits=12), ""),
    ],
)
def test_a_listing_holds_what_passes(log: AlertLog, wanted: Wanted, expected: str) -> None:
    log.append(
        [
            about("a", 1),
            replace(about("b", 20, surprise_bits=12, seconds=1), request_id="r-b"),
            about("c", 40, seconds=2),
            replace(about("d", 60, surprise_bits=float("inf"), seconds=3), baseline="other"),
        ]
    )
    log.acknowledge(Finding(said=said("true_positive"), alert_id="a"))
    log.acknowledge(Finding(said=said("true_positive"), alert_id="c"))
    log.acknowledge(Finding(said=said("expected"), incident_id=log.find("c").incident_id))
    assert "".join(listed(log, wanted)) == expected


def test_a_listing_of_an_incident_holds_its_alerts(log: AlertLog) -> None:
    log.append([about("a", 1), about("b", 20), about("c", 1)])
    assert listed(log, Wanted(incident_id=log.find("a").incident_id)) == ["c", "a"]


def test_a_token_goes_on_with_the_same_question_only(log: AlertLog) -> None:
    log.append([about(str(number), number * 10, surprise_bits=number) for number in range(6)])
    wanted = Wanted(least_surprise_bits=2)
    first, token = log.listing(wanted, 2, "")
    rest, _ = log.listing(wanted, 9, token)
    assert [one.alert.alert_id for one in first + rest] == ["5", "4", "3", "2"]
    with pytest.raises(InputError, match="another listing"):
        log.listing(Wanted(least_surprise_bits=3), 2, token)


def test_alerts_are_in_the_order_of_the_log_though_the_clock_goes_back(log: AlertLog) -> None:
    for number, seconds in enumerate([0, -3600, 3600, -3599]):
        log.append([about(str(number), 1, seconds=seconds)])
    assert listed(log, Wanted()) == ["3", "2", "1", "0"]
    found, _ = log.following("", after=0, size=10)
    assert [(one.sequence, one.alert.alert_id) for one in found] == [
        (1, "0"),
        (2, "1"),
        (3, "2"),
        (4, "3"),
    ]


def tidy_up(log: AlertLog, retention: Retention, now: datetime = NOW) -> int:
    removed = 0
    while some := log.tidy(retention, now).removed:
        removed += some
    return removed


def test_the_oldest_alerts_leave_when_there_are_too_many(log: AlertLog) -> None:
    log.append(numbered(2 * AT_ONCE + 30))
    assert tidy_up(log, Retention(max_alerts=20)) == 2 * AT_ONCE + 10
    kept = listed(log, Wanted())
    assert (len(kept), kept[-1]) == (20, f"default{2 * AT_ONCE + 10}")
    log.append([about("next", 1)])
    assert log.find("next").sequence == 2 * AT_ONCE + 31


def test_old_alerts_leave_in_the_order_of_the_log(log: AlertLog) -> None:
    day = 24 * 3600
    log.append([about("a", 1, seconds=-2 * day), about("b", 1), about("c", 1, seconds=-2 * day)])
    assert tidy_up(log, Retention(days=1)) == 1
    assert listed(log, Wanted()) == ["c", "b"]
    assert tidy_up(log, Retention(days=0.1)) == 2


def test_nothing_leaves_where_all_is_kept(log: AlertLog) -> None:
    log.append(numbered(3))
    assert tidy_up(log, Retention()) == 0


def test_what_belongs_to_removed_alerts_alone_leaves_with_them(log: AlertLog, shell: Shell) -> None:
    log.append([about("a", 1), about("b", 20, surprise_bits=30), about("c", 20), about("d", 20)])
    for name in "ab":
        log.acknowledge(Finding(said=said("expected"), alert_id=name))
    gone, stays = log.find("a").incident_id, log.find("b").incident_id
    log.acknowledge(Finding(said=said("expected"), incident_id=gone))
    log.acknowledge(Finding(said=said("true_positive"), incident_id=stays))
    assert tidy_up(log, Retention(max_alerts=2)) == 2
    (incident,), _ = log.incidents("", 9, "", include_closed=True)
    assert incident.incident_id == stays
    assert (incident.alerts, incident.representative_alert_id) == (3, "c")
    assert shell("SELECT incident_id FROM mad_acknowledgements") == [(stays,)]
    assert log.find("d").acknowledgement == said("true_positive")


def test_an_open_incident_outlives_its_first_alerts(log: AlertLog) -> None:
    log.append([about("a", 1), about("b", 1)])
    tidy_up(log, Retention(max_alerts=1), now=ALERT.time)
    log.append([about("c", 1)])
    (incident,), _ = log.incidents("", 9, "", include_closed=True)
    assert (incident.alerts, incident.representative_alert_id) == (3, "b")


def test_places_in_the_log_survive_retention(log: AlertLog) -> None:
    log.append(numbered(6))
    _, token = log.listing(Wanted(), 2, "")
    tidy_up(log, Retention(max_alerts=3))
    assert [one.alert.alert_id for one in log.listing(Wanted(), 9, token)[0]] == ["default3"]
    # Who was away longer than alerts are kept goes on with the oldest there is.
    found, through = log.following("", after=1, size=2)
    assert ([one.sequence for one in found], through) == ([4, 5], 5)
    found, through = log.following("", after=through, size=2)
    assert ([one.sequence for one in found], through) == ([6], 6)


@pytest.mark.parametrize(
    "change",
    [
        lambda log: tidy_up(log, Retention(max_alerts=1)),
        lambda log: log.acknowledge(Finding(said=said("expected"), alert_id="default0")),
    ],
    ids=["retention", "acknowledgement"],
)
def test_an_append_after_a_change_numbers_on(
    log: AlertLog, change: Callable[[AlertLog], object]
) -> None:
    log.append(numbered(3))
    change(log)
    log.append([about("next", 1)])
    assert log.find("next").sequence == 4
