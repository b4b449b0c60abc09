"""The score flow, top to bottom: baseline and inputs in, outputs and verdicts out."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import torch
from jaxtyping import Shaped
from torch import Tensor

from mad.alerts.policy import is_alert
from mad.baseline.bundle import Baseline
from mad.capture.heights import COMMON
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.counterfactual import Counterfactual, counterfactuals
from mad.errors import BaselineError
from mad.judgement import Judgement, Rows
from mad.payloads import (
    ActivationBatch,
    CodeBatch,
    Shapes,
    check_activations,
    check_codes,
    check_finite,
    check_form,
    drawn,
    observed_activations,
    observed_codes,
)
from mad.scoring import Observed, Scorer
from mad.types import Explanation, Inputs, Ledger, Part, Verdict, Weighed

log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Monitor:
    """A monitored model beside the baseline that was fitted for it."""

    scorer: Scorer
    baseline: Baseline

    @staticmethod
    def bind(model: MonitoredModel, decomposition: Decomposition, baseline: Baseline) -> "Monitor":
        """Join a baseline to its model and decomposition.

        Raises:
            BaselineError: the baseline was fitted for another model or decomposition, or for the
                same model with its inputs named or ordered otherwise.
        """
        manifest = baseline.manifest
        _same("model", manifest.revision, manifest.model_fingerprint, model.fingerprint)
        _same(
            "decomposition",
            manifest.revision,
            manifest.decomposition_fingerprint,
            decomposition.fingerprint,
        )
        names = tuple(spec.name for spec in manifest.inputs)
        if names != model.inputs:
            raise BaselineError(
                f"baseline {manifest.revision} was fitted on inputs {list(names)}, and the model "
                f"is given {list(model.inputs)}: set model.inputs as they were, or fit again"
            )
        scorer = Scorer(model, decomposition, baseline.parts, manifest.context, manifest.activity)
        return Monitor(scorer, baseline)

    def steadied(self, *, most: int) -> "Monitor":
        """Return the same, judging up to ``most`` inputs at once with the same bits in any company.

        Runs the model at many heights of a batch, on inputs made up; it is then run only at those
        that agree. A model that takes no such inputs runs at any.
        """
        rows = drawn(self.baseline, max(most, COMMON))
        try:
            with torch.random.fork_rng(devices=[]):
                return replace(self, scorer=self.scorer.steadied(rows, most=most))
        except Exception:
            log.warning("made-up inputs do not tell which heights agree", exc_info=True)
            return self

    def alongside(self, others: Iterable["Monitor"]) -> "Monitor":
        """Return the same, at the heights of one of the others that runs the same model alike."""
        for other in others:
            if self.scorer.observes_as(other.scorer):
                heights = other.scorer.heights
                if heights == self.scorer.heights:
                    return self
                return replace(self, scorer=replace(self.scorer, heights=heights))
        return self

    @cached_property
    def shapes(self) -> Shapes:
        """What the model gives at the sites, found by running it on zeros."""
        return Shapes.of(self.scorer.model, self.scorer.decomposition.sites, self.baseline)

    def check(self, inputs: Mapping[str, Shaped[Tensor, "..."]]) -> None:
        """Refuse inputs that are not like the trusted ones in name, type or shape, or not finite.

        Raises:
            InputError: says what is wrong with which input, and what was expected.
        """
        self.check_form(inputs)
        check_finite(inputs)

    def check_form(self, inputs: Mapping[str, Shaped[Tensor, "..."]]) -> None:
        """Do the part of ``check`` that reads no number, which takes next to no time."""
        check_form(inputs, self.baseline)

    def check_numbers(self, inputs: Inputs) -> None:
        """Do the rest of ``check``, for inputs of the right form."""
        check_finite(inputs)

    def check_activations(self, batch: ActivationBatch) -> None:
        """Refuse activations that our own run of the model could not have given.

        Runs the model the first time, so that is for the thread that owns it. Raises InputError
        and BaselineError as ``payloads.check_activations``.
        """
        check_activations(batch, self.baseline, self.shapes)

    def check_codes(self, batch: CodeBatch) -> None:
        """Refuse active sets that the decomposition could not have given.

        Raises InputError and BaselineError as ``payloads.check_codes``.
        """
        check_codes(batch, self.baseline)

    def judge(
        self,
        inputs: Inputs,
        *,
        max_charges: int = 20,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Judgement:
        """Run the model once and judge each input; inputs were checked before."""
        observed = self.scorer.observe(inputs, clock=clock)
        return self.judge_observed(observed, max_charges=max_charges, clock=clock)

    def judge_observed(
        self,
        observed: Observed,
        *,
        max_charges: int = 20,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Judgement:
        """Judge what was observed already, by any scorer of the same decomposition and rules.

        So a second baseline can judge the same run of the model. With no charges, no input is
        explained.
        """
        start = clock()
        ledger = self.scorer.charge(observed)
        charged = clock()
        weighed = self.baseline.weighing.weigh(ledger)
        verdicts = self._verdicts(observed, ledger, weighed)
        judged = clock()
        alerting = [row for row, verdict in enumerate(verdicts) if verdict.is_alert]
        explained = alerting if max_charges else []
        explanations = self._explanations(observed, weighed, explained, max_charges)
        seconds = {
            **observed.stage_seconds,
            "codes": charged - start,
            "calibration": judged - charged,
            "explanations": clock() - judged,
        }
        sets = {view: (one.offsets, one.components) for view, one in observed.activity.items()}
        rows = (Rows(sets, 0, len(verdicts)),)
        return Judgement(observed.outputs, verdicts, explanations, seconds, rows)

    def judge_activations(
        self,
        batch: ActivationBatch,
        *,
        max_charges: int = 20,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Judgement:
        """Judge a run of the model elsewhere, as if it had been ours; it was checked before."""
        observed = observed_activations(batch, self.scorer, clock=clock)
        return self.judge_observed(observed, max_charges=max_charges, clock=clock)

    def judge_codes(
        self,
        batch: CodeBatch,
        *,
        max_charges: int = 20,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Judgement:
        """Judge active sets found elsewhere by the mechanism alone; they were checked before.

        What only activations tell is NaN: surprise, novelty and description. Charges and the rest
        of an explanation add up to the mechanism's parts.
        """
        observed = observed_codes(batch, self.baseline)
        judged = self._mechanism.judge_observed(observed, max_charges=max_charges, clock=clock)
        return replace(judged, verdicts=tuple(map(_of_mechanism_alone, judged.verdicts)))

    def explain(self, inputs: Inputs, *, max_charges: int) -> tuple[Verdict, Explanation]:
        """Judge one input and split its surprise over components; inputs were checked before."""
        return self.explain_observed(self.scorer.observe(inputs), max_charges=max_charges)

    def explain_observed(
        self, observed: Observed, *, max_charges: int
    ) -> tuple[Verdict, Explanation]:
        """Judge and explain one input that was observed already."""
        ledger = self.scorer.charge(observed)
        weighed = self.baseline.weighing.weigh(ledger)
        (verdict,) = self._verdicts(observed, ledger, weighed)
        return verdict, self._explanations(observed, weighed, [0], max_charges)[0]

    def counterfactuals(
        self, inputs: Inputs, explanation: Explanation
    ) -> tuple[Counterfactual, ...]:
        """Run the model on one input without what its explanation names, and compare answers."""
        return counterfactuals(self.scorer.model, self.scorer.decomposition, inputs, explanation)

    @cached_property
    def _mechanism(self) -> "Monitor":
        scorer = replace(self.scorer, parts=self.baseline.mechanism.parts)
        return Monitor(scorer, self.baseline.mechanism)

    def _explanations(
        self, observed: Observed, weighed: Weighed, rows: list[int], max_charges: int
    ) -> dict[int, Explanation]:
        explained = self.scorer.explain(
            observed,
            rows,
            rarity=weighed.rarity,
            leading=self.baseline.measured,
            max_charges=max_charges,
        )
        return dict(zip(rows, explained, strict=True))

    def _verdicts(
        self, observed: Observed, ledger: Ledger, weighed: Weighed
    ) -> tuple[Verdict, ...]:
        manifest = self.baseline.manifest
        p = self.baseline.p_values(weighed, observed.context).tolist()
        columns = zip(
            weighed.surprise.tolist(),
            weighed.mechanism.tolist(),
            weighed.novelty.tolist(),
            ledger.description.tolist(),
            p,
            [is_alert(one, false_alarm_rate=manifest.false_alarm_rate) for one in p],
            _parts(ledger, weighed),
            observed.context.tolist(),
            _active_components(observed),
            strict=True,
        )
        return tuple(Verdict(*column) for column in columns)


def _of_mechanism_alone(verdict: Verdict) -> Verdict:
    return replace(
        verdict, surprise_bits=math.nan, novelty_bits=math.nan, description_bits=math.nan
    )


def _parts(ledger: Ledger, weighed: Weighed) -> Iterator[tuple[Part, ...]]:
    sites, terms = zip(*ledger.keys, strict=True)
    inputs, width = ledger.bits.shape
    numbers = (one.flatten().tolist() for one in (ledger.bits, weighed.rarity))
    alone = [None if math.isnan(one) else one for one in ledger.marginal.flatten().tolist()]
    every = list(map(Part._make, zip(sites * inputs, terms * inputs, *numbers, alone, strict=True)))
    return (tuple(every[start : start + width]) for start in range(0, len(every), width))


def _active_components(observed: Observed) -> list[int]:
    first, *others = (one.offsets.numpy() for one in observed.activity.values())
    ends = sum(others, start=first)
    counts: list[int] = (ends[1:] - ends[:-1]).tolist()
    return counts


def _same(what: str, revision: str, wanted: str, found: str) -> None:
    if wanted != found:
        raise BaselineError(
            f"baseline {revision} was fitted on another {what} (fingerprint {wanted[:12]}, this "
            f"one is {found[:12]}): load the {what} it was fitted on, or fit again"
        )
