"""One fit in a process of its own: an order on the input, what happens as lines on the output.

Serving keeps its memory, its thread and its model whatever a fit takes. The process is nice, ends
with the server that started it, and goes on where a killed one was. Run as a module; the last line
says what has come of it.
"""

import fcntl
import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TextIO, final

import torch

from mad.arrays import open_dataset
from mad.baseline.bundle import Provenance
from mad.config import Settings
from mad.deployment import Deployment
from mad.errors import MadError
from mad.fit import FitPlan, Unfinished, check_unseen, fit
from mad.service.fit_jobs.job import FitJob, read
from mad.service.fit_jobs.quarantine import set_aside
from mad.service.fit_jobs.shelf import INPUTS, UNFINISHED
from mad.tensors import read_bytes
from mad.types import Dataset

NICENESS: Final = 10
_TOLD_EVERY_S: Final = 0.2
_ABANDONED: Final = 70


@final
@dataclass(frozen=True, kw_only=True)
class Order:
    """What a process is to do.

    ``home`` is the job's directory, and ``settings`` are those that a fit needs. Inputs whose
    p-value under the active baseline is at most ``quarantine_rate`` are set aside.
    """

    home: str
    settings: dict[str, Any]
    threads: int
    quarantine_rate: float

    def line(self) -> bytes:
        """Write it as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def main() -> None:
    """Do the order on the input; errors of ours are a line like any other outcome."""
    os.nice(NICENESS)
    told = _taken_over()
    order = Order(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_server, daemon=True).start()
    torch.set_num_threads(order.threads)
    home = Path(order.home)
    with (home / "lock").open("w") as lock:
        # A process whose server was killed a moment ago may still be ending.
        fcntl.flock(lock, fcntl.LOCK_EX)
        job = read(read_bytes(home / "job.json"), name=str(home / "job.json"))
        try:
            told(**_done(job, order, told))
        except MadError as error:
            told(error=str(error))


def _done(job: FitJob, order: Order, told: "_Told") -> dict[str, object]:
    settings = Settings.model_validate(order.settings, context=Path("/"))
    deployment = Deployment.of(settings)
    home = Path(order.home)
    plan = _plan(deployment, job)
    store = deployment.store
    for entry in store.entries(plan.name):
        if entry.provenance.job_id == job.job_id:  # it was stored, and the server never heard of it
            return _outcome(entry.manifest.revision, entry.provenance.quarantined_inputs)
    data = open_dataset(sorted((home / INPUTS).iterdir()), names=deployment.model.inputs)
    check_unseen(data, plan, deployment.seen)
    progress = _Progress(told)
    aside = set_aside(deployment, data, plan, home, rate=order.quarantine_rate, progress=progress)
    assert job.started is not None
    fitted = fit(
        deployment.model,
        deployment.decomposition(),
        data,
        plan,
        created=job.started,
        progress=progress,
        unfinished=Unfinished(home / UNFINISHED, setting="fit.directory"),
        set_aside=aside,
    )
    saved = store.save(fitted, activate=False, provenance=_provenance(job, data, len(aside)))
    return _outcome(saved.revision, len(aside))


def _plan(deployment: Deployment, job: FitJob) -> FitPlan:
    plan = replace(deployment.plan, name=job.baseline)
    if job.false_alarm_rate:
        plan = replace(plan, false_alarm_rate=job.false_alarm_rate)
    return plan if job.seed is None else replace(plan, seed=job.seed)


def _provenance(job: FitJob, data: Dataset, quarantined: int) -> Provenance:
    return Provenance(
        principal=job.principal,
        source=job.source,
        data_digest=job.digest,
        inputs=len(data),
        quarantined_inputs=quarantined,
        job_id=job.job_id,
    )


def _outcome(revision: str, quarantined: int) -> dict[str, object]:
    return {"revision": revision, "quarantined": quarantined}


@final
class _Told:
    """What the server is told, as lines of JSON."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines

    def __call__(self, **facts: object) -> None:
        """Tell some facts."""
        self._lines.write(json.dumps(facts) + "\n")
        self._lines.flush()


def _taken_over() -> _Told:
    """Take the output for ourselves: a model's own code may print, which then goes with the log."""
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return _Told(lines)


@final
class _Progress:
    """Progress as lines, not too many."""

    def __init__(self, told: _Told) -> None:
        self._told = told
        self._stage = ""
        self._at = 0.0

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:
        """Report ``done`` of ``total`` steps of one stage."""
        now = time.monotonic()
        if stage == self._stage and done < total and now - self._at < _TOLD_EVERY_S:
            return
        self._stage, self._at = stage, now
        self._told(stage=stage, done=done, total=total)


def _end_with_server() -> None:
    """End when the server does, which holds the other end of the input: nobody would be told."""
    # Not by the buffered reader, whose lock the end of this process would wait for.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(_ABANDONED)


if __name__ == "__main__":
    main()
