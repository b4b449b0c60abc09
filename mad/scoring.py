"""From input to bits: the one place where capture, components and codes meet."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Float64
from torch import Tensor

from mad.capture.answer import labels, scores
from mad.capture.hooks import Outputs, capture
from mad.capture.model import MonitoredModel
from mad.codes.accounting import CodedPart, explain, ledger
from mad.components.base import Decomposition
from mad.effects import by_effect, differentiated
from mad.types import Activity, Context, Explanation, Inputs, Ledger, Site, batch_size

ContextRule: TypeAlias = Literal["predicted", "none"]
"""What codes are conditioned on: the label the model itself predicts, or nothing."""

ActivityRule: TypeAlias = Literal["magnitude", "effect"]
"""What makes a component active: its own strength, or what the model's answer owes to it."""

MAX_BY_EFFECT = 16
"""Components of one site that are active by effect, at most."""

MAX_CONTEXTS = 256
"""Labels beyond these share contexts with smaller ones, so that tables stay bounded."""


EXPLAINED_TOGETHER = 8
"""Inputs explained at once: faster than one by one, and a dense table of more would be large."""


@final
@dataclass(frozen=True)
class Observed:
    """One run of the model, seen as activity; ``stage_seconds`` says where the time went."""

    outputs: Outputs
    activity: Mapping[Site, Activity]
    context: Context
    stage_seconds: Mapping[str, float]


@final
@dataclass(frozen=True)
class Scored:
    """What an input's activity costs, and what was observed on the way."""

    observed: Observed
    ledger: Ledger


@final
@dataclass(frozen=True)
class Scorer:
    """A monitored model, its decomposition, and codes for its activity."""

    model: MonitoredModel
    decomposition: Decomposition
    parts: tuple[CodedPart, ...]
    context: ContextRule
    activity: ActivityRule = "magnitude"

    def score(self, inputs: Inputs) -> Scored:
        """Run the model once and charge each input's activity."""
        seen = self.observe(inputs)
        return Scored(seen, self.charge(seen))

    def observe(
        self, inputs: Inputs, *, clock: Callable[[], float] = time.perf_counter
    ) -> Observed:
        """Run the model once and say which components each input used."""
        return observe(
            self.model,
            self.decomposition,
            inputs,
            rule=self.context,
            activity=self.activity,
            clock=clock,
        )

    def charge(self, observed: Observed) -> Ledger:
        """Charge what this scorer, or another of the same decomposition and rules, observed."""
        return ledger(self.parts, observed.activity, observed.context)

    def explain(
        self,
        observed: Observed,
        rows: Sequence[int],
        *,
        rarity: Float64[Tensor, "batch part"],
        max_charges: int,
    ) -> Iterator[Explanation]:
        """Split the descriptions of some of the observed inputs over components.

        ``rarity`` says how rare the length of each part of each observed input is, in bits.
        """
        for start in range(0, len(rows), EXPLAINED_TOGETHER):
            few = torch.tensor(rows[start : start + EXPLAINED_TOGETHER])
            yield from explain(
                self.parts,
                {site: activity.take(few) for site, activity in observed.activity.items()},
                observed.context[few],
                rarity=rarity[few],
                max_charges=max_charges,
            )


def observe(
    model: MonitoredModel,
    decomposition: Decomposition,
    inputs: Inputs,
    *,
    rule: ContextRule,
    activity: ActivityRule = "magnitude",
    clock: Callable[[], float] = time.perf_counter,
) -> Observed:
    """Run the model once and say which components each input used.

    By effect the model also runs backward once; ConfigError if it cannot.
    """
    start = clock()
    if activity == "effect":
        slopes = differentiated(model, decomposition, inputs)
        outputs, ran = slopes.outputs, clock()
        found = by_effect(decomposition, slopes, keep=MAX_BY_EFFECT)
    else:
        run = capture(model, decomposition.sites, inputs)
        outputs, ran = run.outputs, clock()
        found = decomposition.activity(run.activations)
    context = context_of(outputs, rule, batch=batch_size(inputs))
    seconds = {"forward": ran - start, "components": clock() - ran}
    return Observed(outputs, found, context, seconds)


def context_of(outputs: Outputs, rule: ContextRule, *, batch: int) -> Context:
    """Return each input's context; -1 for all of them when there is none.

    The predicted label is the largest of the first output's last axis at its last position, or the
    sign of a single number. An output of complex numbers, or of none, predicts nothing.
    """
    predicted = None if rule == "none" else scores(outputs, batch=batch)
    return torch.full((batch,), -1) if predicted is None else labels(predicted) % MAX_CONTEXTS
