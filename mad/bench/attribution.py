"""Published figures of an attribution-based decomposition (APD), from our own training.

Run as ``python -m mad.bench.attribution --seeds 3 --out DIRECTORY``: the toy model of superposition
with five features in two dimensions, decomposed with the hyper-parameters of the paper's appendix
(MMCS 0.998, ML2R 0.893 there), from eight first draws each. The state of a run is kept in
DIRECTORY, so that the same command goes on where it stopped; figures are written there as JSON.
"""

import argparse
import json
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, final

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from mad import tensors
from mad.bench.truth.tms import Tms, TmsTask, sparse
from mad.components.parameters.apd.plan import ApdPlan
from mad.components.parameters.apd.starts import ApdStarts

PLAN: Final = ApdPlan(
    layers=("linear1", "linear2"),
    ties=(("linear1", "linear2"),),
    components=5,
    rank=3,
    active=0.211,
    attributed="components",
    simplicity_coefficient=0.7,
    p=1.0,
    rate=3e-2,
    steps=20_000,
    batch_size=2_048,
    starts=8,
)
KEPT_EVERY: Final = 1_000
"""Steps between states that are kept."""

_PRESENT: Final = 1e-6


@final
@dataclass(frozen=True)
class Figures:
    """One run: how like the matrix components are, as published, and what the run took."""

    seed: int
    steps: int
    mmcs: float
    ml2r: float
    components: int
    loss: float
    cpu_seconds: float


def run(model: Tms, plan: ApdPlan, file: Path) -> Generator[int]:
    """Train, or go on, saying how many steps are done; figures are beside the state."""
    training = ApdStarts.begin(model, plan)
    spent = loss = 0.0
    if file.exists():
        state = tensors.read_tensors(file)
        spent, loss = (float(state.pop(one)) for one in ("spent", "loss"))
        training.restore(state)
    features = model.linear1.in_features
    while training.steps_done < plan.steps:
        before = time.process_time()
        for _ in range(min(KEPT_EVERY, plan.steps - training.steps_done)):
            seed = 7_919 * (plan.seed + 1) + 1_000_003 * training.steps_done
            generator = torch.Generator().manual_seed(seed)
            loss = training.step(sparse(plan.batch_size, features, generator)).loss
        spent += time.process_time() - before
        also = {"spent": torch.tensor(spent).double(), "loss": torch.tensor(loss).double()}
        beside = file.with_suffix(".part")
        tensors.write_durably(beside, tensors.serialise({**training.state, **also}))
        beside.replace(file)
        yield training.steps_done
    matrix = model.linear1.weight.detach().T
    mmcs, ml2r, found = likeness(training.finish()["linear1"].matrices, matrix)
    figures = Figures(plan.seed, plan.steps, mmcs, ml2r, found, loss, spent)
    file.with_suffix(".json").write_text(json.dumps(asdict(figures), indent=2) + "\n")


def likeness(
    pieces: Float[Tensor, "component feature target"], matrix: Float[Tensor, "feature target"]
) -> tuple[float, float, int]:
    """Return MMCS, ML2R, and how many components are the likest of some feature."""
    lengths = pieces.norm(dim=2)
    cosine = functional.cosine_similarity(pieces, matrix.unsqueeze(0), dim=2)
    present = lengths > _PRESENT * matrix.norm(dim=1)
    best = cosine.masked_fill(~present, -1.0).max(dim=0)
    ratio = lengths.gather(0, best.indices.unsqueeze(0))[0] / matrix.norm(dim=1)
    return float(best.values.mean()), float(ratio.mean()), len(best.indices.unique())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mad.bench.attribution", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=PLAN.steps)
    parser.add_argument("--out", type=Path, required=True, help="directory of states and figures")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=120)
    target, target_seed = TmsTask(features=5, narrow=2, batch=1_024).representing(0)
    console.print(f"the model is that of seed {target_seed}", highlight=False)
    for number in range(asked.seeds):
        path = asked.out / f"apd-tms_5_2-{number}-{asked.steps}.safetensors"
        for done in run(target, replace(PLAN, seed=number, steps=asked.steps), path):
            console.print(f"{path.stem}: step {done}", highlight=False)
        console.print(path.with_suffix(".json").read_text(), highlight=False)
