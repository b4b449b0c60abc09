"""Callers whose inputs are as an attacker's would be who feels his way along the threshold.

Two things are watched for each caller: inputs just under the threshold, and surprising inputs that
use components as one of the caller's last surprising inputs did. A calibrated p-value says how
often either happens by chance, ``P(p <= a) <= a``; an evidence in bits is a sum of log-likelihood
ratios against a caller who does it more often, never below zero (Page's test). It reaches
``log2(INPUTS_PER_SUSPICION)`` by chance once in ``INPUTS_PER_SUSPICION`` inputs or more rarely
(Lorden 1971), however long one looks. Answers stay the same: a caller learns nothing from it.
"""

import logging
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Literal, TypeAlias, final

from mad.baseline.bundle import Manifest
from mad.metrics import Metrics
from mad.types import Verdict

log = logging.getLogger(__name__)

Reason: TypeAlias = Literal["near_threshold", "near_duplicate"]

INPUTS_PER_SUSPICION: Final = 1_000_000
NEAR: Final = 0.9
"""Share of the threshold's bits that counts as near to it."""
MAX_CALLERS: Final = 1024
"""Callers that are watched; beyond, the one not heard of for longest is forgotten."""
REMEMBERED: Final = 64
"""Surprising inputs that are remembered of each caller."""
WARN_EVERY_S: Final = 60.0
_ENOUGH_BITS: Final = math.log2(INPUTS_PER_SUSPICION)


@final
@dataclass(frozen=True, slots=True)
class _Bet:
    """Bits that one input adds to the evidence: of a kind that chance gives at a rate, or not."""

    hit_bits: float
    miss_bits: float

    @staticmethod
    def against(chance: float) -> "_Bet":
        """Bet on callers who do it at the geometric mean of chance and always."""
        suspected = math.sqrt(chance)
        return _Bet(math.log2(suspected / chance), math.log2((1 - suspected) / (1 - chance)))


@cache
def _bets(rate: float, reference: int) -> tuple[float, Mapping[Reason, _Bet]]:
    """Return the p-value that is near to the rate, and what to bet."""
    # A rarity of b bits is that of one in 2**b: 90 % of the threshold's bits is this p-value.
    near = rate**NEAR
    step = 1 / (reference + 1)
    return near, {
        "near_threshold": _Bet.against(near - rate + step),
        "near_duplicate": _Bet.against(near),
    }


@final
@dataclass(slots=True)
class _Caller:
    evidence_bits: dict[Reason, float] = field(default_factory=dict)
    warned_s: dict[Reason, float] = field(default_factory=dict)
    recent: deque[Hashable] = field(default_factory=lambda: deque(maxlen=REMEMBERED))


@final
class Probing:
    """Watches scored inputs by caller, in bounded memory; used by one thread."""

    def __init__(self, metrics: Metrics, *, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._callers: OrderedDict[str, _Caller] = OrderedDict()

    def __len__(self) -> int:
        """Return how many callers are remembered."""
        return len(self._callers)

    def saw(self, name: str, manifest: Manifest, verdicts: Iterable[Verdict]) -> None:
        """Take in what a caller, by name, learnt of its inputs; the name is empty for anybody."""
        rate = manifest.false_alarm_rate
        near, bets = _bets(rate, manifest.reference_inputs)
        caller = self._caller(name)
        for verdict in verdicts:
            is_surprising = verdict.p_value <= near
            if not is_surprising and not caller.evidence_bits:
                continue
            found: dict[Reason, bool] = {
                "near_threshold": is_surprising and verdict.p_value > rate,
                "near_duplicate": is_surprising and _is_repeated(caller, verdict),
            }
            for reason, bet in bets.items():
                self._count(name, caller, reason, bet.hit_bits if found[reason] else bet.miss_bits)

    def _caller(self, name: str) -> _Caller:
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = _Caller()
        self._callers.move_to_end(name)
        if len(self._callers) > MAX_CALLERS:
            self._callers.popitem(last=False)
        return caller

    def _count(self, name: str, caller: _Caller, reason: Reason, bits: float) -> None:
        evidence = max(0.0, caller.evidence_bits.get(reason, 0.0) + bits)
        if evidence >= _ENOUGH_BITS:
            evidence = 0.0
            self._suspect(name, caller, reason)
        if evidence:
            caller.evidence_bits[reason] = evidence
        else:
            caller.evidence_bits.pop(reason, None)

    def _suspect(self, name: str, caller: _Caller, reason: Reason) -> None:
        self._metrics.probing_suspected(reason)
        now = self._clock()
        if now - caller.warned_s.get(reason, -math.inf) >= WARN_EVERY_S:
            caller.warned_s[reason] = now
            log.warning("a caller may be probing", extra={"principal": name, "reason": reason})


def _is_repeated(caller: _Caller, verdict: Verdict) -> bool:
    """Say whether a remembered input used components alike, and remember this one."""
    used = _used(verdict)
    is_repeated = used in caller.recent
    caller.recent.append(used)
    return is_repeated


def _used(verdict: Verdict) -> Hashable:
    """Stand for the active sets: a set's bits are a function of it, and hardly two share them."""
    bits = tuple(round(part.bits, 6) for part in verdict.parts if part.term == "set")
    return verdict.context, verdict.active_components, bits
