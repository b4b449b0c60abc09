"""What serving a model monitored costs beside serving it bare, split by stage.

Run as ``python -m mad.bench.serving_overhead``. Each round runs the bare model and then
``Monitor.judge`` on the same batch; ratios are medians over rounds of that pair. Processor time is
the figure to read where other work shares the machine. ``MKL_CBWR=AUTO`` in the environment shows
what the strict mode that makes bits repeatable costs.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeAlias, TypeVar, final

import torch
from rich.console import Console
from rich.table import Table

from mad.bench.serving_worlds import MODELS, Size, watched
from mad.monitor import Monitor
from mad.types import Inputs

BATCHES: Final = (1, 32)
ROUNDS: Final = 40
STAGES: Final = ("forward", "components", "codes", "calibration", "explanations")

Clock: TypeAlias = Callable[[], float]
Result = TypeVar("Result")


@final
@dataclass(frozen=True)
class Overhead:
    """Medians a batch: milliseconds of processor time, bare and by stage, and both ratios.

    ``stages`` are those of ``Judgement.stage_seconds``; ``rest`` is what is in none of them.
    """

    model: str
    batch: int
    bare: float
    judged: float
    stages: dict[str, float]
    rest: float
    ratio: float
    wall_ratio: float


def measure(
    name: str,
    monitor: Monitor,
    inputs: Inputs,
    *,
    rounds: int,
    cpu: Clock = time.process_time,
    wall: Clock = time.perf_counter,
) -> Overhead:
    """Run the bare model and the monitor in turn, and take medians."""
    rows = next(iter(inputs.values())).shape[0]
    module, given = (
        monitor.scorer.model.module,
        [inputs[one] for one in monitor.scorer.model.inputs],
    )
    pairs = []
    for _ in range(rounds + 1):
        with torch.no_grad():
            _, bare = _timed(lambda: module(*given), cpu, wall)
        judgement, judged = _timed(lambda: monitor.judge(inputs, clock=cpu), cpu, wall)
        pairs.append((bare, judged, judgement.stage_seconds))
    pairs = pairs[1:]  # the first round is warming up
    return Overhead(
        name,
        rows,
        bare=1e3 * statistics.median(bare[0] for bare, _, _ in pairs),
        judged=1e3 * statistics.median(judged[0] for _, judged, _ in pairs),
        stages={
            stage: 1e3 * statistics.median(seconds[stage] for _, _, seconds in pairs)
            for stage in STAGES
        },
        rest=1e3
        * statistics.median(judged[0] - sum(seconds.values()) for _, judged, seconds in pairs),
        ratio=statistics.median(judged[0] / bare[0] for bare, judged, _ in pairs),
        wall_ratio=statistics.median(judged[1] / bare[1] for bare, judged, _ in pairs),
    )


def _timed(
    work: Callable[[], Result], cpu: Clock, wall: Clock
) -> tuple[Result, tuple[float, float]]:
    began, start = wall(), cpu()
    done = work()
    return done, (cpu() - start, wall() - began)


def show(costs: Sequence[Overhead], console: Console) -> None:
    """Print one row a model and batch size."""
    printed = Table(
        "model",
        "batch",
        "bare ms",
        "judged ms",
        *(f"{stage} ms" for stage in STAGES),
        "rest ms",
        "ratio",
        "by the wall",
        title="Monitored beside bare, processor time",
    )
    for cost in costs:
        printed.add_row(
            cost.model,
            str(cost.batch),
            f"{cost.bare:.2f}",
            f"{cost.judged:.2f}",
            *(f"{cost.stages[stage]:.2f}" for stage in STAGES),
            f"{cost.rest:.2f}",
            f"{cost.ratio:.2f}x",
            f"{cost.wall_ratio:.2f}x",
        )
    console.print(printed)


def run(
    names: Sequence[str], size: Size, *, batches: Sequence[int] = BATCHES, rounds: int = ROUNDS
) -> list[Overhead]:
    """Measure each model at each batch size."""
    costs = []
    for name in names:
        world = watched(name, size, most=max(batches))
        costs += [
            measure(name, world.monitor, world.live(batch), rounds=rounds) for batch in batches
        ]
    return costs


def main() -> None:
    """Measure both models, print the table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, action="append", help="one of them alone")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=1, help="of torch, in each run")
    parser.add_argument("--trusted", type=int, default=Size().trusted, help="inputs fitted on")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    costs = run(chosen.model or MODELS, Size(trusted=chosen.trusted), rounds=chosen.rounds)
    show(costs, Console(width=170))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + "\n")


if __name__ == "__main__":
    main()
