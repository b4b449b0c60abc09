"""A stream outlives its process, and never the baseline it was ranked against."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from mad.errors import ConfigError
from mad.streams.checkpoint import Checkpoint, load, owner, save
from mad.streams.monitor import StreamMonitor

NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
SURPRISE = np.concatenate([np.random.default_rng(1).standard_normal(300), np.full(60, 6.0)])


def monitor_of(seed: int) -> StreamMonitor:
    reference = np.sort(np.random.default_rng(seed).standard_normal(500))
    return StreamMonitor.of(reference, false_alarm_rate=0.01, inputs_per_false_alarm=100_000)


MONITOR = monitor_of(0)
STREAM = MONITOR.advance(MONITOR.start(seed=2**127 + 1, now=NOW), SURPRISE, now=NOW)


def test_there_is_none_before_the_first(tmp_path: Path) -> None:
    assert load(tmp_path / "stream.json") is None


@pytest.mark.parametrize("length", [0, 1, 200, 360])
def test_what_is_read_goes_on_exactly_as_what_was_written(tmp_path: Path, length: int) -> None:
    begun = MONITOR.start(seed=2**127 + 1, now=NOW)
    stream = MONITOR.advance(begun, SURPRISE[:length], now=NOW)
    save(tmp_path / "stream.json", Checkpoint("default@7", stream))
    read = load(tmp_path / "stream.json")
    assert read is not None
    assert read.owner == "default@7"
    assert (read.stream.began, read.stream.inputs) == (NOW, length)
    assert read.stream.alarms == stream.alarms
    on, same = (MONITOR.advance(each, SURPRISE[:50], now=NOW) for each in (stream, read.stream))
    assert MONITOR.readings(on) == MONITOR.readings(same)
    assert (on.counts == same.counts).all()


def test_a_restart_raises_the_alarm_that_would_have_been(tmp_path: Path) -> None:
    first = MONITOR.advance(MONITOR.start(seed=3, now=NOW), SURPRISE[:310], now=NOW)
    save(tmp_path / "stream.json", Checkpoint("default@7", first))
    read = load(tmp_path / "stream.json")
    assert read is not None
    restarted = MONITOR.advance(read.stream, SURPRISE[310:], now=NOW)
    uninterrupted = MONITOR.advance(MONITOR.start(seed=3, now=NOW), SURPRISE, now=NOW)
    assert restarted.alarms == uninterrupted.alarms != {}


def test_the_owner_is_one_revision_with_one_reference() -> None:
    mine = owner("default@7", MONITOR)
    assert mine == owner("default@7", monitor_of(0))
    assert len({mine, owner("default@8", MONITOR), owner("default@7", monitor_of(1))}) == 3


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "stream.json"
    for name in ("default@7", "default@8"):
        save(path, Checkpoint(name, STREAM))
    assert [entry.name for entry in tmp_path.iterdir()] == ["stream.json"]
    assert json.loads(path.read_text())["owner"] == "default@8"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/stream.json.*stream.checkpoint"):
        save(tmp_path / "nowhere" / "stream.json", Checkpoint("default@7", STREAM))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stream.json"
    save(path, Checkpoint("default@7", STREAM))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match=r"stream.json is no stream checkpoint.*remove it"):
        load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("inputs", -1),
        ("fast", [0.0]),
        ("never_false", ["NaN"] * 24),
        ("never_false", ["Infinity"] * 24),
        ("alarms", {"slow": {"at_input": 1, "time": "2026-01-01T00:00:00Z"}}),
        ("pickle", "gASVAAAA"),
    ],
)
def test_an_edited_file_is_refused(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "stream.json"
    save(path, Checkpoint("default@7", STREAM))
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ConfigError, match=field):
        load(path)
