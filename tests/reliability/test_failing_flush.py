"""A disk that takes what is written and cannot keep it: nothing is acknowledged, nothing stops."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mad.alerts.log import AlertLog
from mad.baseline.store import BaselineStore
from mad.client import Client, request
from tests.service.running import anomalies
from tests.worlds import World

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Disk:
    """A disk, as a process of this environment meets it, that can be told to fail."""

    flag: Path
    environment: dict[str, str]

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Let every flush fail."""
        self.flag.touch()
        try:
            yield
        finally:
            self.flag.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """Compile what stands between a process and its disk."""
    library, flag = tmp_path / "failing_flush.so", tmp_path / "failing"
    source = Path(__file__).with_name("failing_flush.c")
    compile_it = ["cc", "-shared", "-fPIC", "-o", str(library), str(source)]
    try:
        built = subprocess.run(compile_it, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        built = False
    if not built or not sys.platform.startswith("linux"):
        pytest.skip("a C compiler for Linux is wanted; install gcc")
    extra = {"LD_PRELOAD": str(library), "FAILING_FLUSH": str(flag)}
    return Disk(flag, {**os.environ, **extra})


@contextmanager
def serving(directory: Path, disk: Disk) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server on that disk; what it says of itself goes to a file."""
    command = [sys.executable, "-m", "tests.service.serve_tiny", str(directory)]
    with (directory / "words").open("w") as words:
        process = subprocess.Popen(
            command, cwd=ROOT, env=disk.environment, stdout=subprocess.PIPE, stderr=words, text=True
        )
        with process:
            try:
                assert process.stdout is not None
                yield process, f"127.0.0.1:{int(process.stdout.readline())}"
            finally:
                process.kill()


def score(client: Client, name: str) -> str:
    """Score one anomaly, and return the id of its alert; empty if it is not in the log."""
    (answer,) = client.score(request(anomalies(1), request_id=name)).scores
    assert answer.verdict.is_alert
    return answer.alert_id


@pytest.mark.slow
def test_no_alert_is_acknowledged_that_the_disk_does_not_hold(tmp_path: Path, disk: Disk) -> None:
    told: dict[str, str] = {}
    with serving(tmp_path, disk) as (process, address), Client(address) as client:
        told["before"] = score(client, "before")
        with disk.failing():
            told |= {name: score(client, name) for name in ("during-1", "during-2", "during-3")}
        until = time.monotonic() + 60
        while not list(told.values())[-1]:
            assert time.monotonic() < until
            time.sleep(0.2)
            told[f"after-{len(told)}"] = score(client, f"after-{len(told)}")
        process.kill()
    assert told["before"]
    assert [told[name] for name in ("during-1", "during-2", "during-3")] == ["", "", ""]
    alert_log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    kept, _ = alert_log.page("", 1_000, "")
    alert_log.close()
    assert sorted(alert.request_id for alert in kept) == sorted(told)
    assert {alert_id for alert_id in told.values() if alert_id} <= {one.alert_id for one in kept}
    assert "the alert log cannot be written" in (tmp_path / "words").read_text()


SAVE = """
import sys
from mad.baseline.store import BaselineStore
baseline = BaselineStore(sys.argv[1]).load("tiny")
store = BaselineStore(sys.argv[2])
if sys.argv[3] == "move":
    store.activate("tiny", 1)
else:
    store.save(baseline)
"""


@pytest.mark.slow
def test_no_baseline_is_stored_or_made_active_that_the_disk_does_not_hold(
    tmp_path: Path, disk: Disk, world: World
) -> None:
    def asked(what: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SAVE, str(tmp_path / "from"), str(tmp_path / "to"), what]
        return subprocess.run(
            command, cwd=ROOT, env=disk.environment, capture_output=True, text=True, check=False
        )

    BaselineStore(tmp_path / "from").save(world.baseline)
    store = BaselineStore(tmp_path / "to")
    with disk.failing():
        refused = asked("save")
    assert refused.returncode != 0
    assert "Input/output error" in refused.stderr
    assert store.entries("tiny") == ()
    for _ in range(2):
        assert asked("save").returncode == 0
    with disk.failing():
        refused = asked("move")
    assert refused.returncode != 0
    assert "Input/output error" in refused.stderr
    assert store.active("tiny") == 2
    assert asked("move").returncode == 0
    assert store.active("tiny") == 1
