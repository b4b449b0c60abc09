"""Log lines: one event a line, whatever it holds."""

import logging

import pytest

from mad.cli import logs


def test_an_event_is_one_line_with_its_fields_and_the_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(request_id=lambda: "r-7")
    logging.getLogger("mad.room").info("baseline\nloaded", extra={"baseline": "a b@3"})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith('INFO mad.room baseline loaded baseline="a b@3" request_id="r-7"')


def test_a_traceback_stays_on_the_line_of_its_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(request_id=lambda: "")
    try:
        int("two\nlines")
    except ValueError:
        logging.getLogger("mad.room").exception("call failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert 'ERROR mad.room call failed traceback="Traceback ' in line
    assert "request_id" not in line


def test_only_our_own_rooms_tell_what_went_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(request_id=lambda: "")
    logging.getLogger("elsewhere").info("routine")
    logging.getLogger("elsewhere").warning("trouble")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING elsewhere trouble")
