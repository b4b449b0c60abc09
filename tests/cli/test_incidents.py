"""``mad alerts`` and ``mad incidents`` of a running server: narrowed, watched, acknowledged."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mad.client import Client, request
from mad.client.alerts import Disposition
from tests.cli.conftest import Finished, Mad
from tests.service.running import anomalies, running
from tests.worlds import tiny_world


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve in another thread."""
    ready, found, done = threading.Event(), list[str](), threading.Event()

    async def serve() -> None:
        async with running(tiny_world(), tmp_path_factory.mktemp("served")) as service:
            found.append(service.address)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(timeout=60)
    yield found[0]
    done.set()
    thread.join()


@pytest.fixture(autouse=True)
def narrow(mad: Mad, monkeypatch: pytest.MonkeyPatch) -> None:
    """Say that a window is narrow, which must fold no id where there is no window."""
    del mad  # which sets it to more
    monkeypatch.setenv("COLUMNS", "60")


def rows(done: Finished) -> list[list[str]]:
    lines = [line for line in done.out.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


def raise_alerts(address: str, name: str, count: int = 1) -> list[str]:
    with Client(address) as client:
        answer = client.score(request(anomalies(count), request_id=name))
    return [score.alert_id for score in answer.scores]


@pytest.mark.parametrize("found", ["true_positive", "false_positive", "expected"])
def test_alerts_are_acknowledged_and_narrowed(mad: Mad, address: str, found: Disposition) -> None:
    (alert_id,) = raise_alerts(address, f"for-{found}")
    at = ("--address", address)
    assert [row[-1] for row in rows(mad("alerts", *at, "--request", f"for-{found}"))] == [alert_id]
    done = mad("alerts", *at, "--acknowledge", alert_id, "--as", found, "--comment", "a drill")
    assert (done.code, done.out) == (0, f"{alert_id}: {found}\n")
    narrowed = rows(mad("alerts", *at, "--found", found, "--since", "1h", "--least-bits", "1"))
    assert [row[-2:] for row in narrowed] == [[found, alert_id]]
    assert rows(mad("alerts", *at, "--request", f"for-{found}", "--found", "none")) == []


def test_incidents_are_listed_and_closed(mad: Mad, address: str) -> None:
    raise_alerts(address, "grouped", 3)
    at = ("--address", address)
    (incident,) = rows(mad("incidents", *at))
    assert incident[7] == "open"
    assert rows(mad("alerts", *at, "--incident", incident[-1], "--limit", "3"))
    done = mad("incidents", *at, "--acknowledge", incident[-1], "--as", "expected")
    assert done.out == f"{incident[-1]}: expected, {incident[4]} alerts\n"
    assert rows(mad("incidents", *at)) == []
    assert [row[7] for row in rows(mad("incidents", *at, "--closed"))] == ["closed"]


def test_alerts_are_watched_as_they_come(address: str) -> None:
    command = [sys.executable, "-m", "mad.cli.main", "alerts", "--address", address, "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        out = watching.stdout
        assert out is not None
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.append(out.readline()))
        reader.start()
        # Whatever is raised before it watches is not shown.
        for number in range(200):
            raise_alerts(address, f"seen-{number}")
            reader.join(timeout=0.1)
            if lines:
                break
        watching.kill()
        reader.join()
    assert "request seen-" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--found", "odd"), "--found 'odd' is unknown; use one of none, any, true_positive"),
        (("--since", "yesterday"), "--since 'yesterday' is no time"),
        (("--acknowledge", "a"), "say what it was found to be: --as true_positive"),
        (("--acknowledge", "nobody", "--as", "expected"), "there is no alert 'nobody'"),
        (("--config", "mad.toml", "--watch"), "a server is needed to watch"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    mad: Mad, address: str, arguments: tuple[str, ...], complaint: str
) -> None:
    done = mad("alerts", "--address", address, *arguments)
    assert done.code == 1
    assert complaint in done.err


def test_the_log_itself_can_be_narrowed(mad: Mad, fitted: Path, tmp_path: Path) -> None:
    config = tmp_path / "mad.toml"
    config.write_text(fitted.read_text())
    done = mad("alerts", "--config", config, "--found", "none")
    assert "there is no alert log" in done.err
