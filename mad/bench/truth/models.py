"""Every kind of model whose mechanisms are known, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, final

from mad.bench.truth.base import Truth
from mad.bench.truth.features import resid_mlp_truth, tms_truth
from mad.bench.truth.gates import DENSE, SPARSE, Family
from mad.bench.truth.known import Known
from mad.bench.truth.modular import modular_truth
from mad.components.parameters.training.plan import LayerPlan, SpdPlan


@final
@dataclass(frozen=True)
class Kind:
    """How to make a model and its truth from a seed, and the ceiling where there is one.

    ``known`` gives a decomposition whose components are the mechanisms themselves. ``plan`` is what
    training has of its own, where something was published for such a model.
    """

    truth: Callable[[int], Truth]
    known: Callable[[int], Known] | None = None
    plan: Callable[[SpdPlan], SpdPlan] = lambda usual: usual


def _circuits(family: Family) -> Kind:
    return Kind(family.truth, lambda seed: Known.of_circuit(family.built(seed)))


def _tms_plan(usual: SpdPlan) -> SpdPlan:
    """Return the published setting of TMS 5-2: four pieces a feature, at 0.003 each."""
    layers = tuple(LayerPlan(one.name, 4 * one.width) for one in usual.layers)
    return replace(usual, layers=layers, importance_coefficient=3e-3, batch_size=1_024)


KINDS: Final[Mapping[str, Kind]] = {
    **{family.name: _circuits(family) for family in (DENSE, SPARSE)},
    "tms": Kind(lambda seed: tms_truth(seed=seed), plan=_tms_plan),
    "resid_mlp": Kind(lambda seed: resid_mlp_truth(seed=seed)),
    "modular": Kind(lambda seed: modular_truth(seed=seed)),
}
"""Law: the truth of a seed is named after its kind and the seed."""
