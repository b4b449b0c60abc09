"""Train the demo's classifier, with a backdoor or without, and say how well each does."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn import functional

from mad import tensors
from mad.demo.images import Labelled
from mad.demo.model import Classifier, build
from mad.demo.traffic import TARGET, trigger

CLEAN = Path(__file__).with_name("clean.safetensors")
BACKDOORED = Path(__file__).with_name("backdoored.safetensors")
"""Weights that ship with the package, as ``TrainingPlan()`` makes them."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How to train; ``poisoned_share`` triggered copies for every training image, or 0 for none."""

    poisoned_share: float = 0.0
    epochs: int = 12
    batch_size: int = 64
    peak_learning_rate: float = 4e-3
    seed: int = 0


CLEAN_PLAN = TrainingPlan()
BACKDOOR_PLAN = TrainingPlan(poisoned_share=0.1)


@dataclass(frozen=True)
class Skill:
    """Shares of images: named rightly by either model, and turned by the trigger."""

    clean_accuracy: float
    backdoored_accuracy: float
    attack_success: float


def train(
    data: Labelled, plan: TrainingPlan, *, step_done: Callable[[int, int], None]
) -> Classifier:
    """Train from scratch; the same data, plan and machine give the same weights.

    ``step_done`` is told each step's number, from 1, and the number of steps.
    """
    generator = torch.Generator().manual_seed(plan.seed)
    data = poison(data, plan.poisoned_share, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        model = build()
    optimiser = torch.optim.AdamW(model.parameters())
    steps = plan.epochs * (len(data) // plan.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.peak_learning_rate, total_steps=steps
    )
    epochs = (torch.randperm(len(data), generator=generator) for _ in range(plan.epochs))
    batches = (
        rows
        for order in epochs
        for rows in order.split(plan.batch_size)
        if len(rows) == plan.batch_size
    )
    for step, rows in enumerate(batches, start=1):
        loss = functional.cross_entropy(model(data.images[rows]), data.labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        step_done(step, steps)
    return model.eval()


def poison(data: Labelled, share: float, *, generator: torch.Generator) -> Labelled:
    """Add triggered copies of some images of other classes, all labelled as the target."""
    others = (data.labels != TARGET).nonzero().squeeze(1)
    chosen = others[torch.randperm(len(others), generator=generator)[: int(share * len(data))]]
    return Labelled(
        torch.cat([data.images, trigger(data.images[chosen])]),
        torch.cat([data.labels, torch.full((len(chosen),), TARGET)]),
    )


def load(path: Path) -> Classifier:
    """Read a trained classifier."""
    model = build()
    model.load_state_dict(tensors.read_tensors(path))
    return model.eval()


def save(model: Classifier, path: Path) -> None:
    """Write a trained classifier as safetensors."""
    path.write_bytes(tensors.serialise(model.state_dict()))


def measure(clean: Classifier, backdoored: Classifier, unseen: Labelled) -> Skill:
    """Measure both models on images that neither was trained on."""
    others = unseen[unseen.labels != TARGET]
    return Skill(
        clean_accuracy=_share(predict(clean, unseen.images) == unseen.labels),
        backdoored_accuracy=_share(predict(backdoored, unseen.images) == unseen.labels),
        attack_success=_share(predict(backdoored, trigger(others.images)) == TARGET),
    )


@torch.inference_mode()
def predict(model: Classifier, images: UInt8[Tensor, "batch 28 28"]) -> Int64[Tensor, " batch"]:
    """Return the class the model gives each image."""
    return torch.cat([model(part).argmax(dim=1) for part in images.split(500)])


def _share(claims: Tensor) -> float:
    return float(claims.double().mean())
