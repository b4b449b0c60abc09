"""From shipped images to a run folder that ``mad serve`` can serve, as an operator would do it."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mad.baseline.bundle import Baseline
from mad.capture.model import MonitoredModel
from mad.config import Settings
from mad.demo.folder import RunFolder
from mad.demo.images import Labelled, Splits
from mad.demo.train import (
    BACKDOOR_PLAN,
    BACKDOORED,
    CLEAN,
    CLEAN_PLAN,
    TrainingPlan,
    save,
    train,
)
from mad.deployment import Deployment
from mad.fit import Split
from mad.types import Progress


@dataclass(frozen=True)
class Fitted:
    """A monitored model and its stored baseline; ``rows`` says which trusted images were fitted."""

    settings: Settings
    model: MonitoredModel
    baseline: Baseline
    rows: Split


def prepare(
    folder: RunFolder, splits: Splits, *, seed: int, retrain: bool, progress: Progress
) -> Fitted:
    """Fill a fresh run folder: settings, weights, trusted images, dictionaries, baseline.

    Raises:
        ConfigError: the folder cannot be used.
    """
    return _fit(lay_out(folder, splits, seed=seed, retrain=retrain, progress=progress), progress)


def lay_out(
    folder: RunFolder, splits: Splits, *, seed: int, retrain: bool, progress: Progress
) -> Settings:
    """Fill a fresh run folder with what an operator begins with: settings, weights, trusted images.

    Raises:
        ConfigError: the folder cannot be used.
    """
    folder.begin(seed=seed)
    settings = Settings.load(folder.settings)
    for name, target, shipped, plan in (
        ("clean", folder.clean_weights, CLEAN, CLEAN_PLAN),
        ("backdoored", settings.model.weights, BACKDOORED, BACKDOOR_PLAN),
    ):
        if retrain:
            stage = f"training the {name} model"
            _train(stage, target, splits.train, replace(plan, seed=seed), progress)
        else:
            shutil.copyfile(shipped, target)
    (trusted,) = settings.data.trusted
    np.savez(trusted, image=splits.trusted.images.numpy())
    return settings


def _fit(settings: Settings, progress: Progress) -> Fitted:
    """Do what ``mad fit`` does: train dictionaries, fit a baseline and store it."""
    deployment = Deployment.of(settings)
    data = deployment.trusted()
    deployment.train(data, progress=progress)
    baseline = deployment.fit(data, created=datetime.now(UTC), progress=progress)
    return Fitted(settings, deployment.model, baseline, deployment.rows(data))


def _train(
    stage: str, target: Path, data: Labelled, plan: TrainingPlan, progress: Progress
) -> None:
    def step_done(step: int, steps: int) -> None:
        progress(stage, done=step, total=steps)

    save(train(data, plan, step_done=step_done), target)
