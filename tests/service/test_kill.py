"""Kill -9 of the server in the middle of a stream loses no alert that a client was told of."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from mad.alerts.log import AlertLog
from mad.client import Client, request
from mad.v1 import scoring_pb2 as pb
from tests.service.running import anomalies

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server in a process of its own."""
    command = [sys.executable, "-m", "tests.service.serve_tiny", str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def endless_alarms() -> Iterator[pb.ScoreRequest]:
    seed = 0
    while True:
        seed += 1
        yield request(anomalies(2, seed=seed), request_id=f"alarm-{seed}")


@pytest.mark.slow
@pytest.mark.parametrize("told_before_the_kill", [1, 300])
def test_every_alert_a_client_was_told_of_survives_a_kill(
    tmp_path: Path, told_before_the_kill: int
) -> None:
    told: set[str] = set()

    def listen() -> None:
        for answer in client.stream(endless_alarms()):
            told.update(score.alert_id for score in answer.response.scores)
            if len(told) >= told_before_the_kill:
                process.kill()

    with serving(tmp_path) as (process, address), Client(address) as client:
        with pytest.raises(grpc.RpcError) as ended:
            listen()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    alert_log = AlertLog.open(f"sqlite:///{tmp_path}/alerts.db")
    kept, _ = alert_log.page("", 1_000_000, "")
    alert_log.close()
    assert len(told) >= told_before_the_kill
    assert told <= {alert.alert_id for alert in kept}
