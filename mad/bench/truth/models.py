"""Every kind of model whose mechanisms are known, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, final

from mad.bench.truth.base import Truth
from mad.bench.truth.features import resid_mlp_truth, tms_truth
from mad.bench.truth.gates import DENSE, SPARSE, Family
from mad.bench.truth.known import Known
from mad.bench.truth.modular import modular_truth


@final
@dataclass(frozen=True)
class Kind:
    """How to make a model and its truth from a seed, and the ceiling where there is one.

    ``known`` gives a decomposition whose components are the mechanisms themselves.
    """

    truth: Callable[[int], Truth]
    known: Callable[[int], Known] | None


def _circuits(family: Family) -> Kind:
    return Kind(family.truth, lambda seed: Known.of_circuit(family.built(seed)))


KINDS: Final[Mapping[str, Kind]] = {
    **{family.name: _circuits(family) for family in (DENSE, SPARSE)},
    "tms": Kind(lambda seed: tms_truth(seed=seed), None),
    "resid_mlp": Kind(lambda seed: resid_mlp_truth(seed=seed), None),
    "modular": Kind(lambda seed: modular_truth(seed=seed), None),
}
"""Law: the truth of a seed is named after its kind and the seed."""
