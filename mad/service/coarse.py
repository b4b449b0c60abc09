"""What a caller is told who may read scores only in steps, so that it learns little from each."""

import math
from dataclasses import replace
from typing import Final

from mad.judgement import Judgement
from mad.service.caller import Principal
from mad.types import Verdict

_NONE: Final = -1
"""The context of an input that has none."""


def told(judgement: Judgement, to: Principal, *, step_bits: float) -> Judgement:
    """Return what a caller may read of a judgement: all with the role score.read, else in steps."""
    if "score.read" in to.roles:
        return judgement
    verdicts = tuple(_coarse(verdict, step_bits) for verdict in judgement.verdicts)
    return replace(judgement, verdicts=verdicts, explanations={})


def _coarse(verdict: Verdict, step_bits: float) -> Verdict:
    """Round bits down; what would tell more than that, and whether it is an alert, is left out."""
    return Verdict(
        surprise_bits=_down(verdict.surprise_bits, step_bits),
        mechanism_bits=_down(verdict.mechanism_bits, step_bits),
        novelty_bits=_down(verdict.novelty_bits, step_bits),
        description_bits=math.nan,
        p_value=math.nan,
        is_alert=verdict.is_alert,
        parts=(),
        context=_NONE,
        active_components=0,
    )


def _down(bits: float, step_bits: float) -> float:
    return step_bits * math.floor(bits / step_bits) if math.isfinite(bits) else bits
