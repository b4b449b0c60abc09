"""The fit flow, top to bottom: trusted data in, baseline out.

Trusted inputs are split once. The first part trains dictionaries and fits codes; the second says
how rare the bits of each part are; the third, the reference, is only ever scored. An input like the
trusted ones is then exchangeable with the reference, which is all that the false-alarm promise
needs.
"""

import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.baseline.bundle import NO_ROWS, Baseline, InputSpec, Manifest, TrustedRows
from mad.calibration.conformal import threshold
from mad.calibration.weighing import Weighing
from mad.capture.model import MonitoredModel
from mad.codes.accounting import CodedPart, joined
from mad.codes.neighbours import NeighbourCode
from mad.components.base import Decomposition
from mad.components.parameters.masked import pieces_of
from mad.errors import ConfigError, InputError
from mad.fit.checkpoint import Checkpoints, Unfinished, identity
from mad.fit.codes import fit_codes, gather
from mad.fit.plan import FitPlan, split
from mad.fit.reading import Reader, row_digests, try_out
from mad.scoring import Scorer
from mad.tensors import digest
from mad.types import MEASURES, Context, Dataset, Ledger, Progress

NOTHING: Final = torch.zeros(0, dtype=torch.int64)


def fit(  # noqa: PLR0913  # what is fitted, on what, how, and how it is watched
    model: MonitoredModel,
    decomposition: Decomposition,
    data: Dataset,
    plan: FitPlan,
    *,
    created: datetime,
    progress: Progress,
    unfinished: Unfinished | None = None,
    set_aside: Int64[Tensor, " aside"] = NOTHING,
) -> Baseline:
    """Fit codes on one part of the trusted data, weigh them on another, calibrate on the last.

    A decomposition that was trained on inputs must have seen none of the reference; where it comes
    from disk, ``check_unseen`` comes first.
    The same data and plan give the same baseline, also where ``unfinished`` has checkpoints of a
    fit that was killed, with which this one goes on; None keeps none. Whoever has stored the
    baseline removes them. Memory grows with the data by some twenty bytes an input, and no more.

    Rows ``set_aside`` fit and weigh nothing, but those in the reference stay there, with the rank
    they have: a reference without its most surprising inputs would make every p-value too small,
    by as much as their share.

    Raises:
        ConfigError: too few trusted inputs, a model that fails on them, a site that cannot be
            read, or an activation that is not a finite number.
    """
    parts_of_data = split(len(data), plan).without(set_aside)
    first = try_out(model, decomposition.sites, data)
    whole = {}
    if unfinished is not None:
        whole = identity(model, decomposition, data, plan)
        whole["inputs set aside"] = digest({"rows": set_aside})
    reader = Reader(data, plan.batch_size, progress, Checkpoints(unfinished, whole))
    statistics = gather(model, decomposition, reader, plan, rows=parts_of_data.fitting)
    pieces = pieces_of(decomposition)
    parts = fit_codes(statistics, plan, together=() if pieces is None else tuple(pieces.views))
    scorer = Scorer(model, decomposition, parts, plan.context, plan.activity)
    weighing = _weighing(scorer, reader, parts_of_data.weighing)
    references, contexts = _references(scorer, weighing, reader, parts_of_data.reference)
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
    trusted = _named(scorer.parts, data, plan.batch_size)
    return Baseline(manifest, scorer.parts, weighing, references, contexts, trusted)


def _named(parts: Sequence[CodedPart], data: Dataset, batch_size: int) -> TrustedRows:
    """Return the rows that explanations can name, with digests of what stands there."""
    named = [part.memory.rows for part in parts if part.memory is not None]
    named += [part.code.rows for part in parts if isinstance(part.code, NeighbourCode)]
    if not named:
        return NO_ROWS
    rows = torch.cat(named).unique()
    return TrustedRows(rows, _digests(data, rows, batch_size))


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


def _weighing(scorer: Scorer, reader: Reader, rows: Int64[Tensor, " weighing"]) -> Weighing:
    """Charge the rows held out for it, and count how rare each length is."""
    found: dict[str, tuple[Ledger, ...]] = {}
    for _, inputs in reader.batches("weighing parts", rows, found):
        found["ledgers"] = (*found.get("ledgers", ()), scorer.score(inputs).ledger)
    ledger = joined(found["ledgers"])
    _check_finite(ledger.bits)
    return Weighing.fit(ledger)


def _references(
    scorer: Scorer, weighing: Weighing, reader: Reader, rows: Int64[Tensor, " reference"]
) -> tuple[Float64[Tensor, "measure reference"], Context]:
    """Return each measure of the reference, none of which may be infinite, and its contexts."""
    measures = torch.zeros(len(MEASURES), len(rows), dtype=torch.float64)
    found = {"measures": measures, "contexts": torch.zeros(len(rows), dtype=torch.int64)}
    for chosen, inputs in reader.batches("calibrating", rows, found):
        scored = scorer.score(inputs)
        weighed = weighing.weigh(scored.ledger)
        place = torch.searchsorted(rows, chosen)
        found["measures"][:, place] = torch.stack([getattr(weighed, name) for name in MEASURES])
        found["contexts"][place] = scored.observed.context
    _check_finite(found["measures"].T)
    return found["measures"], found["contexts"]


def _check_finite(bits: Float64[Tensor, "batch _"]) -> None:
    if broken := int((~bits.isfinite()).any(dim=1).sum()):
        raise ConfigError(
            f"{broken} of {len(bits)} held-out trusted inputs give activations that are "
            "NaN or infinite; remove such inputs from the trusted data"
        )


def _spec(name: str, batch: Tensor) -> InputSpec:
    if batch.ndim == 0:
        raise InputError(f"input {name!r} has no batch axis")
    return InputSpec(name, str(batch.dtype).removeprefix("torch."), tuple(batch.shape[1:]))
