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
from mad.demo.images import Labelled
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


def write_weights(
    folder: RunFolder, data: Labelled, *, seed: int, retrain: bool, progress: Progress
) -> None:
    """Put both models' weights into the run folder: the shipped ones, or trained again."""
    weights = Settings.load(folder.settings).model.weights
    for name, target, shipped, plan in (
        ("clean", folder.clean_weights, CLEAN, CLEAN_PLAN),
        ("backdoored", weights, BACKDOORED, BACKDOOR_PLAN),
    ):
        if retrain:
            _train(f"training the {name} model", target, data, replace(plan, seed=seed), progress)
        else:
            shutil.copyfile(shipped, target)


def write_trusted(folder: RunFolder, trusted: Labelled) -> None:
    """Write the trusted images as the file that the settings name; labels are not needed."""
    (path,) = Settings.load(folder.settings).data.trusted
    np.savez(path, image=trusted.images.numpy())


def fit_baseline(folder: RunFolder, *, progress: Progress) -> Fitted:
    """Do what ``mad fit`` does: train dictionaries, fit a baseline and store it."""
    settings = Settings.load(folder.settings)
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
    dictionaries, _ = train_dictionaries(
        model,
        wanted.sites,
        data,
        DictionaryPlan(width=wanted.width, k=wanted.k, steps=wanted.steps, seed=plan.seed),
        rows=rows.fitting,
        progress=progress,
    )
    save_dictionaries(wanted.path, dictionaries)
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
        seed=baseline.seed,
    )


def _train(
    stage: str, target: Path, data: Labelled, plan: TrainingPlan, progress: Progress
) -> None:
    def step_done(step: int, steps: int) -> None:
        progress(stage, done=step, total=steps)

    save(train(data, plan, step_done=step_done), target)
