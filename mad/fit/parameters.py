"""Train a parameter decomposition on the fitting part of trusted data, resumably."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias, final

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from mad import tensors
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.plan import DictionaryFigures
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.layers import matrix_layer, matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.matrices import Matrices
from mad.components.parameters.training.plan import SpdPlan
from mad.components.parameters.training.training import SpdFigures, SpdTraining
from mad.components.parameters.training.unused import with_unused
from mad.errors import ConfigError
from mad.fit.checkpoint import Checkpoints, Unfinished, data_identity, version_identity
from mad.fit.reading import batches, row_digests, try_out
from mad.types import Dataset, Progress

STAGE: Final = "training decomposition"

FAITHFUL: Final = 0.01
"""Share of a matrix's squares that subcomponents may miss, as the best of their number would."""

_READ: Final = 256
_MEASURED: Final = 1_024

SpdWatch: TypeAlias = Callable[[int, SpdFigures], None]
"""Told of each step: its number from 1, and its figures."""


def unwatched(_step: int, _figures: SpdFigures) -> None:
    """Tell nobody of a step."""


@final
@dataclass(frozen=True)
class TrainedParameters:
    """A decomposition, how good it is at each layer, and digests of the inputs it has seen."""

    decomposition: ParameterDecomposition
    figures: tuple[DictionaryFigures, ...]
    seen: Int64[Tensor, " seen"]


@final
@dataclass(frozen=True)
class _Batches:
    """Inputs of the fitting part, drawn at random; held in memory where they find room."""

    name: str
    data: Dataset
    rows: Int64[Tensor, " fitting"]
    held: Shaped[Tensor, "fitting ..."] | None
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
        self, rows: Int64[Tensor, " some"], progress: Progress
    ) -> Iterator[Shaped[Tensor, "batch ..."]]:
        """Read some rows, once each."""
        for _, inputs in batches(self.data, rows, _READ, "finding what is never used", progress):
            yield inputs[self.name]


def train_parameters(  # noqa: PLR0913  # what is read, how it is trained and read out, who watches
    model: MonitoredModel,
    read_out: Callable[[Sequence[Subcomponents]], ParameterDecomposition],
    data: Dataset,
    plan: SpdPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
    room_bytes: int,
    unfinished: Unfinished | None = None,
    watch: SpdWatch = unwatched,
) -> TrainedParameters:
    """Take the layers of a plan apart, on inputs of some rows, with what none of them has used.

    The same plan and rows give the same decomposition, also where ``unfinished`` has a checkpoint
    of a training that was killed, with which this one goes on; None keeps none. Whoever has stored
    the decomposition removes it. ``read_out`` says how finished pieces are read out.

    Raises:
        ConfigError: as ``check_plan``, the model fails on the data, or the training diverges.
    """
    check_plan(model, plan)
    drawn, seen = _batches(model, data, plan, rows, room_bytes, progress)
    checkpoints = Checkpoints(
        unfinished, {} if unfinished is None else _identity(model, data, plan, rows)
    )
    training = SpdTraining.begin(model.module, plan, drawn.draw(0, plan.batch_size))
    found = checkpoints.found(STAGE)
    note = found.note
    if found.rows:
        training.restore(dict(found.values["state"]))
        note = f"resuming at step {found.rows} of {plan.steps}"
    progress(STAGE, done=training.steps_done, total=plan.steps, note=note)
    while training.steps_done < plan.steps:
        figures = training.step(drawn.draw(training.steps_done, plan.batch_size))
        watch(training.steps_done, figures)
        _keep(checkpoints, training)
        progress(STAGE, done=training.steps_done, total=plan.steps, note=_told(figures))
    parts = with_unused(
        training.passes,
        training.finish(),
        training.matrices.matrix,
        early=drawn.in_turn(rows[::2].contiguous(), progress),
        late=drawn.in_turn(rows[1::2].contiguous(), progress),
    )
    decomposition = read_out(parts)
    return TrainedParameters(decomposition, _measured(model, decomposition, data, rows), seen)


def check_plan(model: MonitoredModel, plan: SpdPlan) -> None:
    """Refuse, before any training, what cannot be trained.

    Raises:
        ConfigError: the plan does not fit the model, which has other layers, ties or more than one
            input; or even the best rank-one pieces of a layer's number, those of its singular
            values, would miss more than ``FAITHFUL`` of its squares.
    """
    if len(model.inputs) != 1:
        raise ConfigError(
            f"the model takes {', '.join(model.inputs)}, and layers are taken apart on models of "
            "one input: give a factory whose module takes one"
        )
    Matrices.of(model.module, plan)
    for layer in plan.layers:
        matrix = matrix_of(model.module, matrix_layer(model.module, layer.name))
        squares = torch.linalg.svdvals(matrix.double()).square()
        left = 1 - squares.cumsum(dim=0) / squares.sum().clamp_min(1e-300)
        needed = int((left > FAITHFUL).sum()) + 1
        if layer.width < needed:
            raise ConfigError(
                f"{layer.width} subcomponents of layer {layer.name!r} miss at least "
                f"{float(left[layer.width - 1]):.0%} of its matrix, whatever they are: set "
                f"decomposition.parameters.components to {needed} or more there"
            )


def _batches(  # what is read, and within what
    model: MonitoredModel,
    data: Dataset,
    plan: SpdPlan,
    rows: Int64[Tensor, " fitting"],
    room_bytes: int,
    progress: Progress,
) -> tuple[_Batches, Int64[Tensor, " fitting"]]:
    """Read all inputs once, for their digests, and keep them where there is room."""
    (name,) = model.inputs
    first = try_out(model, [layer.name for layer in plan.layers], data)[name]
    finds_room = first.numel() * first.element_size() * len(rows) <= room_bytes
    digests, kept = [], []
    for _, inputs in batches(data, rows, _READ, "reading trusted inputs", progress):
        digests.append(row_digests(inputs))
        if finds_room:
            kept.append(inputs[name])
    held = torch.cat(kept) if finds_room else None
    return _Batches(name, data, rows, held, plan.seed), torch.cat(digests)


def _keep(checkpoints: Checkpoints, training: SpdTraining) -> None:
    checkpoints.offer_all(
        lambda: {STAGE: (training.steps_done, {"state": tuple(training.state.items())})}
    )


def _told(figures: SpdFigures) -> str:
    return f"loss {figures.loss:.3g}, {figures.active:.1f} active"


def _measured(
    model: MonitoredModel,
    decomposition: ParameterDecomposition,
    data: Dataset,
    rows: Int64[Tensor, " fitting"],
) -> tuple[DictionaryFigures, ...]:
    """Measure each layer on at most 1,024 inputs, evenly spaced."""
    few = rows[torch.linspace(0, len(rows) - 1, _MEASURED, dtype=torch.float64).long().unique()]
    parts = []
    for piece in few.split(_READ):
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


def _identity(
    model: MonitoredModel, data: Dataset, plan: SpdPlan, rows: Int64[Tensor, " fitting"]
) -> dict[str, str]:
    """Name everything a training depends on, by the word for it in messages."""
    settings = json.dumps(asdict(plan), sort_keys=True)
    return {
        **version_identity(),
        "settings": hashlib.sha256(settings.encode()).hexdigest(),
        "model": model.fingerprint,
        "trusted data": data_identity(data),
        "split of the trusted data": tensors.digest({"rows": rows}),
    }
