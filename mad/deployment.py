"""What settings name, loaded: model, trusted data, dictionaries, baseline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeAlias, final

from jaxtyping import Int64
from torch import Tensor

from mad import recipes
from mad.arrays import open_dataset
from mad.attributed import Attributed
from mad.baseline.bundle import Baseline
from mad.baseline.store import BaselineStore, parse_revision
from mad.capture.loading import load_model
from mad.capture.model import MonitoredModel
from mad.components import on_disk
from mad.components.base import Decomposition
from mad.components.dictionaries.files import prepare_directory, save_dictionaries
from mad.components.dictionaries.plan import DictionaryFigures
from mad.components.parameters.apd.training import ApdFigures
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.files import save_parameters
from mad.components.parameters.masked import pieces_of
from mad.components.parameters.training.plan import SpdPlan
from mad.components.parameters.training.training import SpdFigures
from mad.config import Settings
from mad.errors import ConfigError
from mad.fit import (
    FileSource,
    FitPlan,
    ModelSource,
    Room,
    Split,
    StepWatch,
    Unfinished,
    Wanted,
    check_unseen,
    fit,
    split,
    train_together,
    unwatched,
    write_activations,
)
from mad.fit.apart import unwatched as unwatched_pieces
from mad.fit.parameters import check_plan, train_parameters
from mad.monitor import Monitor
from mad.promotion import Bounds, Exam
from mad.types import Dataset, Progress, Site

PiecesWatch: TypeAlias = Callable[[int, SpdFigures | ApdFigures], None]
"""Told of each step of taking layers apart: its number from 1, and its figures."""


@final
@dataclass(frozen=True)
class Deployment:
    """A monitored model and its settings."""

    settings: Settings
    model: MonitoredModel

    @staticmethod
    def load(config: Path) -> "Deployment":
        """Read a settings file and load the model it names; ConfigError if either cannot be."""
        return Deployment.of(Settings.load(config))

    @staticmethod
    def of(settings: Settings) -> "Deployment":
        """Build the monitored model and load its weights; ConfigError if it cannot be."""
        wanted = settings.model
        model = load_model(
            wanted.factory,
            wanted.weights,
            name=wanted.name,
            inputs=wanted.inputs,
            arguments=wanted.arguments,
            base=Path(),  # a factory's file is absolute in settings
        )
        return Deployment(settings, model)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that components need, as the settings' patterns stand for them."""
        if (own := self.attributed) is not None:
            return own.sites
        if (plan := self.parameters) is not None:
            names = [layer.name for layer in plan.layers]
            return (*names, *(f"{name}<" for name in names))
        return tuple(dict.fromkeys(chain.from_iterable(one.all_sites for one in self.wanted)))

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The dictionaries the settings ask for."""
        return recipes.all_wanted(self.model, self.settings)

    @property
    def parameters(self) -> SpdPlan | None:
        """How layers are taken apart, where the settings ask for that and not for dictionaries."""
        return recipes.parameters_plan(self.model, self.settings)

    @property
    def attributed(self) -> Attributed | None:
        """Components by attribution, where the settings ask for them."""
        return Attributed.of(self.settings, self.model)

    @property
    def plan(self) -> FitPlan:
        """How to fit its baseline."""
        return recipes.fit_plan(self.settings.baseline)

    @property
    def store(self) -> BaselineStore:
        """Where its baselines are."""
        return BaselineStore(self.settings.baseline.store)

    @property
    def unfinished(self) -> Unfinished:
        """Where a fit keeps what it has found, should it be killed."""
        where = self.settings.baseline.store
        # Beside the baselines; where those are not on this machine, beside the dictionaries.
        beside = where if isinstance(where, Path) else self.settings.decomposition.path
        return Unfinished(beside / f".{self.settings.baseline.name}.unfinished")

    @property
    def untrained(self) -> Unfinished:
        """Where a training of dictionaries keeps what it has, should it be killed."""
        wanted = self.settings.decomposition
        return Unfinished(
            wanted.path / ".unfinished",
            every_s=wanted.checkpoint_seconds,
            what="training",
            setting="decomposition.path",
        )

    @property
    def is_trained(self) -> bool:
        """Whether its components are on disk; ConfigError where those of another sort are."""
        return on_disk.has(self.settings.decomposition.path, self._sort)

    @property
    def seen(self) -> Int64[Tensor, " seen"]:
        """Digests of the inputs that trained its components; ConfigError where there are none."""
        return on_disk.load_seen(self.settings.decomposition.path)

    def trusted(self) -> Dataset:
        """Open the trusted data; arrays that are no input of the model are ignored."""
        return open_dataset(self.settings.data.trusted, names=self.model.inputs)

    def exam(self) -> Exam:
        """Open the inputs that are kept for the gates; ConfigError if they cannot be."""
        files = self.settings.promotion
        trusted, canaries = (
            open_dataset(paths, names=self.model.inputs) if paths else None
            for paths in (files.trusted, files.canaries)
        )
        return Exam(trusted=trusted, canaries=canaries, batch_size=self.settings.server.max_batch)

    @property
    def bounds(self) -> Bounds:
        """What a candidate is held against."""
        return recipes.bounds(self.settings)

    def rows(self, data: Dataset) -> Split:
        """Say which trusted inputs are for fitting and which for the reference."""
        return split(len(data), self.plan)

    def check(self, data: Dataset) -> None:
        """Refuse, before any work, what cannot become a baseline; ConfigError says why."""
        _ = self.sites
        if (own := self.attributed) is not None:
            own.check(data)
        if (plan := self.parameters) is not None:
            check_plan(self.model, plan)
        self.rows(data)
        self.store.prepare(self.settings.baseline.name)

    def train(
        self, data: Dataset, *, progress: Progress, watch: StepWatch = unwatched
    ) -> tuple[DictionaryFigures, ...]:
        """Train components on the fitting part of the trusted data, and write them.

        A training that was killed goes on where it was, if all that it depends on is the same.
        """
        if self._sort != "dictionaries":
            return self.take_apart(data, progress=progress)
        wanted, rows = self.settings.decomposition, self.rows(data).fitting
        _ = self.is_trained
        prepare_directory(wanted.path)
        trained = train_together(
            FileSource.open(wanted.activations, self.sites, self.model)
            if wanted.activations
            else ModelSource.of(self.model, self.sites, data, rows),
            self.wanted,
            seed=self.settings.baseline.seed,
            progress=progress,
            room=Room(bytes=wanted.buffer_mb * 1024**2),
            unfinished=self.untrained,
            watch=watch,
        )
        save_dictionaries(wanted.path, trained.dictionaries, seen=trained.seen)
        self.untrained.remove()
        return trained.figures

    def take_apart(
        self, data: Dataset, *, progress: Progress, watch: PiecesWatch = unwatched_pieces
    ) -> tuple[DictionaryFigures, ...]:
        """Take layers apart as the settings ask, and write the pieces; else as ``train``."""
        _ = self.is_trained
        if (own := self.attributed) is not None:
            rows, place = self.rows(data), self.untrained
            return own.train(data, rows, progress=progress, unfinished=place, watch=watch)
        wanted, plan = self.settings.decomposition, self.parameters
        assert plan is not None, "the settings ask for dictionaries"
        prepare_directory(wanted.path)
        how = recipes.read_out(self.settings)
        trained = train_parameters(
            self.model,
            partial(ParameterDecomposition.of, self.model.module, **how),
            data,
            plan,
            rows=self.rows(data).fitting,
            progress=progress,
            room_bytes=wanted.buffer_mb * 1024**2,
            unfinished=self.untrained,
            watch=watch,
        )
        save_parameters(wanted.path, trained.decomposition, seen=trained.seen)
        self.untrained.remove()
        return trained.figures

    def write_activations(
        self, data: Dataset, directory: Path, *, progress: Progress
    ) -> Sequence[Path]:
        """Write what the sites give for the fitting part of the trusted data."""
        rows, sites = self.rows(data).fitting, self.sites
        return write_activations(
            self.model, sites, data, rows=rows, directory=directory, progress=progress
        )

    def fit(self, data: Dataset, *, created: datetime, progress: Progress) -> Baseline:
        """Fit a baseline with the dictionaries on disk, and store it as the active version.

        A fit that was killed goes on where it was, if all that it depends on is the same.
        """
        if (own := self.attributed) is not None:
            own.take_rule(data, self.rows(data), progress=progress)
        seen, decomposition = self.seen, self.decomposition()
        check_unseen(data, self.plan, seen)
        fitted = fit(
            self.model,
            decomposition,
            data,
            self.plan,
            created=created,
            progress=progress,
            unfinished=self.unfinished,
        )
        saved = self.store.save(fitted)
        self.unfinished.remove()
        if (pieces := pieces_of(decomposition)) is not None:
            # As it was read out now, for whoever has the directory and not the settings.
            to, masked = self.settings.decomposition.path, recipes.masked_output(self.settings)
            save_parameters(to, pieces, seen=seen, masked_output=masked)
        return saved

    def decomposition(self) -> Decomposition:
        """Read its components; ConfigError if there are none, or of other sites or weights."""
        if (own := self.attributed) is not None:
            return own.decomposition()
        path = self.settings.decomposition.path
        if not self.is_trained:
            what = "dictionary" if self._sort == "dictionaries" else "decomposition"
            remedy = f"run `mad train {what}` or `mad fit`"
            raise ConfigError(f"there are no {self._sort} in {path}; {remedy}")
        found = on_disk.load_decomposition(path, self.model.module)
        pieces = pieces_of(found)
        if set(its := (pieces or found).sites) != set(asked := self.sites):
            differ = f"{', '.join(its)}, and the settings name {', '.join(asked)}"
            remedy = "name another path, or train again"
            raise ConfigError(f"the {self._sort} in {path} are of sites {differ}; {remedy}")
        return found if pieces is None else recipes.as_asked(pieces, self.model, self.settings)

    @property
    def _sort(self) -> on_disk.Sort:
        return self.settings.decomposition.sort

    def monitor(self, revision: str = "") -> Monitor:
        """Load a baseline, by default the active one of the settings' name, beside the model."""
        name, version = parse_revision(revision or self.settings.baseline.name)
        return Monitor.bind(self.model, self.decomposition(), self.store.load(name, version))
