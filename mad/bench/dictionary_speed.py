"""How fast dictionaries train and encode: beside other libraries, and as they grow.

Run as ``python -m mad.bench.dictionary_speed``; with ``--peers-python PYTHON``, that of an
environment with SAELens, dictionary_learning and sparsify, theirs are timed in the same run. All
use one thread, and times are of the processor. Times of one machine compare with those of no
other, so the figures to read are the ratios.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import final

import torch
from rich.console import Console
from rich.table import Table

from mad.bench.dictionary_speed_peer import Size, milliseconds
from mad.bench.dictionary_speed_scaling import curve, draw_curve, show_curve
from mad.bench.dictionary_speed_training import (
    BATCH,
    Contender,
    Limit,
    Trained,
    Vectors,
    lined_up,
    race,
)

BATCHES = (1, 16, 64, 256, 1_024)
ROUNDS = 5
FIGURE = Path(__file__).parent / "pictures" / "dictionary_scaling.png"


@final
@dataclass(frozen=True)
class Encoded:
    """Median milliseconds of encoding a batch, by contender, and of one default ``torch.mm``."""

    batch: int
    product_ms: float
    encode_ms: Mapping[str, float]


def encoding(
    contenders: Mapping[str, Contender], size: Size, *, batches: Sequence[int], rounds: int
) -> list[Encoded]:
    """Time encoders and the bare matrix product in turns."""
    weight = torch.randn(size.coordinates, size.width)
    found = []
    for batch in batches:
        source = torch.randn(batch, size.coordinates)
        product: list[float] = []
        times: dict[str, list[float]] = {name: [] for name in contenders}
        # The first round is warming up.
        for turn in range(rounds + 1):
            ours = [milliseconds(partial(torch.mm, source, weight)) for _ in range(3)]
            theirs = {name: one.encode(batch, 3) for name, one in contenders.items()}
            if turn:
                product.append(median(ours))
                for name, some in theirs.items():
                    times[name].append(median(some))
        found.append(
            Encoded(batch, median(product), {name: median(some) for name, some in times.items()})
        )
    return found


def show_training(trained: Sequence[Trained], limit: Limit, console: Console) -> None:
    """Print one row a trainer, and what a step cannot do without."""
    printed = Table(
        "trainer",
        "CPU ms / step",
        "vectors / CPU s",
        "times mad's",
        "times the limit",
        "FVU held out",
        title="Training TopK",
    )
    ours = trained[0].step_ms
    for one in trained:
        printed.add_row(
            one.name,
            f"{one.step_ms:.0f}",
            f"{1e3 * BATCH / one.step_ms:.0f}",
            f"{one.step_ms / ours:.2f}",
            f"{one.step_ms / limit.step_ms:.2f}",
            f"{one.unexplained:.4f}",
        )
    console.print(printed)
    console.print(
        f"The limit is {limit.step_ms:.0f} ms: dense encoding {limit.encode:.0f}, the gradient of "
        f"its weights {limit.gradient:.0f}, sparse decoding {limit.decode:.0f}."
    )


def show_encoding(encoded: Sequence[Encoded], console: Console) -> None:
    """Print one row a batch size."""
    names = list(encoded[0].encode_ms)
    printed = Table(
        "batch", "torch.mm ms", *(f"{name} ms (x mm)" for name in names), title="Encode"
    )
    for one in encoded:
        printed.add_row(
            str(one.batch),
            f"{one.product_ms:.2f}",
            *(f"{ms:.2f} ({ms / one.product_ms:.2f})" for ms in one.encode_ms.values()),
        )
    console.print(printed)


def run(size: Size, console: Console, *, peers_python: str | None, rounds: int = ROUNDS) -> None:
    """Train and encode at one size, and print both tables."""
    vectors = Vectors.superposed(size)
    with lined_up(size, vectors, peers_python) as contenders:
        trained, limit = race(contenders, size, rounds=rounds)
        show_training(trained, limit, console)
        show_encoding(encoding(contenders, size, batches=BATCHES, rounds=rounds), console)


def main() -> None:
    """Run all and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers-python", help="Python of an environment with the other libraries")
    parser.add_argument("--steps", type=int, default=40, help="training steps of each")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="where the curve is drawn")
    parser.add_argument("--only", choices=("speed", "scaling"), help="one half alone")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=140)
    if chosen.only != "scaling":
        run(Size(768, 16_384, 32, chosen.steps), console, peers_python=chosen.peers_python)
    if chosen.only != "speed":
        points = curve()
        show_curve(points, console)
        draw_curve(points, chosen.figure)


if __name__ == "__main__":
    main()
