"""The alert log: what is appended stays, reads back exactly, and is never written twice."""

import math
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from mad.alerts.log import AlertLog
from mad.errors import AlertLogError, InputError
from mad.types import Alert, Charge, Explanation, Part, SetNeighbour, Term, Verdict
from tests.alerts.conftest import Shell
from tests.alerts.examples import ALERT, ids, numbered
from tests.alerts.writers import start_writer

number = st.floats(allow_nan=False)
index = st.integers(0, 2**63 - 1)
# PostgreSQL keeps no NUL, and neither ids nor names of ours have one.
name = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
term: st.SearchStrategy[Term] = st.sampled_from(get_args(Term))
moment = st.datetimes(
    datetime.fromisoformat("1971-01-01"),
    datetime.fromisoformat("2200-01-01"),
    timezones=st.timezones(),
)


@given(
    moment=moment,
    words=st.tuples(name, name, name, name, name),
    counts=st.tuples(index, index),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_where_an_alert_came_from_reads_back_exactly(
    log: AlertLog,
    moment: datetime,
    words: tuple[str, str, str, str, str],
    counts: tuple[int, int],
) -> None:
    alert_id, model, baseline, request_id, digest = words
    version, row = counts
    where = (alert_id, moment, model, baseline, version, request_id, row, digest)
    assert_reads_back(Alert(*where, ALERT.verdict, ALERT.explanation), log)


@given(
    bits=st.tuples(number, number, number, number, number, number),
    parts=st.lists(st.tuples(name, term, number, number, st.none() | number), max_size=3),
    charges=st.lists(
        st.tuples(name, term, index, number, number, number, st.none() | number), max_size=3
    ),
)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_verdict_and_its_explanation_read_back_exactly(
    log: AlertLog,
    bits: tuple[float, float, float, float, float, float],
    parts: list[tuple[str, Term, float, float, float | None]],
    charges: list[tuple[str, Term, int, float, float, float, float | None]],
) -> None:
    surprise, mechanism, novelty, description, p_value, rest = bits
    kept = tuple(Part(*part) for part in parts)
    verdict = Verdict(surprise, mechanism, novelty, description, p_value, True, kept, -1, 16)
    nearest = {"act1": SetNeighbour(17, 0.25, (1, 5), (2,), ())}
    explanation = Explanation(tuple(Charge(*charge) for charge in charges), rest, nearest)
    assert_reads_back(replace(ALERT, verdict=verdict, explanation=explanation), log)


def assert_reads_back(alert: Alert, log: AlertLog) -> None:
    alert = replace(alert, alert_id=f"{uuid.uuid4()} {alert.alert_id}", request_id="")
    log.append([alert])
    # Python says of a time that an autumn has twice that it equals none of another zone.
    assert log.page("", 1, "")[0] == [replace(alert, time=alert.time.astimezone(UTC))]


def test_an_alert_from_when_surprise_was_a_code_length_reads_as_its_description(
    log: AlertLog, shell: Shell
) -> None:
    log.append([replace(ALERT, alert_id="old")])
    old = (
        '{"verdict":{"surprise_bits":512.5,"p_value":0.0004,"is_alert":true,"parts":'
        '[{"site":"act1","term":"set","bits":512.5}],"context":7,"active_components":16},'
        '"explanation":{"charges":[],"rest_bits":512.5}}'
    )
    shell.unguard("mad_alerts")
    shell(f"UPDATE mad_alerts SET body = '{old}'")  # noqa: S608  # both are ours
    log.append([replace(ALERT, alert_id="new")])
    new, read = log.page("", 2, "")[0]
    assert new == replace(ALERT, alert_id="new")
    verdict = read.verdict
    assert (verdict.description_bits, verdict.p_value, verdict.context) == (512.5, 0.0004, 7)
    unmeasured = (verdict.surprise_bits, verdict.mechanism_bits, verdict.novelty_bits)
    assert all(math.isnan(bits) for bits in unmeasured)
    (part,) = verdict.parts
    assert (part.site, part.term, part.bits) == ("act1", "set", 512.5)
    assert math.isnan(part.rarity_bits)
    assert part.rare_combination_bits is None


def test_alerts_are_still_there_after_a_restart(log: AlertLog, log_url: str) -> None:
    log.append(numbered(3))
    log.close()
    reopened = AlertLog.open(log_url)
    assert ids(reopened.page("", 10, "")[0]) == ["default2", "default1", "default0"]
    reopened.close()


def test_a_retry_gets_the_first_id_and_writes_nothing(log: AlertLog) -> None:
    first = replace(ALERT, alert_id="first", request_id="r1")
    assert log.append([first]) == ["first"]
    assert log.append([replace(first, alert_id="second"), first]) == ["first", "first"]
    assert ids(log.page("", 10, "")[0]) == ["first"]


def test_a_retry_within_one_call_gets_the_first_id(log: AlertLog) -> None:
    first = replace(ALERT, alert_id="first", request_id="r1")
    assert log.append([first, replace(first, alert_id="second")]) == ["first", "first"]
    assert ids(log.page("", 10, "")[0]) == ["first"]


@pytest.mark.parametrize(
    "other",
    [
        replace(ALERT, request_id="r2"),
        replace(ALERT, request_id="r1", input_index=1),
        replace(ALERT, request_id="r1", input_digest="other"),
        replace(ALERT, request_id="r1", baseline="other"),
        replace(ALERT, request_id="r1", version=4),
    ],
)
def test_another_request_input_or_baseline_is_another_alert(log: AlertLog, other: Alert) -> None:
    log.append([replace(ALERT, request_id="r1")])
    assert log.append([replace(other, alert_id="b")]) == ["b"]


def test_alerts_without_a_request_id_are_all_kept(log: AlertLog) -> None:
    assert log.append(numbered(3)) == ["default0", "default1", "default2"]
    assert len(log.page("", 10, "")[0]) == 3


def test_more_retries_than_one_query_can_name_are_recognised(log: AlertLog) -> None:
    first = [replace(alert, request_id=alert.alert_id) for alert in numbered(2500)]
    log.append(first)
    retried = [replace(alert, alert_id=f"again-{alert.alert_id}") for alert in first]
    assert log.append(retried) == ids(first)


def test_pages_visit_every_alert_once_while_new_ones_arrive(log: AlertLog) -> None:
    log.append(numbered(7))
    seen, token = log.page("", 3, "")
    while token:
        log.append([replace(ALERT, alert_id=f"late-{len(seen)}")])
        more, token = log.page("", 3, token)
        seen += more
    assert ids(seen) == [f"default{i}" for i in reversed(range(7))]


def test_a_page_that_ends_the_log_has_no_token(log: AlertLog) -> None:
    log.append(numbered(2))
    assert log.page("", 2, "")[1] == ""


def test_a_listing_of_one_baseline_holds_only_its_alerts(log: AlertLog) -> None:
    log.append([*numbered(2, baseline="x"), *numbered(3, baseline="y"), *numbered(1, baseline="z")])
    first, token = log.page("y", 2, "")
    rest, end = log.page("y", 2, token)
    assert (ids(first), ids(rest), end) == (["y2", "y1"], ["y0"], "")


@pytest.mark.parametrize(
    "token", ["x", "é", "AAAA", "NSA=x", "LTUg", "OTk5OTk5OTk5OTk5OTk5OTk5OTkg"]
)
def test_a_token_we_did_not_give_out_is_refused(log: AlertLog, token: str) -> None:
    with pytest.raises(InputError, match="page token"):
        log.page("", 1, token)


def test_a_token_of_another_listing_is_refused(log: AlertLog) -> None:
    log.append(numbered(2))
    token = log.page("", 1, "")[1]
    with pytest.raises(InputError, match="another listing"):
        log.page("default", 1, token)


def test_a_page_of_no_alerts_is_refused(log: AlertLog) -> None:
    with pytest.raises(InputError, match="page size 0"):
        log.page("", 0, "")


def test_threads_share_one_log(log: AlertLog) -> None:
    def work(thread: int) -> list[str]:
        log.page("", 5, "")
        return log.append(numbered(20, baseline=f"thread{thread}-"))

    with ThreadPoolExecutor(4) as pool:
        written = [alert_id for chunk in pool.map(work, range(4)) for alert_id in chunk]
    assert sorted(ids(log.page("", 100, "")[0])) == sorted(written)


def test_an_append_that_fails_writes_nothing(log: AlertLog) -> None:
    log.append([ALERT])
    with pytest.raises(AlertLogError, match=r"cannot be written: .*(UNIQUE|unique) constraint"):
        log.append([*numbered(1), ALERT])
    assert ids(log.page("", 10, "")[0]) == ["a"]


def test_times_are_kept_in_utc_for_people_who_look_into_it(log: AlertLog, shell: Shell) -> None:
    log.append([ALERT])
    kept = datetime(2026, 3, 1, 10, 30, 0, 250, tzinfo=UTC).isoformat(timespec="microseconds")
    assert shell("SELECT time FROM mad_alerts") == [(kept,)]


@pytest.mark.slow
def test_two_programs_share_one_log(log: AlertLog, log_url: str) -> None:
    writers = [start_writer(log_url, name, count=15) for name in ("x", "y")]
    log.append(numbered(5))
    assert [writer.communicate()[0].count("\n") for writer in writers] == [15, 15]
    assert len(log.page("", 100, "")[0]) == 35


@pytest.mark.slow
def test_a_killed_writer_loses_no_alert_it_was_promised(log: AlertLog, log_url: str) -> None:
    with start_writer(log_url, "x", count=10**6) as writer:
        assert writer.stdout is not None
        promised = [writer.stdout.readline().strip() for _ in range(100)]
        writer.kill()
        promised += [line.strip() for line in writer.stdout if line.endswith("\n")]
    assert set(promised) <= set(ids(log.page("", len(promised) + 10, "")[0]))


def test_a_full_disk_is_an_error_and_loses_nothing_promised(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/alerts.db"
    # No file of this writer may grow beyond 600 blocks of 512 bytes.
    full = ("sh", "-c", 'ulimit -f 600; exec "$@"', "sh")
    with start_writer(url, "x", count=10**6, before=full) as writer:
        out, err = writer.communicate()
    log = AlertLog.open(url)
    assert "AlertLogError" in err
    assert out
    assert set(out.split()) <= set(ids(log.page("", 10**6, "")[0]))
    assert log.append([ALERT]) == [ALERT.alert_id]
    log.close()
