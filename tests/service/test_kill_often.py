"""Kill -9 a hundred times, at any moment: what a client was told of stands, and nothing is torn."""

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import grpc
import pytest
from sqlalchemy import create_engine, text

from mad.alerts.log import AlertLog
from mad.alerts.values import Wanted
from mad.baseline.store import BaselineStore
from mad.client import Client, request
from mad.v1 import scoring_pb2 as pb
from tests.service import dying_servers
from tests.service.dying_servers import Work, end
from tests.service.running import anomalies

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DEATHS = 100
SAVER_DEATHS = 50


@contextmanager
def started(work: Work, directory: Path, url: str) -> Iterator[tuple[ForkServerProcess, int]]:
    """Run something in a child until the body is left; -1 for one that was killed at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.service.dying_servers"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(directory, url, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.poll(60)
        yield process, ours.recv()
    finally:
        end(process)
        ours.close()


def endless_alarms(seed: int) -> Iterator[pb.ScoreRequest]:
    number = 0
    while True:
        number += 1
        yield request(anomalies(2, seed=number), request_id=f"{seed}-{number}")


def hear(address: str, seed: int, until: float, process: ForkServerProcess) -> set[str]:
    """Listen to alerts of a server that dies at some moment; return the ids that were heard."""
    told: set[str] = set()

    def listen(client: Client) -> None:
        for answer in client.stream(endless_alarms(seed)):
            # One without an id is one that nobody was promised.
            told.update(score.alert_id for score in answer.response.scores if score.alert_id)
            if time.monotonic() > until:
                process.kill()

    with Client(address) as client, pytest.raises(grpc.RpcError):
        listen(client)
    return told


def test_no_death_loses_what_a_client_was_told_of(log_url: str, tmp_path: Path) -> None:
    deaths = DEATHS if log_url.startswith("sqlite") else DEATHS // 4
    chance = random.Random(0)
    told: set[str] = set()
    acknowledged: set[str] = set()
    startups: list[float] = []
    look = Look()
    for death in range(deaths):
        start = time.monotonic()
        with started(dying_servers.serve, tmp_path, log_url) as (process, port):
            startups.append(time.monotonic() - start)
            address = f"127.0.0.1:{port}"
            if told and death % 5 == 0:
                acknowledged.add(acknowledge_one(address, chance.choice(sorted(told))))
            if chance.random() < 0.9:
                told |= hear(address, death, time.monotonic() + chance.random() / 5, process)
        look.at(log_url)
        assert told <= look.found
        assert acknowledged <= look.acknowledged(log_url)
    assert len(told) > deaths
    # The first waits for the imports of all; the mark is 5 s where nothing else runs.
    assert max(startups[1:]) < 20


def acknowledge_one(address: str, alert_id: str) -> str:
    with Client(address) as client:
        client.alert_log.acknowledge("expected", alert_id=alert_id)
    return alert_id


@dataclass
class Look:
    """What the next server would find; it goes on where it ended, as a watcher does."""

    through: int = 0
    found: set[str] = field(default_factory=set)
    belongs: Counter[str] = field(default_factory=Counter)

    def at(self, url: str) -> None:
        """Look at what is new, and whether it fits what was there."""
        log = AlertLog.open(url)
        new, _ = log.following("", after=self.through, size=1_000_000)
        incidents, _ = log.incidents("", 1_000_000, "", include_closed=True)
        log.close()
        sequences = [one.sequence for one in new]
        assert sequences == list(range(self.through + 1, self.through + len(new) + 1))
        self.through += len(new)
        self.found.update(one.alert.alert_id for one in new)
        self.belongs.update(one.incident_id for one in new)
        assert {one.incident_id: one.alerts for one in incidents} == self.belongs
        if url.startswith("sqlite"):
            engine = create_engine(url)
            with engine.connect() as shell:
                assert shell.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
            engine.dispose()

    def acknowledged(self, url: str) -> set[str]:
        """Return the alerts that somebody has spoken of."""
        log = AlertLog.open(url)
        found, _ = log.listing(Wanted(is_acknowledged=True), 1000, "")
        log.close()
        return {one.alert.alert_id for one in found}


def test_no_death_leaves_a_partial_baseline_active(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path / "baselines")
    chance = random.Random(0)
    has_served = False
    for _ in range(SAVER_DEATHS):
        with started(dying_servers.save, tmp_path, ""):
            time.sleep(chance.random() / 10)
        entries = store.entries()
        # Who dies between the first version and making it active has acknowledged neither.
        has_served = has_served or any(entry.is_active for entry in entries)
        if has_served:
            assert store.load("tiny").manifest.version in {one.manifest.version for one in entries}
        for entry in entries[:-3]:
            if not entry.is_active:
                store.delete("tiny", entry.manifest.version)
    left = store.entries()
    assert left
    assert has_served
    for entry in left:
        store.load("tiny", entry.manifest.version)
