"""The promised false-alarm rate as an objective: what was observed in, figures to watch out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, final

from mad.baseline.bundle import Baseline
from mad.calibration.drift import refitted_bits
from mad.calibration.health import binomial_intervals, largest_gap
from mad.metrics.calibration import CalibrationReading, RateReading
from mad.metrics.table import TRAFFIC, Traffic
from mad.service.lately import Window
from mad.service.observed import Facts, Observations, Seen, sampled_bits
from mad.service.registry import Registry
from mad.types import Site, site_of

_DRIFTS: Final[tuple[Traffic, ...]] = ("live", "trusted")
"""Kinds that could be used as trusted data were; planted anomalies cannot."""


@final
@dataclass(frozen=True)
class Objective:
    """Reads what was observed of the baselines that score; one reader at a time."""

    registry: Registry
    observations: Observations
    _told: dict[str, tuple[str, int]] = field(default_factory=dict)
    _unseen: dict[str, tuple[str, int]] = field(default_factory=dict)

    def changes(self) -> Iterator[CalibrationReading]:
        """Read every baseline that has changed, or has been fed, since the last time."""
        for monitor in self.registry.monitors:
            baseline = monitor.baseline
            name, revision = baseline.manifest.name, baseline.revision
            stamp = (revision, self.observations.stamp(revision))
            if self._told.get(name) != stamp:
                yield self._read(baseline)
                self._told[name] = stamp

    def _read(self, baseline: Baseline) -> CalibrationReading:
        facts = self.observations.facts(baseline)
        lately = self.observations.lately(baseline.revision)
        trusted = lately.get("trusted")
        return CalibrationReading(
            baseline=facts.manifest.name,
            gap=0.0 if trusted is None else gap(facts, trusted[1]),
            window=0 if trusted is None else trusted[1].p.size,
            wealth_log10=0.0 if trusted is None else trusted[0].wealth_log10,
            rates=[
                reading
                for traffic in TRAFFIC
                if traffic in lately
                for reading in _rates(facts, traffic, lately[traffic][1])
            ],
            drift_bits={
                (traffic, site): bits
                for traffic in _DRIFTS
                if traffic in lately
                for site, bits in site_drifts(facts, lately[traffic][1]).items()
            },
            unseen=self._newly_unseen(facts, lately["live"][0]) if "live" in lately else 0,
        )

    def _newly_unseen(self, facts: Facts, seen: Seen) -> int:
        """Count uses of components that trusted data never used, since they were last counted."""
        uses = sum(int(seen.used[view][those].sum()) for view, those in facts.unseen.items())
        revision, told = self._unseen.get(facts.manifest.name, ("", 0))
        self._unseen[facts.manifest.name] = (facts.manifest.revision, uses)
        return uses - (told if revision == facts.manifest.revision else 0)


def gap(facts: Facts, window: Window) -> float:
    """Return the largest gap between the p-values lately and those of the reference."""
    return largest_gap(sampled_bits(window.p).sort().values, facts.reference_bits)


def site_drifts(facts: Facts, window: Window) -> Mapping[Site, float]:
    """Return how far the use of components has moved at each site, in bits an input.

    Views of one site are other descriptions of the same activations, so the furthest one counts.
    """
    bits: dict[Site, float] = {}
    for view, trusted in facts.rates.items():
        moved = refitted_bits(
            window.rates(view),
            trusted,
            inputs=window.looked,
            trusted_inputs=facts.manifest.fit_inputs,
        )
        bits[site_of(view)] = max(moved, bits.get(site_of(view), 0.0))
    return bits


def _rates(facts: Facts, traffic: Traffic, window: Window) -> list[RateReading]:
    levels, inputs = facts.levels, window.p.size
    alarms = window.at_or_under(levels)
    edges = binomial_intervals(alarms, inputs).tolist()
    return [
        RateReading(traffic, alpha, count / max(inputs, 1), low, high)
        for alpha, count, (low, high) in zip(levels, alarms.tolist(), edges, strict=True)
    ]
