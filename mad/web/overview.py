"""The first page: figures, history, incidents and alerts, drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from prometheus_client import CollectorRegistry

from mad.alerts.values import Incident, Recorded, Wanted
from mad.baseline.bundle import Manifest
from mad.errors import MadError
from mad.web import calibrated, charts, figures, timeline
from mad.web.behind import View
from mad.web.figures import Calibration, Figures
from mad.web.history import Moment

LATEST_ALERTS = 20
OPEN_INCIDENTS = 8


@final
@dataclass(frozen=True, slots=True)
class Panel:
    """One kind of traffic under one baseline, with its drawings."""

    calibration: Calibration
    ruler: charts.Ruler
    plot: calibrated.Plot
    surprises: charts.Chart
    rarities: charts.Curves


@final
@dataclass(frozen=True, kw_only=True)
class Overview:
    """What the first page shows; ``problem`` says why the log cannot be read, or is empty."""

    figures: Figures
    traffic: timeline.Timeline
    alarms: timeline.Timeline
    nominal: float | None
    panels: Sequence[Panel]
    incidents: Sequence[Incident]
    alerts: Sequence[Recorded]
    map: charts.Map
    problem: str
    manifests: Sequence[Manifest]


def overview(registry: CollectorRegistry, view: View, moments: Sequence[Moment]) -> Overview:
    """Gather everything; a log that cannot be read hides nothing else."""
    found = figures.read(registry)
    manifests = [baseline.manifest for baseline in view.baselines()]
    rates = {each.false_alarm_rate for each in manifests}
    nominal = rates.pop() if len(rates) == 1 else None
    incidents: Sequence[Incident] = ()
    alerts: Sequence[Recorded] = ()
    problem = ""
    try:
        incidents = view.incidents(OPEN_INCIDENTS)
        alerts, _ = view.alerts(Wanted(), LATEST_ALERTS, "")
    except MadError as error:
        problem = str(error)
    return Overview(
        figures=found,
        traffic=timeline.traffic(moments),
        alarms=timeline.alarms(moments, nominal=nominal),
        nominal=nominal,
        panels=[
            _panel(each, _thresholds(manifests).get(each.baseline)) for each in found.calibrations
        ],
        incidents=incidents,
        alerts=alerts,
        map=charts.alert_map([one.alert for one in alerts]),
        problem=problem,
        manifests=manifests,
    )


def _thresholds(manifests: Sequence[Manifest]) -> Mapping[str, float]:
    """Return where alerts begin, by baseline; those that rank by context have no single place."""
    return {each.name: each.threshold_bits for each in manifests if not each.by_context}


def _panel(calibration: Calibration, threshold_bits: float | None) -> Panel:
    return Panel(
        calibration,
        charts.ruler(calibration),
        calibrated.calibration_plot(calibration),
        calibrated.surprise_chart(calibration.rarities["surprise"], threshold_bits=threshold_bits),
        charts.rarity_chart(calibration.rarities, threshold_bits=threshold_bits),
    )
