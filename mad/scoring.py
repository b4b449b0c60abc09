"""From input to bits: the one place where capture, components and codes meet."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from mad.capture.answer import labels, scores
from mad.capture.heights import ANY, Heights, agreeing, filled
from mad.capture.hooks import Outputs, capture
from mad.capture.model import MonitoredModel
from mad.codes.accounting import Books, CodedPart, explain
from mad.components.base import Decomposition
from mad.effects import by_effect, differentiated
from mad.types import Activity, Context, Explanation, Inputs, Ledger, Site, batch_size

log = logging.getLogger(__name__)

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

    def first(self, count: int) -> "Observed":
        """Return what the first inputs did, if outputs have a batch axis."""
        if count == len(self.context):
            return self
        return Observed(
            {name: output[:count] for name, output in self.outputs.items()},
            {view: one.first(count) for view, one in self.activity.items()},
            self.context[:count],
            self.stage_seconds,
        )


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
    heights: Heights = ANY

    def score(self, inputs: Inputs) -> Scored:
        """Run the model once and charge each input's activity."""
        seen = self.observe(inputs)
        return Scored(seen, self.charge(seen))

    def observe(
        self, inputs: Inputs, *, clock: Callable[[], float] = time.perf_counter
    ) -> Observed:
        """Run the model and say which components each input used.

        It runs at the scorer's heights, with copies of an input to fill the batch, unless an output
        is of the whole batch.
        """
        runs = tuple(self.heights.runs(batch_size(inputs)))
        if runs == ((0, runs[0][2], runs[0][2]),):
            return self._observe(inputs, clock)
        found = []
        for start, stop, height in runs:
            own = {name: tensor[start:stop] for name, tensor in inputs.items()}
            seen = self._observe(filled(own, height), clock)
            if not has_batch_axis(seen.outputs, batch=height):
                return self._observe(inputs, clock)
            found.append(seen.first(stop - start))
        return found[0] if len(found) == 1 else in_a_row(found)

    def _observe(self, inputs: Inputs, clock: Callable[[], float]) -> Observed:
        return observe(
            self.model,
            self.decomposition,
            inputs,
            rule=self.context,
            activity=self.activity,
            clock=clock,
        )

    def steadied(self, rows: Inputs, *, most: int) -> "Scorer":
        """Return the same, which runs the model only at heights at which inputs get the same bits.

        They are found by running the given inputs at heights up to ``most``; see ``heights``. Where
        an output is of the whole batch, or the model never repeats itself, any height will do.
        """

        def run(some: Inputs) -> list[bytes]:
            return _signatures(bare.observe(some), self.context)

        bare = replace(self, heights=ANY)
        few = bare.observe({name: tensor[:3] for name, tensor in rows.items()})
        if not has_batch_axis(few.outputs, batch=len(few.context)):
            return bare
        found = agreeing(run, rows, most=most)
        if found is None:
            log.warning("the model gives the same input something else each time")
            return bare
        log.info("heights of a batch that agree", extra={"heights": str(found), "most": most})
        return replace(self, heights=found)

    def observes_as(self, other: "Scorer") -> bool:
        """Whether both run the same model and see the same activity in what it does."""
        return (
            self.model is other.model
            and self.decomposition is other.decomposition
            and (self.context, self.activity) == (other.context, other.activity)
        )

    def charge(self, observed: Observed) -> Ledger:
        """Charge what this scorer, or another of the same decomposition and rules, observed."""
        return self._books.ledger(observed.activity, observed.context)

    @cached_property
    def _books(self) -> Books:
        return Books.of(self.parts)

    def explain(
        self,
        observed: Observed,
        rows: Sequence[int],
        *,
        rarity: Float64[Tensor, "batch part"],
        leading: Bool[Tensor, " part"],
        max_charges: int,
    ) -> Iterator[Explanation]:
        """Split the descriptions of some of the observed inputs over components.

        ``rarity`` says how rare the length of each part of each observed input is, in bits;
        what ``leading`` parts charge is told before all else.
        """
        for start in range(0, len(rows), EXPLAINED_TOGETHER):
            few = torch.tensor(rows[start : start + EXPLAINED_TOGETHER])
            yield from explain(
                self.parts,
                {site: activity.take(few) for site, activity in observed.activity.items()},
                observed.context[few],
                rarity=rarity[few],
                leading=leading,
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
        with torch.no_grad():
            found = decomposition.activity(run.activations)
    context = context_of(outputs, rule, batch=batch_size(inputs))
    seconds = {"forward": ran - start, "components": clock() - ran}
    return Observed(outputs, found, context, seconds)


def in_a_row(parts: Sequence[Observed]) -> Observed:
    """Return several runs of the same model, with outputs that have a batch axis, as one."""
    first = parts[0]
    return Observed(
        {name: torch.cat([part.outputs[name] for part in parts]) for name in first.outputs},
        {view: Activity.joined([part.activity[view] for part in parts]) for view in first.activity},
        torch.cat([part.context for part in parts]),
        {stage: sum(part.stage_seconds[stage] for part in parts) for stage in first.stage_seconds},
    )


def has_batch_axis(outputs: Outputs, *, batch: int) -> bool:
    """Whether each output has something for every input of the batch."""
    return all(output.shape[:1] == (batch,) for output in outputs.values())


def context_of(outputs: Outputs, rule: ContextRule, *, batch: int) -> Context:
    """Return each input's context; -1 for all of them when there is none.

    The predicted label is the largest of the first output's last axis at its last position, or the
    sign of a single number. An output of complex numbers, or of none, predicts nothing.
    """
    predicted = None if rule == "none" else scores(outputs, batch=batch)
    return torch.full((batch,), -1) if predicted is None else labels(predicted) % MAX_CONTEXTS


def _signatures(observed: Observed, rule: ContextRule) -> list[bytes]:
    """Digest all that bits are made of, input by input, with what a context is predicted from."""
    count = len(observed.context)
    predicted = None if rule == "none" else scores(observed.outputs, batch=count)
    rows = [hashlib.blake2b(digest_size=16) for _ in range(count)]
    tables = [] if predicted is None else [predicted]
    for activity in observed.activity.values():
        tables += [activity.residual, activity.activation]
        cuts = activity.offsets.tolist()
        for row, start, stop in zip(rows, cuts, cuts[1:], strict=False):
            row.update(activity.components[start:stop].numpy().tobytes())
            row.update(activity.magnitudes[start:stop].numpy().tobytes())
    for table in tables:
        numbers = table.reshape(count, -1).contiguous().view(torch.uint8).numpy()
        for row, own in zip(rows, numbers, strict=True):
            row.update(own.tobytes())
    return [row.digest() for row in rows]
