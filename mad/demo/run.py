"""The demo, top to bottom: train, fit, serve, attack, and see what was found."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from rich.console import Console

from mad.client import Client
from mad.demo.compare import compare
from mad.demo.findings import Findings
from mad.demo.folder import RunFolder
from mad.demo.images import Labelled, Splits, read_splits
from mad.demo.logged import read_alerts
from mad.demo.picture import draw
from mad.demo.prepare import Fitted, fit_baseline, write_trusted, write_weights
from mad.demo.report import show
from mad.demo.server import serving
from mad.demo.stream import read_counters, send
from mad.demo.traffic import divide
from mad.demo.train import Skill, load, measure
from mad.types import Progress

Bars = Callable[[], AbstractContextManager[Progress]]
"""Opens progress bars on the caller's terminal."""


def run(folder: RunFolder, *, seed: int, retrain: bool, bars: Bars, console: Console) -> bool:
    """Do the main job in a run folder, print what was found, and say whether every claim holds.

    Raises:
        ConfigError: the folder cannot be used, or the server did not start.
    """
    splits = read_splits()
    traffic = divide(splits.fresh, seed=seed)
    with bars() as progress:
        fitted = prepare(folder, seed=seed, retrain=retrain, progress=progress)
        with serving(folder) as server, Client(server.target) as client:
            answers = {
                kind: send(client, kind, part.images, progress=progress)
                for kind, part in traffic.kinds.items()
            }
            rate = fitted.baseline.manifest.false_alarm_rate
            counters = read_counters(server.url, false_alarm_rate=rate)
            alerts = tuple(read_alerts(client))
            exit_status = server.stop()
        progress("comparing with other scores", done=0, total=1)
        detection = compare(
            fitted,
            splits.trusted,
            traffic,
            ordinary_surprise=answers["ordinary"].surprise,
            triggered_surprise=answers["triggered"].surprise,
        )
        progress("comparing with other scores", done=1, total=1)
    findings = Findings(
        skill=_skill(folder, fitted, splits),
        manifest=fitted.baseline.manifest,
        detection=detection,
        answers=answers,
        counters=counters,
        alerts=alerts,
        exit_status=exit_status,
    )
    surprise = {kind: each.surprise for kind, each in answers.items()}
    draw(surprise, threshold_bits=findings.manifest.threshold_bits, path=folder.picture)
    show(findings, traffic, console)
    _show_places(folder, fitted, console)
    return all(claim.holds for claim in findings.claims)


def prepare(folder: RunFolder, *, seed: int, retrain: bool, progress: Progress) -> Fitted:
    """Fill a fresh run folder: settings, weights, trusted images, dictionaries, baseline.

    Raises:
        ConfigError: the folder cannot be used.
    """
    splits = read_splits()
    folder.begin(seed=seed)
    write_weights(folder, splits.train, seed=seed, retrain=retrain, progress=progress)
    write_trusted(folder, splits.trusted)
    return fit_baseline(folder, progress=progress)


def _skill(folder: RunFolder, fitted: Fitted, splits: Splits) -> Skill:
    unseen = Labelled(
        torch.cat([splits.trusted.images, splits.fresh.images]),
        torch.cat([splits.trusted.labels, splits.fresh.labels]),
    )
    return measure(load(folder.clean_weights), load(fitted.settings.model.weights), unseen)


def _show_places(folder: RunFolder, fitted: Fitted, console: Console) -> None:
    manifest = fitted.baseline.manifest
    bundle = fitted.settings.baseline.store / manifest.name / str(manifest.version)
    places = {
        "settings": folder.settings,
        "baseline bundle": bundle,
        "alert log": Path(fitted.settings.server.alert_log.removeprefix("sqlite:///")),
        "server's log": folder.server_log,
        "histogram of surprise": folder.picture,
    }
    for what, path in places.items():
        console.print(f"{what:>21}: {path}", soft_wrap=True, highlight=False)
