"""Take a model apart, step by step, on inputs drawn from trusted data: resumable, and measured.

It is what all decompositions of weights have in common, whatever they learn in a step.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol, TypeVar, final, runtime_checkable

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from mad import tensors
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.components.dictionaries.plan import DictionaryFigures
from mad.errors import ConfigError
from mad.fit.checkpoint import Checkpoints, Unfinished, data_identity, version_identity
from mad.fit.reading import batches, row_digests, try_out
from mad.types import Dataset, Progress

STAGE: Final = "training decomposition"

READ: Final = 256
"""Inputs that are read, or run, at once."""

_MEASURED: Final = 1_024

Figures = TypeVar("Figures")
Told_co = TypeVar("Told_co", covariant=True)


def unwatched(_step: int, _figures: object) -> None:
    """Tell nobody of a step."""


@runtime_checkable
class Training(Protocol[Told_co]):
    """A decomposition in training; its state is all that a step changes."""

    @property
    def steps_done(self) -> int:
        """How many batches it has learnt from."""
        ...

    @property
    def state(self) -> Mapping[str, Tensor]:
        """What checkpoints keep."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        ...

    def step(self, batch: Shaped[Tensor, "batch ..."]) -> Told_co:
        """Learn from one batch, and say what was found."""
        ...


@final
@dataclass(frozen=True)
class Drawn:
    """Inputs of the fitting part, drawn at random; held in memory where they find room.

    ``seen`` has the digest of each of them.
    """

    name: str
    data: Dataset
    rows: Int64[Tensor, " fitting"]
    held: Shaped[Tensor, "fitting ..."] | None
    seen: Int64[Tensor, " fitting"]
    seed: int

    def draw(self, step: int, count: int) -> Shaped[Tensor, "batch ..."]:
        """Return the inputs of one step: the same ones in any run."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        drawn = torch.randint(len(self.rows), (count,), generator=generator)
        if self.held is not None:
            return self.held[drawn]
        some, places = drawn.unique(return_inverse=True)
        return self.data.take(self.rows[some])[self.name][places]

    def in_turn(
        self, rows: Int64[Tensor, " some"], stage: str, progress: Progress
    ) -> Iterator[Shaped[Tensor, "batch ..."]]:
        """Read some rows of the data, once each."""
        for _, inputs in batches(self.data, rows, READ, stage, progress):
            yield inputs[self.name]


def drawn(  # noqa: PLR0913  # what is read, and within what
    model: MonitoredModel,
    layers: Sequence[str],
    data: Dataset,
    *,
    rows: Int64[Tensor, " fitting"],
    seed: int,
    room_bytes: int,
    progress: Progress,
) -> Drawn:
    """Read all inputs once, for their digests, and keep them where there is room.

    Raises:
        ConfigError: the data have no such input, or the model fails on them.
    """
    (name,) = model.inputs
    first = try_out(model, layers, data)[name]
    finds_room = first.numel() * first.element_size() * len(rows) <= room_bytes
    digests, kept = [], []
    for _, inputs in batches(data, rows, READ, "reading trusted inputs", progress):
        digests.append(row_digests(inputs))
        if finds_room:
            kept.append(inputs[name])
    held = torch.cat(kept) if finds_room else None
    return Drawn(name, data, rows, held, torch.cat(digests), seed)


def check_inputs(model: MonitoredModel) -> None:
    """Refuse, with a ConfigError, a model of more than one input."""
    if len(model.inputs) != 1:
        raise ConfigError(
            f"the model takes {', '.join(model.inputs)}, and layers are taken apart on models of "
            "one input: give a factory whose module takes one"
        )


def run_steps(  # noqa: PLR0913  # what is trained, for how long, and who is told
    training: Training[Figures],
    inputs: Drawn,
    checkpoints: Checkpoints,
    *,
    steps: int,
    batch_size: int,
    progress: Progress,
    watch: Callable[[int, Figures], None],
    tell: Callable[[Figures], str],
) -> None:
    """Train for so many steps, or go on from a checkpoint to the same state.

    Raises:
        ConfigError: the training diverges, or a checkpoint cannot be written.
    """
    found = checkpoints.found(STAGE)
    note = found.note
    if found.rows:
        training.restore(dict(found.values["state"]))
        note = f"resuming at step {found.rows} of {steps}"
    progress(STAGE, done=training.steps_done, total=steps, note=note)
    while training.steps_done < steps:
        figures = training.step(inputs.draw(training.steps_done, batch_size))
        watch(training.steps_done, figures)
        checkpoints.offer_all(
            lambda: {STAGE: (training.steps_done, {"state": tuple(training.state.items())})}
        )
        progress(STAGE, done=training.steps_done, total=steps, note=tell(figures))


def kept_in(
    unfinished: Unfinished | None,
    model: MonitoredModel,
    data: Dataset,
    plan: Any,  # noqa: ANN401  # any dataclass
    rows: Int64[Tensor, " fitting"],
) -> Checkpoints:
    """Return the checkpoints of a training, bound to all that it depends on; None keeps none."""
    if unfinished is None:
        return Checkpoints(None, {})
    settings = json.dumps(asdict(plan), sort_keys=True)
    identity = {
        **version_identity(),
        "settings": hashlib.sha256(settings.encode()).hexdigest(),
        "model": model.fingerprint,
        "trusted data": data_identity(data),
        "split of the trusted data": tensors.digest({"rows": rows}),
    }
    return Checkpoints(unfinished, identity)


def measured(
    model: MonitoredModel,
    decomposition: Decomposition,
    data: Dataset,
    rows: Int64[Tensor, " fitting"],
) -> tuple[DictionaryFigures, ...]:
    """Measure each view on at most 1,024 inputs, evenly spaced."""
    few = evenly(rows, _MEASURED)
    parts = []
    for piece in few.split(READ):
        run = capture(model, decomposition.sites, data.take(piece))
        with torch.no_grad():
            parts.append(decomposition.activity(run.activations))
    found = []
    for view in decomposition.views:
        activation = torch.cat([part[view].activation for part in parts]).double()
        left = torch.cat([part[view].residual for part in parts]).double()
        active = torch.cat([part[view].components for part in parts])
        spread = (activation - activation.mean(dim=0)).square().sum().clamp_min(1e-300)
        away = (left - left.mean(dim=0)).square().sum()
        found.append(
            DictionaryFigures(
                view=view,
                unexplained_variance=float(away / spread),
                active_latents=len(active) / len(few),
                dead_share=1 - len(active.unique()) / parts[0][view].num_components,
            )
        )
    return tuple(found)


def evenly(rows: Int64[Tensor, " fitting"], most: int) -> Int64[Tensor, " few"]:
    """Return at most so many of the rows, evenly spaced."""
    return rows[torch.linspace(0, len(rows) - 1, most, dtype=torch.float64).long().unique()]
