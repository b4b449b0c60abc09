"""Components by attribution, as settings ask: trained, kept in a directory, and read out.

A rule is taken from trusted inputs once and kept beside the components. Where the settings ask for
another, or components came without one, the next fit takes it; nothing is trained again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import final

import torch

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.files import prepare_directory
from mad.components.dictionaries.plan import DictionaryFigures
from mad.components.parameters.apd.files import INDEX, Kept, load_components, save_components
from mad.components.parameters.apd.plan import ApdPlan, HiddenPlan
from mad.components.parameters.apd.readout import ApdDecomposition
from mad.components.parameters.apd.rules import Asked
from mad.components.parameters.layers import matrix_of
from mad.components.parameters.looked import INPUT
from mad.config import Settings
from mad.errors import ConfigError
from mad.fit import Split, Unfinished
from mad.fit.apart import measured, unwatched
from mad.fit.attributed import ApdWatch, check_components, read_out, train_components
from mad.recipes import layers_of
from mad.types import Dataset, Progress, Site


@final
@dataclass(frozen=True)
class Attributed:
    """A model and the settings that ask for components by attribution."""

    settings: Settings
    model: MonitoredModel
    plan: ApdPlan

    @staticmethod
    def of(settings: Settings, model: MonitoredModel) -> "Attributed | None":
        """Return what settings ask for, None if it is something else; ConfigError if it cannot be.

        ConfigError is raised for a pattern that names no layer, or a number out of its range.
        """
        plan = plan_of(settings, model)
        return None if plan is None else Attributed(settings, model, plan)

    @property
    def sites(self) -> tuple[Site, ...]:
        """What comes out of each layer, what goes into it, and what goes into the model."""
        return (*self.plan.layers, *(f"{name}<" for name in self.plan.layers), INPUT)

    def check(self, data: Dataset) -> None:
        """Refuse, before any training, what cannot be trained; ConfigError says why."""
        check_components(self.model, self.plan, data)

    def train(
        self,
        data: Dataset,
        rows: Split,
        *,
        progress: Progress,
        unfinished: Unfinished,
        watch: ApdWatch = unwatched,
    ) -> tuple[DictionaryFigures, ...]:
        """Train components, take their rule, and write both.

        A training that was killed goes on where it was, if all that it depends on is the same.
        """
        wanted = self.settings.decomposition
        prepare_directory(wanted.path)
        trained = train_components(
            self.model,
            data,
            self.plan,
            rows=rows.fitting,
            progress=progress,
            room_bytes=wanted.buffer_mb * 1024**2,
            unfinished=unfinished,
            watch=watch,
        )
        kept = self._read(Kept(trained.components, None, trained.seen), data, rows, progress)
        figures = measured(self.model, kept.beside(self.model.module), data, rows.fitting)
        save_components(wanted.path, kept, self.model.module)
        unfinished.remove()
        return figures

    def take_rule(self, data: Dataset, rows: Split, *, progress: Progress) -> None:
        """Take the rule that the settings ask for, and keep it, unless it is there."""
        kept = self._kept()
        if kept.read_out is None or kept.read_out.asked != self._asked:
            changed = self._read(kept, data, rows, progress)
            save_components(self.settings.decomposition.path, changed, self.model.module)

    def decomposition(self) -> ApdDecomposition:
        """Read the components; ConfigError if there are none, or read out otherwise than asked."""
        kept, path = self._kept(), self.settings.decomposition.path
        found = kept.beside(self.model.module)
        if kept.read_out is not None and kept.read_out.asked != self._asked:
            was = kept.read_out.asked
            raise ConfigError(
                f"the components in {path} are read out with active = {was.active:g} and "
                f"thresholds = {was.thresholds!r}, and the settings ask for {self._asked.active:g} "
                f"and {self._asked.thresholds!r}: run `mad fit`, which takes thresholds anew"
            )
        return found

    @property
    def missed(self) -> Mapping[Site, float]:
        """The share of each layer's squares that components on disk do not add up to."""
        return {
            name: factors.missed(matrix_of(self.model.module, factors.layer))
            for name, factors in self._kept().components.items()
        }

    @property
    def _asked(self) -> Asked:
        asked = self.settings.decomposition.attributions
        assert asked is not None, "a plan was made of it"
        return Asked(asked.thresholds, asked.active)

    def _kept(self) -> Kept:
        path = self.settings.decomposition.path
        if not (path / INDEX).is_file():
            raise ConfigError(
                f"there are no components in {path}; run `mad train decomposition` or `mad fit`"
            )
        kept = load_components(path, self.model.module)
        if set(kept.components) != set(self.plan.layers):
            raise ConfigError(
                f"the components in {path} are of layers {', '.join(kept.components)}, and the "
                f"settings name {', '.join(self.plan.layers)}; name another path, or train again"
            )
        return kept

    def _read(self, kept: Kept, data: Dataset, rows: Split, progress: Progress) -> Kept:
        rule, looked_at = read_out(
            self.model, kept.components, self._asked, data, rows=rows.fitting, progress=progress
        )
        return replace(kept, read_out=rule, seen=torch.cat([kept.seen, looked_at]).unique())


def plan_of(settings: Settings, model: MonitoredModel) -> ApdPlan | None:
    """Return how a model is taken apart by attribution; None if settings ask for something else.

    Raises:
        ConfigError: a pattern names no layer, or none that can be taken apart, or a number is out
            of its range.
    """
    asked = settings.decomposition.attributions
    if asked is None:
        return None
    names = tuple(dict.fromkeys(chain(*(layers_of(model, pattern) for pattern in asked.layers))))
    compared = chain(*(layers_of(model, pattern) for pattern in asked.hidden_layers))
    hidden = HiddenPlan(
        layers=tuple(dict.fromkeys(compared)) or names,
        coefficient=asked.hidden,
        relu=asked.hidden_relu,
    )
    return ApdPlan(
        layers=names,
        components=asked.components,
        active=asked.active,
        ties=asked.ties,
        rank=asked.rank,
        selection=asked.selection,
        attributed=asked.attributed,
        faithfulness_coefficient=asked.faithfulness,
        minimality_coefficient=asked.minimality,
        simplicity_coefficient=asked.simplicity,
        p=asked.p,
        hidden=hidden if asked.hidden else None,
        unit_norm=asked.unit_norm,
        rate=asked.learning_rate,
        schedule=asked.schedule,
        warm_up=asked.warm_up,
        steps=asked.steps,
        batch_size=asked.batch_size,
        starts=asked.starts,
        seed=settings.baseline.seed,
    )
