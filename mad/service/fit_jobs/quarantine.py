"""Trusted inputs that the active baseline finds most surprising: found, kept apart, and counted.

Whoever sends trusted data may send what should alarm later, knowingly or not. What the active
baseline would hardly expect of any trusted input is not learnt from, and kept for somebody to look
at. It is no filter to rely on: poison like trusted inputs passes, and the gates are for that.
"""

import math
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.calibration.conformal import attainable_rate, p_values
from mad.deployment import Deployment
from mad.errors import BaselineNotFoundError, ConfigError
from mad.fit import FitPlan
from mad.fit.checkpoint import Checkpoints, Unfinished, identity
from mad.fit.reading import Reader
from mad.monitor import Monitor
from mad.service.fit_jobs.shelf import LOOKING, QUARANTINED
from mad.tensors import read_tensors, serialise, write_durably
from mad.types import Dataset, Inputs, Progress

STAGE: Final = "looking for surprising inputs"
_FILE: Final = "inputs.safetensors"
_ROWS: Final = "rows"
_MAX_KEPT: Final = 10_000
"""Inputs set aside that are kept to look at; so many more than chance gives need no more proof."""


def set_aside(  # what is looked at, under what, and where it is kept
    deployment: Deployment,
    data: Dataset,
    plan: FitPlan,
    home: Path,
    *,
    rate: float,
    progress: Progress,
) -> Int64[Tensor, " aside"]:
    """Return the rows to set aside, ascending, and keep their inputs in the job's directory.

    A fit that was killed finds the rows it had found, whatever has become active since.
    """
    kept = home / QUARANTINED
    if (kept / _ROWS).is_file():
        return read_tensors(kept / _ROWS)["rows"]
    monitor = _active(deployment, plan.name)
    rows = torch.zeros(0, dtype=torch.int64)
    if monitor is not None and rate > 0:
        rows = _surprising(monitor, data, plan, home, rate=rate, progress=progress)
    kept.mkdir(exist_ok=True)
    try:
        if len(rows):
            few = rows[:_MAX_KEPT]
            write_durably(kept / _FILE, serialise(data.take(few)))
        # The last, since it says that all is done.
        write_durably(kept / _ROWS, serialise({"rows": rows}))
    except OSError as cause:
        raise ConfigError(
            f"cannot keep what was set aside in {kept}: {cause.strerror}; make room, or set "
            "fit.directory to another disk"
        ) from cause
    return rows


def _active(deployment: Deployment, name: str) -> Monitor | None:
    """Return the active baseline of the name, or else of the settings' own; None if neither is."""
    for one in dict.fromkeys((name, deployment.settings.baseline.name)):
        try:
            return deployment.monitor(one)
        except BaselineNotFoundError:
            continue
    return None


def _surprising(  # as above
    monitor: Monitor,
    data: Dataset,
    plan: FitPlan,
    home: Path,
    *,
    rate: float,
    progress: Progress,
) -> Int64[Tensor, " aside"]:
    scorer = monitor.scorer
    whole = {
        **identity(scorer.model, scorer.decomposition, data, plan),
        "active baseline": monitor.baseline.revision,
    }
    place = Unfinished(home / LOOKING, setting="fit.directory")
    reader = Reader(data, plan.batch_size, progress, Checkpoints(place, whole))
    found = {"rows": torch.zeros(0, dtype=torch.int64)}
    for chosen, inputs in reader.batches(STAGE, torch.arange(len(data)), found):
        is_surprising = _is_surprising(monitor, inputs, rate=rate)
        found["rows"] = torch.cat([found["rows"], chosen[is_surprising]])
    place.remove()
    return found["rows"]


def _is_surprising(monitor: Monitor, inputs: Inputs, *, rate: float) -> Tensor:
    """Say which inputs are as rare as one trusted input in ``1 / rate``.

    By the p-value, where the reference is large enough for one so small. Otherwise they exceed the
    whole reference, and their rarity, extrapolated, is as large as that.
    """
    baseline = monitor.baseline
    scored = monitor.scorer.score(inputs)
    weighed = baseline.weighing.weigh(scored.ledger)
    bits: Tensor = getattr(weighed, baseline.manifest.alert_on)
    # Among everybody, whatever alerts go by: a context's own reference may be small.
    p = p_values(bits, baseline.reference)
    least = attainable_rate(len(baseline.reference))
    if least <= rate:
        return p <= rate
    return (p <= least) & (bits >= -math.log2(rate))
