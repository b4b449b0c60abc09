"""How time and memory of a fit grow with trusted data: shards on disk in, one row a size out.

Run as ``python -m mad.bench.fit_size``; ``--inputs`` gives the sizes. Each size is fitted in a
process of its own, whose peak is that of this fit alone. A monitored model that costs next to
nothing is watched at two sites, so that what is timed is the fit itself.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table as Printed
from safetensors.torch import save_file
from torch import Tensor, nn

from mad.arrays import open_dataset
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.joined import Joined
from mad.fit import FitPlan, Unfinished, check_unseen, fit, split, train_dictionaries

INPUTS = (20_000, 200_000, 2_000_000)
SHARDS = 4
WIDTH, HIDDEN, CLASSES = 32, 64, 10
SITES = ("1", "3")
SHOWN = (
    "capturing activations",
    "checking digests",
    "fitting codes",
    "codes from statistics",
    "weighing parts",
    "calibrating",
)
"""What takes longer the more inputs there are, or might; training has a limit of its own."""
_BLOCK = 50_000

Format: TypeAlias = Literal["parquet", "safetensors"]


@final
@dataclass(frozen=True)
class FitCost:
    """What one fit took: seconds by what it did, and memory at its peak, in megabytes.

    ``own_mb`` is what the fit holds itself beyond what the process had before; ``with_files_mb``
    also counts pages of mapped files, which the system takes back when it needs them.
    """

    inputs: int
    seconds: dict[str, float]
    own_mb: float
    with_files_mb: float


@final
@dataclass
class Stopwatch:
    """Hears of progress: when each stage began and ended, and the largest memory seen."""

    clock: Callable[[], float] = time.perf_counter
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    peak_mb: float = 0.0

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:  # noqa: ARG002  # Progress
        """Note the time, and the memory."""
        now = self.clock()
        self.spans[stage] = (self.spans.get(stage, (now, now))[0], now)
        self.peak_mb = max(self.peak_mb, _memory_mb("RssAnon"))

    def seconds(self) -> dict[str, float]:
        """Return how long each stage took, and what lay between gathering and weighing."""
        taken = {stage: end - start for stage, (start, end) in self.spans.items()}
        codes = self.spans["weighing parts"][0] - self.spans["fitting codes"][1]
        return {**taken, "codes from statistics": codes}


def blocks(count: int) -> Iterator[Float[Tensor, "block 32"]]:
    """Draw that many inputs from a few clusters, a block at a time."""
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(CLASSES, WIDTH, generator=generator)
    for start in range(0, count, _BLOCK):
        which = torch.randint(CLASSES, (min(_BLOCK, count - start),), generator=generator)
        yield centres[which] + torch.randn(len(which), WIDTH, generator=generator)


def write(folder: Path, count: int, kind: Format) -> list[Path]:
    """Write that many inputs as shards."""
    paths = []
    for shard in range(SHARDS):
        x = torch.cat(list(blocks(count // SHARDS)))
        x += 0.01 * shard
        paths.append(folder / f"{shard}.{kind}")
        if kind == "safetensors":
            save_file({"x": x}, paths[-1])
        else:
            _write_parquet(paths[-1], x)
    return paths


def measure(paths: Sequence[Path], *, steps: int, folder: Path) -> FitCost:
    """Train dictionaries, check that they saw no reference, and fit, as ``mad fit`` does."""
    data = open_dataset(paths)
    module = nn.Sequential(
        *(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()),
        nn.Linear(HIDDEN, CLASSES),
    )
    model = MonitoredModel.of(module, name="size", inputs=["x"])
    plan, watch, before = FitPlan(name="size"), Stopwatch(), _memory_mb("RssAnon")
    rows = split(len(data), plan).fitting
    wanted = DictionaryPlan(width=256, k=4, steps=steps)
    trained = train_dictionaries(model, SITES, data, wanted, rows=rows, progress=watch)
    start = watch.clock()
    check_unseen(data, plan, trained.seen)
    checked = watch.clock() - start
    fit(
        model,
        Joined(trained.dictionaries),
        data,
        plan,
        created=datetime.now(UTC),
        progress=watch,
        unfinished=Unfinished(folder / "unfinished"),
    )
    seconds = {"checking digests": checked, **watch.seconds()}
    return FitCost(len(data), seconds, watch.peak_mb - before, _memory_mb("VmHWM"))


def show(costs: Sequence[FitCost], console: Console) -> None:
    """Print one row a size."""
    printed = Printed(
        "inputs",
        *(f"{name}, s" for name in SHOWN),
        "own MB",
        "with files MB",
        title="What a fit costs",
    )
    for cost in costs:
        printed.add_row(
            f"{cost.inputs:,}",
            *(f"{cost.seconds[name]:.1f}" for name in SHOWN),
            f"{cost.own_mb:.0f}",
            f"{cost.with_files_mb:.0f}",
        )
    console.print(printed)


def _write_parquet(path: Path, x: Float[Tensor, "input 32"]) -> None:
    import pyarrow as pa  # noqa: PLC0415  # an extra
    import pyarrow.parquet as pq  # noqa: PLC0415  # an extra

    flat: np.ndarray = x.flatten().numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat), x.shape[1])
    pq.write_table(pa.table({"x": column}), path, row_group_size=_BLOCK)


def _memory_mb(name: str) -> float:
    """Read a figure of this process from the kernel."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024


def _in_a_process(count: int, kind: Format) -> FitCost:
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), count, kind)
        command = [sys.executable, "-m", "mad.bench.fit_size", "--measure", *map(str, paths)]
        run = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # our own
        return FitCost(**json.loads(run.stdout))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mad.bench.fit_size", description=__doc__)
    parser.add_argument("--inputs", type=int, nargs="+", default=INPUTS)
    parser.add_argument("--format", choices=("parquet", "safetensors"), default="parquet")
    parser.add_argument("--measure", type=Path, nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        torch.set_num_threads(1)
        found = measure(asked.measure, steps=200, folder=asked.measure[0].parent)
        sys.stdout.write(json.dumps(asdict(found)))
    else:
        show([_in_a_process(count, asked.format) for count in asked.inputs], Console(width=200))
