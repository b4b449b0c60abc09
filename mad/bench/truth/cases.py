"""From a truth and an anomaly to inputs: trusted ones, ordinary ones, matched ones, anomalies.

Trusted inputs never are what the anomaly is. Matched ones are ordinary too, but use as many
mechanisms at once as anomalies do, so that neither number nor strength gives an anomaly away.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from mad.bench.tasks import Task
from mad.bench.truth.base import Anomaly, AnomalyKind, Truth
from mad.errors import ConfigError
from mad.types import Inputs, batch_size

SAMPLED = 16_384
"""Inputs that rates are taken from when an anomaly is chosen."""

ENOUGH = 50.0
"""Trusted inputs that would show a pair, were its two independent, without which its absence says
nothing."""

_POOL = 4_096
_POOLS = 400


@final
@dataclass(frozen=True)
class Cases:
    """What one anomaly of one truth is measured on."""

    truth: Truth
    anomaly: Anomaly
    trusted: Inputs
    ordinary: Inputs
    matched: Inputs
    anomalous: Inputs

    @property
    def task(self) -> Task:
        """The same for ``mad bench``, where matched inputs stand as the benign shift."""
        return Task(
            name=f"{self.truth.name}, {self.anomaly.kind}",
            model=self.truth.model,
            sites=self.truth.sites,
            is_classifier=False,
            trusted=self.trusted,
            test_normal=self.ordinary,
            test_anomalous=self.anomalous,
            benign_shift=self.matched,
        )


def choose(truth: Truth, kind: AnomalyKind, *, trusted: int, seed: int) -> Anomaly:
    """Choose the first fair anomaly.

    Raises:
        ConfigError: the truth has no such anomaly.
    """
    found = next(fair(truth, kind, trusted=trusted, seed=seed), None)
    if found is None:
        raise ConfigError(
            f"{truth.name} has no {kind} to hold out that shows in nothing else: try another "
            "seed, or more trusted inputs"
        )
    return found


def fair(truth: Truth, kind: AnomalyKind, *, trusted: int, seed: int) -> Iterator[Anomaly]:
    """Draw anomalies that show in nothing but what their kind says, each once.

    Without it every other mechanism is on in at least 2 % of inputs, off in 2 % and active in 2 %,
    so that none of them is news. At least 1 % of all inputs are such anomalies. Of a pair, each is
    active without the other, and were they independent they would meet in at least 50 trusted
    inputs; no other pair is new, such as of one and of what makes the other. For another reason
    there are ordinary inputs with the same answers.
    """
    inputs = truth.draw(SAMPLED, torch.Generator().manual_seed(seed))
    is_on, is_active = truth.on(inputs), truth.active(inputs)
    candidates = list(_candidates(truth, kind))
    generator = torch.Generator().manual_seed(seed)
    for place in torch.randperm(len(candidates), generator=generator):
        anomaly = candidates[int(place)]
        if _is_fair(anomaly, is_on, is_active, trusted=trusted) and _has_like(
            truth, anomaly, inputs, anomaly.matches(is_on)
        ):
            yield anomaly


def draw_cases(truth: Truth, anomaly: Anomaly, *, trusted: int, tests: int, seed: int) -> Cases:
    """Draw every set of inputs, none of which knows of the others.

    Anomalies are active in what the anomaly uses. For each there is one matched input, with as many
    active mechanisms, with one of a pair's two, and for another reason with the same answer.

    Raises:
        ConfigError: inputs of some set are too rare to be found.
    """
    generator = torch.Generator().manual_seed(seed)

    def is_ordinary(is_on: Bool[Tensor, "n m"], _: Bool[Tensor, "n m"]) -> Bool[Tensor, " n"]:
        return ~anomaly.matches(is_on)

    def is_companion(is_on: Bool[Tensor, "n m"], active: Bool[Tensor, "n m"]) -> Tensor:
        return ~anomaly.matches(is_on) & anomaly.companions(active)

    def is_anomalous(is_on: Bool[Tensor, "n m"], active: Bool[Tensor, "n m"]) -> Tensor:
        return anomaly.matches(is_on) & active[:, list(anomaly.uses)].all(dim=1)

    known = _drawn(truth, is_ordinary, trusted, generator)
    ordinary = _drawn(truth, is_ordinary, tests, generator)
    anomalous = _drawn(truth, is_anomalous, 2 * tests, generator)
    companions = _drawn(truth, is_companion, 16 * tests, generator)
    odd, like = _matched(_keys(truth, anomaly, anomalous), _keys(truth, anomaly, companions))
    if len(odd) < tests // 2:
        raise ConfigError(
            f"only {len(odd)} of {2 * tests} anomalies of {truth.name} have ordinary inputs like "
            "them: try another seed"
        )
    return Cases(
        truth,
        anomaly,
        known,
        ordinary,
        matched=_rows(companions, like[:tests]),
        anomalous=_rows(anomalous, odd[:tests]),
    )


def _candidates(truth: Truth, kind: AnomalyKind) -> Iterator[Anomaly]:
    every = range(len(truth.mechanisms))
    match kind:
        case "mechanism":
            yield from map(Anomaly.novel, every)
        case "pair":
            yield from (Anomaly.pair(one, other) for one in every for other in range(one))
        case "reason":
            yield from (Anomaly.reason(*three) for three in truth.alternatives)


def _is_fair(
    anomaly: Anomaly,
    is_on: Bool[Tensor, "batch mechanism"],
    is_active: Bool[Tensor, "batch mechanism"],
    *,
    trusted: int,
) -> bool:
    is_odd = anomaly.matches(is_on)
    shows = is_odd & is_active[:, list(anomaly.uses)].all(dim=1)
    rates, active = (used[~is_odd].double().mean(dim=0) for used in (is_on, is_active))
    least = torch.stack([rates, 1 - rates, active]).amin(dim=0)
    if anomaly.kind != "pair":
        # Nothing is active that never matters: such are a new mechanism, and another reason.
        least[list({*anomaly.uses, *anomaly.culprits})] = 1.0
    if shows.double().mean() < 0.01 or least.min() < 0.02:  # noqa: PLR2004  # as promised
        return False
    if anomaly.kind != "pair":
        return True
    if _new_pairs(is_on, is_odd) != 1:
        return False
    used = is_active[~is_odd][:, list(anomaly.uses)].double().mean(dim=0)
    return float(used.prod()) * trusted >= ENOUGH


def _new_pairs(is_on: Bool[Tensor, "batch mechanism"], is_odd: Bool[Tensor, " batch"]) -> int:
    """Count pairs that are on together in 1 % of all inputs, and hardly ever in ordinary ones."""
    whole, known = is_on.double(), is_on[~is_odd].double()
    ever, usually = whole.T @ whole / len(whole), known.T @ known / len(known)
    return int(((ever >= 0.01) & (usually < 0.002)).triu(diagonal=1).sum())  # noqa: PLR2004


def _has_like(
    truth: Truth, anomaly: Anomaly, inputs: Inputs, is_odd: Bool[Tensor, " batch"]
) -> bool:
    """Whether most anomalies have an ordinary input each that is like them."""
    keys = _keys(truth, anomaly, inputs)
    odd, like = keys[is_odd], keys[~is_odd]
    return 2 * len(_matched(odd, like)[0]) >= len(odd)


def _drawn(
    truth: Truth,
    wanted: Callable[[Tensor, Tensor], Tensor],
    count: int,
    generator: torch.Generator,
) -> Inputs:
    found: list[Inputs] = []
    left = count
    for _ in range(_POOLS):
        pool = truth.draw(_POOL, generator)
        rows = wanted(truth.on(pool), truth.active(pool)).nonzero().squeeze(1)[:left]
        found.append(_rows(pool, rows))
        left -= len(rows)
        if not left:
            return {name: torch.cat([one[name] for one in found]) for name in found[0]}
    raise ConfigError(
        f"{count - left} of {count} inputs of one kind found among {_POOL * _POOLS} of {truth.name}"
    )


def _keys(truth: Truth, anomaly: Anomaly, inputs: Inputs) -> Int64[Tensor, "batch key"]:
    """Return what a matched input has in common with an anomaly."""
    count = truth.active(inputs).sum(dim=1, keepdim=True)
    if anomaly.kind != "reason":
        return count
    with torch.no_grad():
        answers = truth.model.module(*(inputs[name] for name in truth.model.inputs))
    return torch.cat([count, answers.round().long().reshape(batch_size(inputs), -1)], dim=1)


def _matched(
    odd: Int64[Tensor, "odd key"], like: Int64[Tensor, "like key"]
) -> tuple[Int64[Tensor, " pair"], Int64[Tensor, " pair"]]:
    """Pair rows with the same key, each row once at most, in the order of the first."""
    _, label = torch.cat([odd, like]).unique(dim=0, return_inverse=True)
    ours, theirs = label[: len(odd)], label[len(odd) :]
    free = {key: (theirs == key).nonzero().squeeze(1).tolist() for key in ours.unique().tolist()}
    pairs = [(row, free[key].pop()) for row, key in enumerate(ours.tolist()) if free[key]]
    both = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _rows(inputs: Inputs, rows: Int64[Tensor, " row"]) -> Inputs:
    return {name: tensor[rows] for name, tensor in inputs.items()}
