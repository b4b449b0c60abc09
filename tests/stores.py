"""Stores of each kind of place, and a baseline small enough to save a thousand times."""

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from mad.baseline.bundle import Baseline
from mad.baseline.store import BaselineStore
from tests.worlds import CREATED, World

PLACES: Final = ("directory", "file", "memory")


def store_at(place: str, folder: Path) -> BaselineStore:
    """Return an empty store in one kind of place."""
    match place:
        case "directory":
            return BaselineStore(folder / "baselines")
        case "file":
            return BaselineStore(f"file://{folder}/baselines")
        case _:
            return BaselineStore(f"memory://{uuid.uuid4().hex}/baselines")


def small(world: World, *, note: int = 0) -> Baseline:
    """Return a baseline without codes; ``note`` is its seed, by which it is known again."""
    manifest = replace(world.baseline.manifest, seed=note, created=CREATED)
    weighing = replace(
        world.baseline.weighing,
        parts=replace(
            world.baseline.weighing.parts,
            **{
                field: getattr(world.baseline.weighing.parts, field)[:0]
                for field in ("knots", "rarity", "scale", "typical")
            },
        ),
        place=torch.zeros(0, dtype=torch.int64),
        of_mechanism=torch.zeros(0, dtype=torch.bool),
    )
    return replace(world.baseline, manifest=manifest, parts=(), weighing=weighing)
