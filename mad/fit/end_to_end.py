"""Train a dictionary by what the model answers with the reconstruction in the activation's place.

A model, a look and trusted inputs in, a dictionary out: Braun et al. 2024, "Identifying
functionally important features with end-to-end sparse dictionary learning". Directions that the
answer does not depend on cost a local training latents, however little they matter; here they are
free to be missed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from mad.capture.answer import scores
from mad.capture.edit import Edit
from mad.capture.hooks import Outputs, Run, capture
from mad.capture.model import MonitoredModel
from mad.capture.splice import spliced
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.train import CALIBRATED
from mad.components.dictionaries.training import StepFigures, Training
from mad.components.pooling import pool, unpool
from mad.errors import ConfigError
from mad.fit.reading import batches, try_out
from mad.types import Activations, Dataset, Inputs, Progress, Site, batch_size

Answer: TypeAlias = Literal["labels", "numbers"]
"""How answers are compared: by the divergence of the labels' chances, or by squared error."""

_CAPTURED = 256
_LEAST_LOG = -1e4
"""The logarithm of a chance of zero, as a model gives labels that it rules out."""

_TINY = torch.finfo(torch.float32).tiny


@final
@dataclass(frozen=True, kw_only=True)
class EndToEndPlan:
    """How to train one dictionary end to end.

    The loss is the share of the answer that is lost, where 1 is what is lost when the mean of
    trusted activations stands in; ``local_weight`` times the share of the activation's own squares
    that is missed; ``downstream_weight`` times the mean share missed at later sites, with the
    reconstruction spliced in; and what the kind asks for besides. For the first ``local_share`` of
    the steps the dictionary is trained on the activation alone, as a start.
    """

    dictionary: DictionaryPlan
    answer: Answer = "labels"
    local_weight: float = 0.0
    downstream: tuple[Site, ...] = ()
    downstream_weight: float = 1.0
    local_share: float = 0.0


@final
@dataclass(frozen=True)
class EndToEndFigures:
    """What one step found: of the activation, and the shares lost of the answer and downstream."""

    local: StepFigures
    answer: float
    downstream: float


@final
@dataclass(frozen=True)
class EndToEnd:
    """A training of any kind beside the model that it is trained through.

    ``unit`` is what an answer loses when the mean of trusted activations stands in.
    """

    model: MonitoredModel
    training: Training
    plan: EndToEndPlan
    unit: float

    @staticmethod
    def begin(
        model: MonitoredModel, training: Training, plan: EndToEndPlan, inputs: Inputs
    ) -> "EndToEnd":
        """Measure, on some inputs, how much the answer depends on what is to be explained.

        Raises:
            ConfigError: it does not, or the model gives no such answer.
        """
        look = training.look
        run = capture(model, look.sites, inputs)
        centre = training.target.centre.expand(batch_size(inputs), -1)
        edits = _edits(look, run.activations, centre, training.widths)
        with torch.no_grad():
            without = spliced(model, edits, inputs).outputs
            unit = float(_lost(run.outputs, without, plan.answer, batch=batch_size(inputs)))
        if not unit > 0:
            raise ConfigError(
                f"the model's answer does not change when {', '.join(map(repr, look.writes))} is "
                "held at its mean, so nothing can be learned from it; name a site that the answer "
                'depends on, or train with objective = "reconstruction"'
            )
        return EndToEnd(model, training, plan, unit)

    def step(self, inputs: Inputs) -> EndToEndFigures:
        """Learn from one batch of inputs."""
        training, plan = self.training, self.plan
        look, batch = training.look, batch_size(inputs)
        run = capture(self.model, (*look.sites, *plan.downstream), inputs)
        attempt = training.attempt(look.examples(run.activations))
        if training.steps_done < plan.local_share * training.plan.steps:
            nothing = float("nan")
            return EndToEndFigures(training.learn(attempt, attempt.missed), nothing, nothing)
        explained = training.target.restored(attempt.explained)
        edits = _edits(look, run.activations, explained, training.widths)
        seen = spliced(self.model, edits, inputs, sites=plan.downstream)
        answer = _lost(run.outputs, seen.outputs, plan.answer, batch=batch) / self.unit
        later = _missed_downstream(run, seen.activations)
        loss = answer + plan.local_weight * attempt.missed + plan.downstream_weight * later
        local = training.learn(attempt, loss)
        return EndToEndFigures(local, float(answer.detach()), float(later.detach()))


