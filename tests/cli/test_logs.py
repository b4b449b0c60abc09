"""Log lines: one event a line, whatever it holds, for collectors and for people."""

import json
import logging
import math
import re
import warnings
from typing import Any

import pytest

from mad.cli import logs
from mad.cli.logs import Asked, Format

NOBODY = Asked(request_id=str, principal=str)
ASKED = Asked(request_id=lambda: "r-7", principal=lambda: "gateway")
ROOM = logging.getLogger("mad.room")


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = capsys.readouterr().err.splitlines()
    told: dict[str, Any] = json.loads(line)
    return told


def test_an_event_is_one_json_object_with_its_fields_and_the_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(ASKED, written="json")
    ROOM.info("baseline loaded", extra={"baseline": "a b@3", "bits": math.inf, "parts": (1, None)})
    told = said(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    assert told == {
        "level": "INFO",
        "logger": "mad.room",
        "event": "baseline loaded",
        "request_id": "r-7",
        "principal": "gateway",
        "fields": {"baseline": "a b@3", "bits": "inf", "parts": [1, None]},
    }


def test_where_nobody_asked_nobody_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(NOBODY, written="json")
    ROOM.info("serving")
    assert set(said(capsys)) == {"time", "level", "logger", "event"}


def test_a_line_about_another_request_names_that_one(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(ASKED, written="json")
    ROOM.error("alert not recorded", extra={"request_id": "r-1"})
    told = said(capsys)
    assert told["request_id"] == "r-1"
    assert "fields" not in told


def test_a_traceback_is_a_field_of_its_event(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(NOBODY, written="json")
    try:
        int("two\nlines")
    except ValueError:
        ROOM.exception("call failed")
    told = said(capsys)
    assert (told["level"], told["event"]) == ("ERROR", "call failed")
    assert told["traceback"].startswith("Traceback ")
    assert "\n" in told["traceback"]


HOSTILE = 'evil\nINFO forged\r\x1b[2J\x1b]0;title\x07 "quoted" \x00\u2028\u202e é'


@pytest.mark.parametrize("written", ["json", "text"])
def test_a_hostile_name_neither_breaks_a_line_nor_drives_a_terminal(
    capsys: pytest.CaptureFixture[str], written: Format
) -> None:
    logs.configure(Asked(request_id=lambda: HOSTILE, principal=lambda: HOSTILE), written=written)
    ROOM.info(
        "loaded %s", HOSTILE, extra={"name_of": HOSTILE, HOSTILE: 1} if written == "json" else None
    )
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert output.removesuffix("\n").isprintable()
    if written == "json":
        told = json.loads(output)
        assert told["request_id"] == told["principal"] == told["fields"]["name_of"] == HOSTILE


def test_text_for_people_has_time_level_room_event_and_fields(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(ASKED, written="text")
    ROOM.info("baseline\nloaded", extra={"baseline": "a b@3"})
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z INFO mad\.room ", line)
    assert line.endswith(r'baseline\nloaded baseline="a b@3" request_id="r-7" principal="gateway"')


def test_a_pipe_gets_json_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(NOBODY)
    ROOM.info("serving")
    assert said(capsys)["event"] == "serving"


def test_a_terminal_gets_text_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    logs.configure(NOBODY)
    ROOM.info("serving")
    assert capsys.readouterr().err.endswith(" INFO mad.room serving\n")


def test_only_our_own_rooms_tell_what_went_well(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(NOBODY, written="json")
    logging.getLogger("elsewhere").info("routine")
    logging.getLogger("elsewhere").warning("trouble")
    assert said(capsys)["event"] == "trouble"


def test_warnings_are_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(NOBODY, written="json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old\nhabit", DeprecationWarning, stacklevel=1)
    told = said(capsys)
    assert told["logger"] == "py.warnings"
    assert "old\nhabit" in told["event"]
