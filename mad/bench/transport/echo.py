"""Our own server over an echo model, on the port given, until it is killed.

Run as ``python -m mad.bench.transport.echo (echo|scored) PORT WIDTH``. ``scored`` judges what it
echoes by a small baseline; ``echo`` answers with the verdict of one input for all of them, so that
what is left is what a call costs.
"""

import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import torch
from jaxtyping import Int64
from prometheus_client import CollectorRegistry
from torch import Tensor, nn

from mad.alerts.log import AlertLog
from mad.audit import AuditLog
from mad.baseline.store import BaselineStore
from mad.capture.model import MonitoredModel
from mad.components.unexplained import Unexplained
from mad.fit import FitPlan, fit
from mad.judgement import Judgement
from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.scoring import Scorer
from mad.service import process
from mad.service.clock import utc_now
from mad.service.registry import Registry
from mad.service.server import Limits, Server
from mad.types import Inputs, batch_size

MODEL = "echo"
TRUSTED = 2000


@final
@dataclass(frozen=True)
class Rows:
    """Trusted inputs in memory."""

    x: Tensor

    def __len__(self) -> int:
        """Return the number of inputs."""
        return self.x.shape[0]

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        """Read some inputs."""
        return {"x": self.x[rows]}


def monitor(width: int) -> Monitor:
    """Fit a baseline of a model that returns what it is given."""
    model = MonitoredModel.of(nn.Sequential(nn.Identity()), name=MODEL, inputs=["x"])
    decomposition = Unexplained("0")
    trusted = Rows(torch.randn(TRUSTED, width, generator=torch.Generator().manual_seed(0)))
    baseline = fit(
        model,
        decomposition,
        trusted,
        FitPlan(name=MODEL, context="none"),
        created=datetime(2026, 1, 1, tzinfo=UTC),
        progress=_quiet,
    )
    return Monitor.bind(model, decomposition, baseline)


def server(port: int, width: int, directory: Path, *, is_scored: bool) -> Server:
    """Compose the server with its defaults."""
    judge = monitor(width)
    if not is_scored:
        judged = judge.judge({"x": torch.zeros(1, width)})
        _echo(judged)
    return Server(
        address=f"127.0.0.1:{port}",
        registry=Registry([judge], default=MODEL),
        store=BaselineStore(directory / "baselines"),
        alert_log=AlertLog.open(f"sqlite:///{directory}/alerts.db"),
        audit=AuditLog.open(directory / "audit.jsonl", clock=utc_now),
        metrics=Metrics(CollectorRegistry(), model=MODEL, false_alarm_rates=[0.01]),
        limits=Limits(
            max_batch=64,
            max_request_inputs=1024,
            max_queued_inputs=4096,
            max_message_bytes=16 * 1024 * 1024,
        ),
    )


async def serve(port: int, width: int, *, is_scored: bool) -> None:
    """Serve until killed."""
    with tempfile.TemporaryDirectory() as directory:
        running = server(port, width, Path(directory), is_scored=is_scored)
        await running.start()
        process.keep_loaded()
        await running.wait()


def _echo(judged: Judgement) -> None:
    """Let this process' monitors answer with the inputs, and each with the verdict that was judged.

    Whatever its bits it is no alert, which would be written to disk.
    """
    (verdict,) = judged.verdicts
    quiet = replace(verdict, is_alert=False, p_value=1.0)

    def judge(_: Monitor, inputs: Inputs) -> Judgement:
        size = batch_size(inputs)
        return Judgement(
            {"output": inputs["x"]}, (quiet,) * size, {}, judged.stage_seconds, judged.rows * size
        )

    for place, name, function in (
        (Scorer, "observe", lambda _, inputs: inputs),
        (Monitor, "judge_observed", judge),
        (Monitor, "judge", judge),
        (Monitor, "steadied", lambda monitor, **_: monitor),
    ):
        setattr(place, name, function)


def _quiet(stage: str, *, done: int, total: int, note: str = "") -> None:
    """Report no progress."""


if __name__ == "__main__":
    torch.set_num_threads(1)
    process.run(serve(int(sys.argv[2]), int(sys.argv[3]), is_scored=sys.argv[1] == "scored"))
