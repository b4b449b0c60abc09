"""The fit flow, top to bottom: trusted data in, baseline out.

Trusted inputs are split once. The first part trains dictionaries and fits codes; the second says
how rare the bits of each part are; the third, the reference, is only ever scored. An input like the
trusted ones is then exchangeable with the reference, which is all that the false-alarm promise
needs.
"""

import platform
from datetime import datetime
from importlib.metadata import version

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.baseline.bundle import Baseline, InputSpec, Manifest
from mad.calibration.conformal import threshold
from mad.calibration.weighing import Weighing
from mad.capture.model import MonitoredModel
from mad.codes.accounting import joined
from mad.components.base import Decomposition
from mad.errors import ConfigError, InputError
from mad.fit.codes import fit_codes, gather
from mad.fit.plan import FitPlan, split
from mad.fit.reading import batches, row_digests, try_out
from mad.scoring import Scorer
from mad.types import MEASURES, Context, Dataset, Ledger, Progress, Weighed


def fit(
    model: MonitoredModel,
    decomposition: Decomposition,
    data: Dataset,
    plan: FitPlan,
    *,
    created: datetime,
    progress: Progress,
) -> Baseline:
    """Fit codes on one part of the trusted data, weigh them on another, calibrate on the last.

    A decomposition that was trained on inputs must have seen none of the reference; where it comes
    from disk, ``check_unseen`` comes first.
    The same data and plan give the same baseline. Memory does not grow with the data.

    Raises:
        ConfigError: too few trusted inputs, a model that fails on them, a site that cannot be
            read, or an activation that is not a finite number.
    """
    parts_of_data = split(len(data), plan)
    first = try_out(model, decomposition.sites, data)
    statistics = gather(
        model, decomposition, data, plan, rows=parts_of_data.fitting, progress=progress
    )
    parts = fit_codes(statistics, plan)
    scorer = Scorer(model, decomposition, parts, plan.context, plan.activity)

    def charged(rows: Int64[Tensor, " rows"], stage: str) -> tuple[Ledger, Context]:
        scored = [
            scorer.score(inputs)
            for _, inputs in batches(data, rows, plan.batch_size, stage, progress)
        ]
        context = torch.cat([one.observed.context for one in scored])
        return joined(one.ledger for one in scored), context

    weighing = Weighing.fit(charged(parts_of_data.weighing, "weighing parts")[0])
    ledger, contexts = charged(parts_of_data.reference, "calibrating")
    references = _references(weighing.weigh(ledger))
    reference = references[MEASURES.index(plan.alert_on)].sort().values
    manifest = Manifest(
        name=plan.name,
        version=0,
        created=created,
        model_name=model.name,
        model_fingerprint=model.fingerprint,
        decomposition_fingerprint=decomposition.fingerprint,
        sites=decomposition.sites,
        inputs=tuple(_spec(name, first[name]) for name in model.inputs),
        context=plan.context,
        activity=plan.activity,
        fit_inputs=len(parts_of_data.fitting),
        weighing_inputs=len(parts_of_data.weighing),
        reference_inputs=len(parts_of_data.reference),
        false_alarm_rate=plan.false_alarm_rate,
        alert_on=plan.alert_on,
        by_context=plan.by_context,
        median_bits=float(reference.median()),
        threshold_bits=threshold(reference, plan.false_alarm_rate),
        seed=plan.seed,
        library_versions={"python": platform.python_version(), "torch": version("torch")},
    )
    return Baseline(manifest, scorer.parts, weighing, references, contexts)


def check_unseen(data: Dataset, plan: FitPlan, seen: Int64[Tensor, " seen"]) -> None:
    """Refuse a reference that dictionaries were trained on, given digests of what they saw.

    An input that also stands in the fitting part may be in the data twice, as bits and tokens can
    be; it is no sign that the reference itself was seen.

    Raises:
        ConfigError: says how many inputs of the reference were seen.
    """
    parts = split(len(data), plan)
    reference = _digests(
        data, torch.cat([parts.weighing, parts.reference]).sort().values, plan.batch_size
    )
    is_seen = torch.isin(reference, seen)
    if is_seen.any():
        is_seen &= ~torch.isin(reference, _digests(data, parts.fitting, plan.batch_size))
    if leaked := int(is_seen.sum()):
        raise ConfigError(
            f"{leaked} of the {len(reference)} inputs held out to weigh and calibrate trained the "
            "dictionaries, so the false-alarm rate would not hold: delete the dictionaries to "
            "train them again, or go back to the data, seed and reference share of their training"
        )


def _digests(
    data: Dataset, rows: Int64[Tensor, " rows"], batch_size: int
) -> Int64[Tensor, " rows"]:
    return torch.cat([row_digests(data.take(chosen)) for chosen in rows.split(batch_size)])


def _references(weighed: Weighed) -> Float64[Tensor, "measure reference"]:
    """Return each measure of the reference; none may be infinite."""
    measures = torch.stack([getattr(weighed, measure) for measure in MEASURES])
    if broken := int((~measures.isfinite()).any(dim=0).sum()):
        raise ConfigError(
            f"{broken} of {measures.shape[1]} held-out trusted inputs give activations that are "
            "NaN or infinite; remove such inputs from the trusted data"
        )
    return measures


def _spec(name: str, batch: Tensor) -> InputSpec:
    if batch.ndim == 0:
        raise InputError(f"input {name!r} has no batch axis")
    return InputSpec(name, str(batch.dtype).removeprefix("torch."), tuple(batch.shape[1:]))
