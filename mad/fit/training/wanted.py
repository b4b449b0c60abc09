"""What is to be trained: from a form, sites and a plan to one job a view."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final

from mad.components.dictionaries.attention.training import AttentionPlan
from mad.components.dictionaries.bilinear import BilinearPlan
from mad.components.dictionaries.look import Look
from mad.components.dictionaries.meta import meta_look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.pooling import Pooling, poolings
from mad.errors import ConfigError
from mad.types import Activations, Site, View

Form: TypeAlias = Literal["autoencoder", "transcoder", "crosscoder"]
"""What is explained from what: each site from itself, each from its source, all from all."""

Positions: TypeAlias = Literal["pooled", "all"]
"""Which vectors train: those that are read later, or that of every position of a sequence."""

Objective: TypeAlias = Literal["reconstruction", "end_to_end"]
"""What is learned from: the vectors alone, or the model's answer with them in their place."""

LayerPlan: TypeAlias = AttentionPlan | BilinearPlan
"""How a whole layer of the model is taken apart, where that is what is wanted."""


@final
@dataclass(frozen=True)
class Slot:
    """The vectors of one site that a buffer holds, which several dictionaries may share."""

    site: Site
    pooling: Pooling
    positions: Positions


@final
@dataclass(frozen=True)
class Job:
    """One dictionary to train, and a meta-dictionary beside it where the plan has a width of one.

    With a ``layer`` it is an attention block or a bilinear layer's dictionary, and the plan unused.
    """

    look: Look
    plan: DictionaryPlan
    positions: Positions = "pooled"
    objective: Objective = "reconstruction"
    layer: LayerPlan | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether it is trained on vectors from the buffer."""
        return self.layer is None and self.objective == "reconstruction"

    @property
    def is_buffered(self) -> bool:
        """Whether the buffer holds vectors of it, to measure it on if not to train it."""
        return not isinstance(self.layer, AttentionPlan)

    @property
    def is_joint(self) -> bool:
        """Whether its meta-dictionary is trained with it, and not afterwards."""
        return self.is_streamed and self.plan.meta_width > 0 and self.plan.meta_weight != 0

    @property
    def trained_plan(self) -> DictionaryPlan:
        """The plan, without a meta-dictionary that is trained afterwards."""
        return self.plan if self.is_joint else replace(self.plan, meta_width=0)

    @property
    def views(self) -> tuple[View, ...]:
        """Every view it comes to, but for that of a second dictionary."""
        meta = meta_look(self.look).views if self.plan.meta_width else ()
        return (*self.look.views, *meta)

    @property
    def reads(self) -> tuple[Slot, ...]:
        """The slots it encodes, joined end to end."""
        return tuple(Slot(site, self.look.pooling, self.positions) for site in self.look.reads)

    @property
    def writes(self) -> tuple[Slot, ...]:
        """The slots it explains, joined end to end."""
        return tuple(Slot(site, self.look.pooling, self.positions) for site in self.look.writes)


@final
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One dictionary for each of some sites, or one for all of them where it is a crosscoder.

    ``sources`` are what transcoders read, one for each site; a ``layer`` goes from source to site
    as they do. ``suffix`` names the views.
    """

    plan: DictionaryPlan
    sites: tuple[Site, ...]
    form: Form = "autoencoder"
    sources: tuple[Site, ...] = ()
    positions: Positions = "pooled"
    objective: Objective = "reconstruction"
    layer: LayerPlan | None = None
    suffix: str = ""

    @property
    def all_sites(self) -> tuple[Site, ...]:
        """Every site needed."""
        return tuple(dict.fromkeys(self.sites + self.sources))

    def jobs(self, activations: Activations) -> list[Job]:
        """Return one job for each pooling that the plan asks for at activations of this shape.

        Raises:
            ConfigError: there are not as many sources as sites.
        """
        return [
            Job(
                Look(reads, writes, pooling, _joined(suffix, self.suffix)),
                self.plan,
                self.positions,
                self.objective,
                self.layer,
            )
            for reads, writes in self._pairs()
            for suffix, pooling in poolings(activations[writes[0]], self.plan.pooling).items()
            # No maximum over positions is what a layer writes.
            if self.layer is None or not suffix
        ]

    def _pairs(self) -> Sequence[tuple[tuple[Site, ...], tuple[Site, ...]]]:
        match self.form:
            case "autoencoder":
                return [((site,), (site,)) for site in self.sites]
            case "crosscoder":
                return [(self.sites, self.sites)]
            case "transcoder":
                if len(self.sources) != len(self.sites):
                    raise ConfigError(
                        f"a transcoder reads one source for each site, got {len(self.sources)} "
                        f"sources {list(self.sources)} for {len(self.sites)} sites "
                        f"{list(self.sites)}: name as many, in the same order"
                    )
                pairs = zip(self.sources, self.sites, strict=True)
                return [((source,), (site,)) for source, site in pairs]


def jobs_of(wanted: Sequence[Wanted], activations: Activations) -> list[Job]:
    """Return every job; ConfigError where two would bear one name."""
    jobs = [job for one in wanted for job in one.jobs(activations)]
    views = [view for job in jobs for view in job.views]
    twice = sorted({view for view in views if views.count(view) > 1})
    if twice:
        raise ConfigError(
            f"two dictionaries would be called {', '.join(map(repr, twice))}; give one of them a "
            "suffix of its own"
        )
    return jobs


def _joined(*suffixes: str) -> str:
    return ":".join(filter(None, suffixes))
