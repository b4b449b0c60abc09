"""How time and memory of dictionaries grow with their width and their coordinates."""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import final

import torch
from rich.console import Console
from rich.table import Table

from mad.bench.dictionary_speed_peer import Size, milliseconds
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.training import Training

WIDTHS = (1_024, 4_096, 16_384, 65_536, 131_072)
COORDINATES = (128, 256, 512, 768, 1_536)
BATCH = 1_024
_MIB = 2**20


@final
@dataclass(frozen=True)
class Point:
    """Milliseconds of processor time for 1,024 vectors, and mebibytes, at one size.

    ``weights_mib`` are the weights, their gradients and what Adam remembers; ``peak_mib`` is the
    most that the process held beyond what it began with.
    """

    coordinates: int
    width: int
    train_ms: float
    encode_ms: float
    weights_mib: float
    peak_mib: float


def curve(
    *, widths: Sequence[int] = WIDTHS, coordinates: Sequence[int] = COORDINATES, k: int = 32
) -> list[Point]:
    """Measure each width at 768 coordinates, and each number of these at 16,384 latents."""
    sizes = [Size(768, width, k, 6) for width in widths]
    sizes += [Size(some, 16_384, k, 6) for some in coordinates if some != 768]  # noqa: PLR2004
    return [apart(size) for size in sizes]


def apart(size: Size) -> Point:
    """Measure in a process of its own, since a process never forgets its peak of memory."""
    numbers = [str(one) for one in (size.coordinates, size.width, size.k, size.steps)]
    command = [sys.executable, "-m", __spec__.name, *numbers]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # our own
    return Point(**json.loads(answer.stdout))


def measure(size: Size) -> Point:
    """Train a few steps and encode a batch a few times."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4 * BATCH, size.coordinates, generator=generator)
    before = _peak_mib()
    plan = DictionaryPlan(width=size.width, k=size.k, steps=size.steps, batch_size=BATCH)
    training = Training.begin(Look.at("site", "flatten"), Examples.own(vectors), plan)
    batches = [vectors[start : start + BATCH] for start in range(0, len(vectors), BATCH)]
    steps = [
        milliseconds(partial(training.step, Examples.own(batches[step % 4])))
        for step in range(size.steps)
    ]
    dictionary = training.finish(Examples.own(vectors))
    with torch.no_grad():
        encodes = [milliseconds(lambda: dictionary.latents({"site": batches[0]})) for _ in range(5)]
    # Weights, gradients and two moments, of encoder and decoder.
    weights_mib = 2 * 4 * 4 * size.width * size.coordinates / _MIB
    peak = _peak_mib() - before
    # The first step allocates, the first encoding rounds the weights.
    return Point(
        size.coordinates, size.width, median(steps[1:]), median(encodes[1:]), weights_mib, peak
    )


def show_curve(points: Sequence[Point], console: Console) -> None:
    """Print one row a size."""
    printed = Table(
        "coordinates",
        "latents",
        "train ms / step",
        "encode ms",
        "weights MiB",
        "peak MiB",
        title="How dictionaries grow (1,024 vectors, 32 active)",
    )
    for one in points:
        numbers = (one.train_ms, one.encode_ms, one.weights_mib, one.peak_mib)
        printed.add_row(
            str(one.coordinates), f"{one.width:,}", *(f"{number:.0f}" for number in numbers)
        )
    console.print(printed)


def draw_curve(points: Sequence[Point], file: Path) -> None:
    """Write time and memory over width and over coordinates as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  # an extra
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra

    picture = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(picture)
    for place, (axes, label) in enumerate(
        zip(
            picture.subplots(1, 2),
            ("latents, at 768 coordinates", "coordinates, at 16,384 latents"),
            strict=True,
        )
    ):
        if place == 0:
            some = sorted((one.width, one) for one in points if one.coordinates == 768)  # noqa: PLR2004
        else:
            some = sorted((one.coordinates, one) for one in points if one.width == 16_384)  # noqa: PLR2004
        sizes = [size for size, _ in some]
        axes.loglog(sizes, [one.train_ms for _, one in some], "o-", label="training step, CPU ms")
        axes.loglog(sizes, [one.encode_ms for _, one in some], "s-", label="encoding, CPU ms")
        axes.loglog(sizes, [one.peak_mib for _, one in some], "^--", label="training, peak MiB")
        axes.set_xlabel(label)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    picture.axes[0].legend(fontsize="small")
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(file, dpi=80)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(asdict(measure(Size(*map(int, sys.argv[1:5]))))))
