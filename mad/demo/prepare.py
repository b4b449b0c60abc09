"""From shipped images to a run folder that ``mad serve`` can serve, as an operator would do it."""

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mad.arrays import open_dataset
from mad.baseline.bundle import Baseline
from mad.baseline.store import BaselineStore
from mad.capture.loading import load_model
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.files import load_dictionaries, save_dictionaries
from mad.components.dictionaries.train import DictionaryPlan
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
from mad.fit import FitPlan, Split, fit, split, train_dictionaries
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
    return _fit(settings, folder, progress)


def _fit(settings: Settings, folder: RunFolder, progress: Progress) -> Fitted:
    """Do what ``mad fit`` does: train dictionaries, fit a baseline and store it."""
    model = load_model(
        settings.model.factory,
        settings.model.weights,
        name=settings.model.name,
        inputs=settings.model.inputs,
        arguments=settings.model.arguments,
        base=folder.root,
    )
    data = open_dataset(settings.data.trusted, names=settings.model.inputs)
    plan = _fit_plan(settings)
    rows = split(len(data), plan)
    wanted = settings.decomposition
    trained = train_dictionaries(
        model,
        wanted.sites,
        data,
        DictionaryPlan(width=wanted.width, k=wanted.k, steps=wanted.steps, seed=plan.seed),
        rows=rows.fitting,
        progress=progress,
    )
    save_dictionaries(wanted.path, trained.dictionaries, seen=trained.seen)
    decomposition = load_dictionaries(wanted.path)
    fitted = fit(model, decomposition, data, plan, created=datetime.now(UTC), progress=progress)
    baseline = BaselineStore(settings.baseline.store).save(fitted)
    return Fitted(settings, model, baseline, rows)


def _fit_plan(settings: Settings) -> FitPlan:
    baseline = settings.baseline
    return FitPlan(
        name=baseline.name,
        false_alarm_rate=baseline.false_alarm_rate,
        reference_share=baseline.reference_share,
        context=baseline.context,
        neighbours=baseline.neighbours,
        seed=baseline.seed,
    )


def _train(
    stage: str, target: Path, data: Labelled, plan: TrainingPlan, progress: Progress
) -> None:
    def step_done(step: int, steps: int) -> None:
        progress(stage, done=step, total=steps)

    save(train(data, plan, step_done=step_done), target)
