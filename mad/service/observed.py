"""What was scored, remembered for calibration: counts, and a sample of p-values, of bounded size.

A memory of one baseline revision and one kind of traffic holds how many inputs there were, how many
at or under each level, how many used each component, a uniform sample of p-values, and what came
lately. Of trusted traffic it also holds the wealth won by betting that it is not as the reference.
"""

import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from mad.baseline.bundle import Baseline, Manifest
from mad.calibration.conformal import p_values
from mad.calibration.groups import GroupedReference
from mad.judgement import Judgement, Rows
from mad.metrics import Traffic
from mad.service.lately import Lately, Window
from mad.streams.conformal import ConformalMartingale
from mad.types import MEASURES, Reference, Verdict, View

LEVELS: Final = (0.001, 0.005, 0.01, 0.05, 0.1)
"""Rates that are counted beside the baseline's own."""
SAMPLE: Final = 10_000
"""P-values kept of one kind of traffic; all are counted."""
FOLDED: Final = 256
"""Inputs that are counted in together."""
_SEED_BITS: Final = 63
MAX_REVISIONS: Final = 8
"""Revisions remembered, those fed last; a few kilobytes each, and one number a component."""


@final
@dataclass(frozen=True)
class Facts:
    """What the traffic of one revision is held against; without the codes, which may be large."""

    manifest: Manifest
    measures: Float64[Tensor, " reference"]
    contexts: Int64[Tensor, " reference"]
    rates: Mapping[View, Float64[np.ndarray, " component"]]

    @staticmethod
    def of(baseline: Baseline) -> "Facts":
        """Take what is needed of a baseline."""
        return Facts(
            baseline.manifest,
            baseline.references[MEASURES.index(baseline.manifest.alert_on)],
            baseline.contexts,
            {
                part.site: part.marginal.rate.numpy()
                for part in baseline.parts
                if part.marginal is not None
            },
        )

    @property
    def levels(self) -> tuple[float, ...]:
        """The rates that are counted: the baseline's own first."""
        own = self.manifest.false_alarm_rate
        return (own, *(level for level in LEVELS if level != own))

    @cached_property
    def reference_bits(self) -> Reference:
        """The reference's own p-values as bits, ascending."""
        return sampled_bits(self._reference_p_values().numpy()).sort().values

    @cached_property
    def unseen(self) -> Mapping[View, Int64[np.ndarray, " unseen"]]:
        """The components that no trusted input used, as far as codes were fitted on them."""
        # Half a use among all inputs and one more is the rate of what was never used.
        seen_from = 1 / (self.manifest.fit_inputs + 1)
        return {view: np.flatnonzero(rates < seen_from) for view, rates in self.rates.items()}

    def measured(self, verdicts: Sequence[Verdict]) -> list[float]:
        """Return the bits that alerts go by, of inputs for which they are known."""
        name = f"{self.manifest.alert_on}_bits"
        bits = (float(getattr(verdict, name)) for verdict in verdicts)
        return [one for one in bits if not math.isnan(one)]

    def martingale(self) -> ConformalMartingale:
        """Begin to bet against the reference."""
        ascending = self.measures.sort().values.numpy()
        return ConformalMartingale.of(ascending, seed=secrets.randbits(_SEED_BITS))

    def _reference_p_values(self) -> Float64[Tensor, " reference"]:
        """Rank the reference among itself, as traffic is ranked among it."""
        if not self.manifest.by_context:
            return p_values(self.measures, self.measures.sort().values)
        groups = GroupedReference.fit(
            self.measures, self.contexts, false_alarm_rate=self.manifest.false_alarm_rate
        )
        return groups.p_values(self.measures, self.contexts)


@final
@dataclass
class Seen:
    """What was seen of one kind of traffic. ``alarms`` goes with the levels of the facts.

    ``wealth_log10`` is won from trusted traffic alone: nobody bets on any other.

    ``used`` counts inputs that used each component, of the ``looked`` at which were seen as sets.
    """

    began: datetime
    alarms: Int64[np.ndarray, " level"]
    used: Mapping[View, Int64[np.ndarray, " component"]]
    inputs: int = 0
    looked: int = 0
    whole_sample: Float64[np.ndarray, " sample"] = field(default_factory=lambda: np.zeros(SAMPLE))
    wealth_log10: float = 0.0

    @property
    def sample(self) -> Float64[np.ndarray, " sample"]:
        """Some p-values, each input's as likely kept as any other's."""
        return self.whole_sample[: self.inputs]

    def copy(self) -> "Seen":
        """Return what was seen so far, which does not change when more is."""
        used = {view: counts.copy() for view, counts in self.used.items()}
        return replace(self, alarms=self.alarms.copy(), used=used, whole_sample=self.sample.copy())

    def rates(self, view: View) -> Float64[np.ndarray, " component"]:
        """Return the share of the traffic that used each component; 0 without inputs."""
        return self.used[view] / max(self.looked, 1)

    def keep(self, p: Float64[np.ndarray, " batch"], chance: np.random.Generator) -> None:
        """Count p-values, and sample them (algorithm R; Vitter 1985)."""
        place = np.arange(self.inputs, self.inputs + len(p))
        self.inputs += len(p)
        if self.inputs > SAMPLE:
            place = np.where(place < SAMPLE, place, chance.integers(0, place + 1))
            is_kept = place < SAMPLE
            place, p = place[is_kept], p[is_kept]
        self.whole_sample[place] = p

    def count(self, rows: Sequence[Rows]) -> None:
        """Count the components that inputs used."""
        known = [one for one in rows if one.sets.keys() >= self.used.keys()]
        self.looked += sum(one.stop - one.start for one in known)
        for view, counts in self.used.items():
            used = [one.components(view) for one in known]
            if used:
                np.add.at(counts, np.concatenate(used), 1)


