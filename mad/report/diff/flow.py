"""Two baselines, or two models, held against each other on the same trusted inputs."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from jaxtyping import Int64
from torch import Tensor

from mad.baseline.bundle import Baseline
from mad.codes.accounting import joined
from mad.codes.magnitudes import MagnitudeMoments
from mad.components.base import Decomposition
from mad.errors import ConfigError
from mad.report.diff.usage import Moves, Usage, moves
from mad.report.diff.weights import Expressed
from mad.scoring import Observed, Scorer
from mad.types import Dataset, Inputs, Ledger, Progress, Site, Term, View

Compared: TypeAlias = Literal["baselines", "models"]
"""Whether the codes differ, or what they are of."""

_BATCH = 256


@final
@dataclass(frozen=True)
class Length:
    """The mean bits of one term at one site, on either side; NaN where a side has it not.

    ``error`` is the standard error of the difference.
    """

    site: Site
    term: Term
    first: float
    second: float
    error: float

    @property
    def more(self) -> float:
        """What the second side costs more."""
        return self.second - self.first


@final
@dataclass(frozen=True)
class Viewed:
    """How the components of one view are used on either side."""

    view: View
    first: Usage
    second: Usage
    moves: Moves


@final
@dataclass(frozen=True)
class Diff:
    """Two baselines, or two models under one baseline, held against each other.

    ``lengths`` are over ``inputs`` trusted inputs.
    """

    compared: Compared
    first: str
    second: str
    inputs: int
    lengths: tuple[Length, ...]
    views: tuple[Viewed, ...]
    weights: tuple[Expressed, ...] = ()


@final
@dataclass(frozen=True)
class Rows:
    """The trusted inputs to measure on."""

    data: Dataset
    rows: Int64[Tensor, " chosen"]

    def batches(self, stage: str, progress: Progress) -> Iterator[Inputs]:
        """Read them a few at a time."""
        for start in range(0, len(self.rows), _BATCH):
            yield self.data.take(self.rows[start : start + _BATCH])
            done = min(start + _BATCH, len(self.rows))
            progress(stage, done=done, total=len(self.rows))


def diff_baselines(
    scorer: Scorer, first: Baseline, second: Baseline, rows: Rows, *, progress: Progress
) -> Diff:
    """Hold the codes of two baselines against each other; ``scorer`` observes for both.

    Rates and magnitudes are those that each was fitted on. Lengths are of the same activity by
    the codes of either.

    Raises:
        ConfigError: they are not of the same components, or see the same activity otherwise.
    """
    check_alike(scorer.decomposition, first, second)
    sides = [_scorer(scorer, one) for one in (first, second)]
    ledgers: list[list[Ledger]] = [[], []]
    for inputs in rows.batches("describing by both", progress):
        seen = sides[0].observe(inputs)
        for side, found in zip(sides, ledgers, strict=True):
            found.append(
                side.charge(seen if side.context == sides[0].context else side.observe(inputs))
            )
    views = [part.site for part in first.parts if part.term == "set" and part.origins is None]
    usages = {
        view: tuple(
            Usage.of(one.parts, view, inputs=one.manifest.fit_inputs) for one in (first, second)
        )
        for view in views
    }
    return Diff(
        "baselines",
        first.revision,
        second.revision,
        len(rows.rows),
        _lengths(*(joined(found) for found in ledgers)),
        tuple(Viewed(view, one, two, moves(one, two)) for view, (one, two) in usages.items()),
    )


def diff_models(
    first: Scorer, second: Scorer, rows: Rows, *, names: tuple[str, str], progress: Progress
) -> Diff:
    """Hold two models against each other, under one decomposition and the codes of one baseline."""
    ledgers: list[list[Ledger]] = [[], []]
    moments: list[dict[View, MagnitudeMoments]] = [{}, {}]
    for inputs in rows.batches("running both models", progress):
        for side, own, found in zip((first, second), ledgers, moments, strict=True):
            seen = side.observe(inputs)
            own.append(side.charge(seen))
            _count(seen, found)
    usages = {
        view: (Usage.counted(moments[0][view]), Usage.counted(moments[1][view]))
        for view in moments[0]
    }
    return Diff(
        "models",
        *names,
        len(rows.rows),
        _lengths(*(joined(own) for own in ledgers)),
        tuple(Viewed(view, one, two, moves(one, two)) for view, (one, two) in usages.items()),
    )


def check_alike(decomposition: Decomposition, *baselines: Baseline) -> None:
    """Refuse baselines whose components are not those of the decomposition.

    Raises:
        ConfigError: says which, and what differs.
    """
    for one in baselines:
        if one.manifest.decomposition_fingerprint != decomposition.fingerprint:
            raise ConfigError(
                f"baseline {one.revision} is of another decomposition than the settings name, so "
                "its components are others; compare baselines of one decomposition, or "
                "dictionaries themselves by `mad report dictionary --other`"
            )
    rules = {one.manifest.activity for one in baselines}
    if len(rules) > 1:
        raise ConfigError(
            f"{' and '.join(one.revision for one in baselines)} count components as active by "
            f"different rules, {' and '.join(sorted(rules))}; compare baselines of one rule"
        )


def _scorer(scorer: Scorer, baseline: Baseline) -> Scorer:
    manifest = baseline.manifest
    return Scorer(
        scorer.model,
        scorer.decomposition,
        baseline.parts,
        manifest.context,
        manifest.activity,
        scorer.heights,
    )


def _count(seen: Observed, total: dict[View, MagnitudeMoments]) -> None:
    for view, activity in seen.activity.items():
        if activity.num_components:
            own = MagnitudeMoments.of(activity, seen.context)
            total[view] = total[view].merge(own) if view in total else own


def _lengths(first: Ledger, second: Ledger) -> tuple[Length, ...]:
    ours, theirs = _columns(first), _columns(second)
    return tuple(
        _length(key, ours.get(key), theirs.get(key)) for key in dict.fromkeys([*ours, *theirs])
    )


def _columns(ledger: Ledger) -> Mapping[tuple[Site, Term], Tensor]:
    return dict(zip(ledger.keys, ledger.bits.unbind(dim=1), strict=True))


def _length(key: tuple[Site, Term], first: Tensor | None, second: Tensor | None) -> Length:
    error = math.nan
    if first is not None and second is not None and len(first) > 1:
        error = float((second - first).std() / len(first) ** 0.5)
    return Length(*key, _mean(first), _mean(second), error)


def _mean(bits: Tensor | None) -> float:
    return math.nan if bits is None else float(bits.mean())
