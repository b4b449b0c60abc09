"""The demo, top to bottom: train, fit, serve, attack, and see what was found."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console

from mad.baseline.store import BaselineStore
from mad.calibration.conformal import threshold
from mad.demo.attack import attack
from mad.demo.compare import compare
from mad.demo.findings import Findings
from mad.demo.folder import RunFolder
from mad.demo.images import read_splits
from mad.demo.picture import draw
from mad.demo.prepare import Fitted, prepare
from mad.demo.report import show
from mad.demo.traffic import divide
from mad.demo.train import load, measure
from mad.types import MEASURES, Progress

Bars = Callable[[], AbstractContextManager[Progress]]
"""Opens progress bars on the caller's terminal."""


def run(folder: RunFolder, *, seed: int, retrain: bool, bars: Bars, console: Console) -> Findings:
    """Do the main job in a run folder, print what was found, and return it.

    Raises:
        ConfigError: the folder cannot be used, or the server did not start.
    """
    splits = read_splits()
    traffic = divide(splits.fresh, seed=seed)
    with bars() as progress:
        fitted = prepare(folder, splits, seed=seed, retrain=retrain, progress=progress)
        manifest = fitted.baseline.manifest
        served = attack(
            folder, traffic, false_alarm_rate=manifest.false_alarm_rate, progress=progress
        )
        detection = compare(fitted, splits.trusted, traffic, served.answers, progress=progress)
    monitored = load(fitted.settings.model.weights)
    skill = measure(load(folder.clean_weights), monitored, splits.unseen)
    thresholds = {
        measure: threshold(reference.sort().values, manifest.false_alarm_rate)
        for measure, reference in zip(MEASURES, fitted.baseline.references, strict=True)
    }
    findings = Findings(skill, manifest, thresholds, served, detection)
    draw(served.answers, thresholds, path=folder.picture)
    show(findings, traffic.triggered, console)
    _show_places(folder, fitted, console)
    return findings


def _show_places(folder: RunFolder, fitted: Fitted, console: Console) -> None:
    manifest = fitted.baseline.manifest
    places = {
        "settings": folder.settings,
        "baseline": BaselineStore(fitted.settings.baseline.store).place(
            manifest.name, manifest.version
        ),
        "alert log": Path(fitted.settings.server.alert_log.removeprefix("sqlite:///")),
        "server log": folder.server_log,
        "picture": folder.picture,
    }
    console.print()
    for what, path in places.items():
        console.print(f"{what:>10}  {path}", soft_wrap=True, highlight=False)
