"""Published figures of stochastic parameter decompositions, from our own training.

Run as ``python -m mad.bench.decomposition --model tms_5_2 --seeds 3 --out DIRECTORY``. Each target
model is trained first, on a seed that represents all its features. States and figures of runs are
kept in DIRECTORY, so that the same command goes on where it stopped; ``figures.md`` there is a
table of all runs that were ever finished in it.
"""

import argparse
import json
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import torch
from rich.console import Console
from torch import Tensor, nn

from mad import tensors
from mad.bench.decomposition_settings import SETTINGS, Setting
from mad.bench.truth import found
from mad.bench.truth.found import Found
from mad.components.parameters.layers import matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.training import SpdTraining

KEPT_EVERY = 500
"""Steps between states that are kept."""

HEADS: Final = ("model", "seed", "steps", "MMCS", "ML2R", "alive / active / off", "CPU s", "ms")


@final
@dataclass(frozen=True)
class Figures:
    """One run: MMCS and ML2R of the layers that read features, and each layer's pieces.

    ``step_ms`` is processor time of a step, a mean over those that this process took.
    """

    model: str
    seed: int
    target_seed: int
    steps: int
    mmcs: float
    ml2r: float
    layers: dict[str, Found]
    loss: float
    cpu_seconds: float
    step_ms: float | None


@final
@dataclass
class Spent:
    """Processor time of steps, in all and each of this process, and the last loss."""

    seconds: float
    loss: float
    steps: list[float]


def run(name: str, setting: Setting, seed: int, kept: Path) -> Generator[int]:
    """Train one decomposition, from where it stopped, and measure it; yield steps as kept."""
    model, target_seed = setting.target(seed)
    plan = replace(setting.plan, seed=seed)
    draw = _batches(setting, seed)
    passes = None if setting.passes is None else setting.passes(model)
    training = SpdTraining.begin(model, plan, draw(0), passes=passes)
    spent = _restored(training, kept)
    while training.steps_done < plan.steps:
        _advance(training, draw, spent)
        counts = {"spent": torch.tensor(spent.seconds), "loss": torch.tensor(spent.loss)}
        beside = kept.with_suffix(".part")
        tensors.write_durably(beside, tensors.serialise({**training.state, **counts}))
        beside.replace(kept)
        yield training.steps_done
    pieces = training.finish()
    mmcs, ml2r = _likeness(model, pieces, setting)
    importance = found.alone(training.passes, pieces, setting.features)
    # The first steps of a process compile.
    timed = spent.steps[10:]
    figures = Figures(
        model=name,
        seed=seed,
        target_seed=target_seed,
        steps=plan.steps,
        mmcs=mmcs,
        ml2r=ml2r,
        layers={layer: Found.of(one) for layer, one in importance.items()},
        loss=spent.loss,
        cpu_seconds=spent.seconds,
        step_ms=1e3 * sum(timed) / len(timed) if timed else None,
    )
    kept.with_suffix(".json").write_text(json.dumps(asdict(figures), indent=2) + "\n")


def kept_pieces(
    setting: Setting, seed: int, kept: Path
) -> tuple[nn.Module, tuple[Subcomponents, ...]]:
    """Return the target model of a run, and the pieces of the state that it kept."""
    model, _ = setting.target(seed)
    plan = replace(setting.plan, seed=seed, warm_up_steps=0)
    example = setting.draw(setting.plan.batch_size, torch.Generator().manual_seed(seed))
    training = SpdTraining.begin(model, plan, example, compiled=False)
    _restored(training, kept)
    return model, training.finish()


def _restored(training: SpdTraining, kept: Path) -> Spent:
    if not kept.exists():
        return Spent(0.0, 0.0, [])
    state = tensors.read_tensors(kept)
    spent, loss = (float(state.pop(one)) for one in ("spent", "loss"))
    training.restore(state)
    return Spent(spent, loss, [])


def _advance(training: SpdTraining, draw: Callable[[int], Tensor], spent: Spent) -> None:
    for _ in range(min(KEPT_EVERY, training.plan.steps - training.steps_done)):
        batch = draw(training.steps_done)
        before = time.process_time()
        spent.loss = training.step(batch).loss
        took = time.process_time() - before
        spent.seconds += took
        spent.steps.append(took)


def _batches(setting: Setting, seed: int) -> Callable[[int], Tensor]:
    def draw(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(7_919 * (seed + 1) + 1_000_003 * step)
        return setting.draw(setting.plan.batch_size, generator)

    return draw


def _likeness(
    model: nn.Module, pieces: tuple[Subcomponents, ...], setting: Setting
) -> tuple[float, float]:
    embedding = setting.embedding(model)
    matrix, v, u = [], [], []
    for piece in pieces:
        if piece.layer.name in setting.read:
            matrix.append(embedding @ matrix_of(model, piece.layer))
            v.append(embedding @ piece.v)
            u.append(piece.u)
    return found.likeness(torch.cat(matrix, dim=1), torch.cat(v, dim=1), torch.block_diag(*u))


def page(figures: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table, one row a run.

    Of each layer it says how many subcomponents are alive, how many a feature activates, and how
    many importances are off one subcomponent a feature.
    """
    lines = ["| " + " | ".join(HEADS) + " |", "|" + " --- |" * len(HEADS)]
    for one in figures:
        layers = "; ".join(
            f"{name} {each['alive']} / {each['active']:.2f} / {each['identity_error']}"
            for name, each in one["layers"].items()
        )
        cells = (
            *(one["model"], one["seed"], one["steps"], f"{one['mmcs']:.4f}", f"{one['ml2r']:.4f}"),
            *(layers, f"{one['cpu_seconds']:.0f}"),
            "" if one["step_ms"] is None else f"{one['step_ms']:.1f}",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mad.bench.decomposition", description=__doc__)
    parser.add_argument("--model", nargs="+", choices=tuple(SETTINGS), default=("tms_5_2",))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="instead of the reference configuration's")
    parser.add_argument("--out", type=Path, required=True, help="directory of states and figures")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=160)
    for model_name in asked.model:
        chosen = SETTINGS[model_name]
        if asked.steps:
            chosen = replace(chosen, plan=replace(chosen.plan, steps=asked.steps))
        for number in range(asked.seeds):
            file = asked.out / f"{model_name}-{number}-{chosen.plan.steps}.safetensors"
            for steps_done in run(model_name, chosen, number, file):
                console.print(f"{file.stem}: step {steps_done}", highlight=False)
            table = page([json.loads(one.read_text()) for one in sorted(asked.out.glob("*.json"))])
            (asked.out / "figures.md").write_text(table)
            console.print(table, highlight=False)