@final
@dataclass
class _Memory:
    """What was seen, and what is still to be counted in: many requests at once cost little more."""

    seen: Seen
    lately: Lately
    martingale: ConformalMartingale | None
    p: list[float] = field(default_factory=list)
    bits: list[float] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)

    def fold(self, levels: Sequence[float], chance: np.random.Generator) -> None:
        """Count in what waits."""
        p, bits = np.array(self.p), np.array(self.bits)
        seen = self.seen
        seen.alarms += (p[:, None] <= np.array(levels)).sum(axis=0)
        seen.keep(p, chance)
        seen.count(self.rows)
        self.lately.keep(p, seen.used, seen.looked)
        if self.martingale is not None:
            self.martingale = self.martingale.advance(bits)
            seen.wealth_log10 = self.martingale.log10
        self.p, self.bits, self.rows = [], [], []


@final
@dataclass
class _Revision:
    facts: Facts
    fed: int = 0
    memories: dict[Traffic, _Memory] = field(default_factory=dict)


@final
class Observations:
    """The memories of one server. Safe to call from any thread: a shadow feeds from the model's."""

    def __init__(
        self, *, clock: Callable[[], datetime], chance: np.random.Generator | None = None
    ) -> None:
        self._clock = clock
        self._chance = chance or np.random.default_rng()
        self._revisions: OrderedDict[str, _Revision] = OrderedDict()
        self._lock = threading.Lock()

    def feed(self, baseline: Baseline, traffic: Traffic, judgement: Judgement) -> None:
        """Take in what a baseline has judged."""
        with self._lock:
            self._feed(baseline, traffic, judgement)

    def look(self, baseline: Baseline, traffic: Traffic) -> tuple[Facts, Seen]:
        """Return what was seen of one kind of traffic; of none, an empty memory that begins now."""
        with self._lock:
            return self._look(baseline, traffic)

    def stamp(self, revision: str) -> int:
        """Return a number that grows whenever something of a revision is fed; 0 for none."""
        found = self._revisions.get(revision)
        return 0 if found is None else found.fed

    def facts(self, baseline: Baseline) -> Facts:
        """Return what the traffic of a baseline is held against."""
        found = self._revisions.get(baseline.revision)
        return Facts.of(baseline) if found is None else found.facts

    def lately(self, revision: str) -> Mapping[Traffic, tuple[Seen, Window]]:
        """Return what was seen of each kind of traffic of a revision, and the last of it."""
        with self._lock:
            found = self._revisions.get(revision)
            if found is None:
                return {}
            return {
                traffic: (self._folded(found, memory), _window(memory))
                for traffic, memory in found.memories.items()
            }

    def _feed(self, baseline: Baseline, traffic: Traffic, judgement: Judgement) -> None:
        found = self._revisions.get(baseline.revision)
        if found is None:
            found = self._revisions[baseline.revision] = _Revision(Facts.of(baseline))
            if len(self._revisions) > MAX_REVISIONS:
                self._revisions.popitem(last=False)
        else:
            self._revisions.move_to_end(baseline.revision)
        memory = found.memories.get(traffic)
        if memory is None:
            memory = found.memories[traffic] = self._begun(found.facts, traffic)
        found.fed += 1
        memory.p += [verdict.p_value for verdict in judgement.verdicts]
        memory.rows += judgement.rows
        if memory.martingale is not None:
            memory.bits += found.facts.measured(judgement.verdicts)
        if len(memory.p) >= FOLDED:
            memory.fold(found.facts.levels, self._chance)

    def _look(self, baseline: Baseline, traffic: Traffic) -> tuple[Facts, Seen]:
        found = self._revisions.get(baseline.revision)
        memory = found.memories.get(traffic) if found else None
        if found is None or memory is None:
            facts = found.facts if found else Facts.of(baseline)
            return facts, self._begun(facts, traffic).seen
        return found.facts, self._folded(found, memory)

    def _folded(self, revision: _Revision, memory: _Memory) -> Seen:
        memory.fold(revision.facts.levels, self._chance)
        return memory.seen.copy()

    def _begun(self, facts: Facts, traffic: Traffic) -> _Memory:
        used = {view: np.zeros(len(rates), dtype=np.int64) for view, rates in facts.rates.items()}
        seen = Seen(self._clock(), np.zeros(len(facts.levels), dtype=np.int64), used)
        martingale = facts.martingale() if traffic == "trusted" else None
        return _Memory(seen, Lately.begin(used), martingale)


def _window(memory: _Memory) -> Window:
    return memory.lately.window(memory.seen.used, memory.seen.looked)


def sampled_bits(p: Sequence[float] | np.ndarray) -> Float64[Tensor, " batch"]:
    """Return p-values as bits, the rarer the larger."""
    return -torch.as_tensor(p, dtype=torch.float64).log2()
