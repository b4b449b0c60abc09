"""What a candidate and the active baseline say of inputs that no fit has seen, a slice at a time.

Each slice is a function of no arguments, so that whoever owns the model runs it when the model is
free: between two batches of live traffic, or one after the other on the command line.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Int64
from torch import Tensor

from mad.errors import ConfigError, InputError
from mad.judgement import Judgement
from mad.monitor import Monitor
from mad.types import Bits, Dataset, PValues

Role: TypeAlias = Literal["trusted", "canaries"]


@final
@dataclass(frozen=True, kw_only=True)
class Exam:
    """Inputs that the operator keeps for it, None where there are none.

    ``trusted`` ones are ordinary and in no fit; ``canaries`` are planted anomalies.
    """

    trusted: Dataset | None = None
    canaries: Dataset | None = None
    batch_size: int = 64


@final
@dataclass(frozen=True)
class Seen:
    """A slice: the candidate's measure, in bits, and the p-values of both; None for no active."""

    role: Role
    bits: Bits
    p_values: PValues
    active_p_values: PValues | None


def slices(exam: Exam, candidate: Monitor, active: Monitor | None) -> Iterator[Callable[[], Seen]]:
    """Return the work of an exam; each slice runs the model once or, for unlike monitors, twice.

    A slice raises ConfigError for inputs that the model does not take.
    """
    roles: tuple[tuple[Role, Dataset | None], ...] = (
        ("trusted", exam.trusted),
        ("canaries", exam.canaries),
    )
    for role, data in roles:
        if data is not None:
            for rows in torch.arange(len(data)).split(exam.batch_size):
                yield partial(_look, role, data, rows, candidate, active)


def _look(
    role: Role,
    data: Dataset,
    rows: Int64[Tensor, " batch"],
    candidate: Monitor,
    active: Monitor | None,
) -> Seen:
    inputs = data.take(rows)
    try:
        candidate.check(inputs)
    except InputError as error:
        raise ConfigError(f"promotion.{role}: {error}") from error
    observed = candidate.scorer.observe(inputs)
    own = candidate.judge_observed(observed, max_charges=0)
    active_p_values = None
    if active is not None:
        is_alike = _sees_alike(candidate, active)
        other = (
            active.judge_observed(observed, max_charges=0)
            if is_alike
            else active.judge(inputs, max_charges=0)
        )
        active_p_values = _p_values(other)
    measure = f"{candidate.baseline.manifest.alert_on}_bits"
    bits = [getattr(verdict, measure) for verdict in own.verdicts]
    return Seen(role, torch.tensor(bits, dtype=torch.float64), _p_values(own), active_p_values)


def _sees_alike(one: Monitor, other: Monitor) -> bool:
    mine, theirs = one.scorer, other.scorer
    return (
        mine.model is theirs.model
        and mine.decomposition is theirs.decomposition
        and (mine.context, mine.activity) == (theirs.context, theirs.activity)
    )


def _p_values(judgement: Judgement) -> PValues:
    return torch.tensor([verdict.p_value for verdict in judgement.verdicts], dtype=torch.float64)