def train_end_to_end(
    model: MonitoredModel,
    look: Look,
    data: Dataset,
    plan: EndToEndPlan,
    *,
    rows: Int64[Tensor, " fitting"],
    progress: Progress,
) -> Dictionary:
    """Train one dictionary on some rows of trusted data, running the model twice a step.

    The same plan and rows give the same dictionary. Law: the model stays as it was.

    Raises:
        ConfigError: the model fails on the data, a site cannot be read or teaches nothing, or the
            answer does not depend on it.
    """
    wanted = plan.dictionary
    _check(look, plan)
    try_out(model, (*look.sites, *plan.downstream), data)
    generator = torch.Generator().manual_seed(wanted.seed)
    few = rows[torch.randperm(len(rows), generator=generator)[:CALIBRATED]].sort().values
    sample, widths = _sample(model, look, data, few, progress)
    training = Training.begin(look, sample, wanted, widths=widths)
    engine = EndToEnd.begin(model, training, plan, data.take(few[:_CAPTURED]))
    for step in range(1, wanted.steps + 1):
        drawn = torch.randperm(len(rows), generator=generator)[: wanted.batch_size]
        found = engine.step(data.take(rows[drawn].sort().values))
        note = f"answer lost {found.answer:.3f}, variance {found.local.unexplained:.3f}"
        progress(f"training {look.view} end to end", done=step, total=wanted.steps, note=note)
    return training.finish(sample)


def _check(look: Look, plan: EndToEndPlan) -> None:
    if both := set(look.writes) & set(plan.downstream):
        raise ConfigError(
            f"site {min(both)!r} is explained itself, so it cannot be downstream; name later sites"
        )


def _sample(
    model: MonitoredModel,
    look: Look,
    data: Dataset,
    rows: Int64[Tensor, " few"],
    progress: Progress,
) -> tuple[Examples, tuple[int, ...]]:
    """Return examples of some rows, and the coordinates of each site explained."""
    parts = []
    widths: tuple[int, ...] = ()
    for _, inputs in batches(data, rows, _CAPTURED, "capturing activations", progress):
        activations = capture(model, look.sites, inputs).activations
        widths = look.widths(activations)
        parts.append(look.examples(activations))
    source = torch.cat([part.source for part in parts])
    own = source if look.is_own else torch.cat([part.target for part in parts])
    return Examples(source, own), widths


def _edits(
    look: Look,
    activations: Activations,
    explained: Float[Tensor, "batch target"],
    widths: tuple[int, ...],
) -> Mapping[Site, Edit]:
    """Put the reconstruction into the place of each site's pooled vector."""

    def edit_to(wanted: Float[Tensor, "batch coordinate"]) -> Edit:
        def edit(activation: Tensor) -> Tensor:
            change = wanted - pool(activation, look.pooling).float()
            return activation + unpool(change.to(activation.dtype), activation, look.pooling)

        return edit

    parts = explained.split(widths, dim=1)
    assert set(look.writes) <= set(activations)
    return {site: edit_to(part) for site, part in zip(look.writes, parts, strict=True)}


def _lost(before: Outputs, after: Outputs, answer: Answer, *, batch: int) -> Float[Tensor, ""]:
    """Return how far answers are from what they were, per input, with gradients."""
    first, second = scores(before, batch=batch), scores(after, batch=batch)
    if first is None or second is None:
        raise ConfigError(
            "the model's first output is no row of numbers an input, so a dictionary cannot be "
            "trained by it; give a model that returns scores, or train with "
            'objective = "reconstruction"'
        )
    match answer:
        case "labels":
            kept, found = _chances(first), _chances(second)
            return functional.kl_div(found, kept, reduction="batchmean", log_target=True)
        case "numbers":
            return (second.float() - first.float()).square().sum(dim=1).mean()


def _chances(of: Float[Tensor, "batch label"]) -> Float[Tensor, "batch several"]:
    """Return the logarithms of the labels' chances; a single score is of label 1 against 0."""
    wide = functional.pad(of, (1, 0)) if of.shape[1] == 1 else of
    return wide.float().log_softmax(dim=1).clamp_min(_LEAST_LOG)


def _missed_downstream(run: Run, after: Activations) -> Float[Tensor, ""]:
    """Return the mean share of variance that later sites miss; zero where none are asked for."""
    shares = []
    for site, activation in after.items():
        wanted = run.activations[site].float()
        away = (wanted - wanted.mean(dim=0)).square().sum()
        # Of a site that is the same for every input nothing can be missed.
        shares.append((activation.float() - wanted).square().sum() / away.clamp_min(_TINY))
    return torch.stack(shares).mean() if shares else torch.zeros(())
