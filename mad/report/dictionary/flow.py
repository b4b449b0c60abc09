"""The examination, top to bottom: model, dictionaries and trusted data in, a report out.

A sample of the fitting inputs teaches codes and means, another of inputs that no dictionary has
seen measures everything.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from mad.capture.hooks import Run, capture
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.kinds.relu import ReLUEncoder
from mad.components.dictionaries.kinds.switch import SwitchEncoder
from mad.components.dictionaries.recovery import Recovery, recovery
from mad.components.joined import Joined
from mad.errors import ConfigError
from mad.fit.reading import batches, try_out
from mad.report.dictionary.figures import Reconstruction, Use
from mad.report.dictionary.length import length
from mad.report.dictionary.observed import Observed
from mad.report.dictionary.report import Comparison, DictionaryReport, Examined
from mad.report.dictionary.router import router
from mad.report.dictionary.similarity import Codes, similarity
from mad.report.dictionary.splice import Answered, SpliceSums, splice
from mad.types import Activity, Dataset, Inputs, Progress, Site, View

SAMPLE = 4_096
"""Fitting inputs, and held-out inputs, that are looked at, at most: their activity is in memory."""

BATCH = 256


@final
@dataclass(frozen=True)
class Asked:
    """What else to look at, and how finely.

    ``other`` is a second decomposition of the same model to compare with, ``truth`` known
    directions by view, and ``labels`` the true label of each input, under any one name.
    ``relative_step`` is the grid of descriptions, as a share of each view's deviation.
    """

    other: Decomposition | None = None
    truth: Mapping[View, Float[Tensor, "known coordinate"]] = field(default_factory=dict)
    labels: Dataset | None = None
    relative_step: float = 0.01
    seed: int = 0

    def labels_of(self, rows: Int64[Tensor, " batch"]) -> Shaped[Tensor, "batch ..."] | None:
        """Return the true labels of some rows, None where they are not known."""
        return None if self.labels is None else next(iter(self.labels.take(rows).values()))


@final
@dataclass(frozen=True)
class Source:
    """A model, the decomposition to examine, and trusted data.

    ``fitting`` and ``held_out`` are disjoint ascending rows; no dictionary has seen the latter.
    """

    model: MonitoredModel
    decomposition: Decomposition
    data: Dataset
    fitting: Int64[Tensor, " fitting"]
    held_out: Int64[Tensor, " held_out"]

    def sampled(self, seed: int) -> "Source":
        """Return the same with no more rows than are looked at."""
        generator = torch.Generator().manual_seed(seed)
        fitting, held_out = (
            rows[torch.randperm(len(rows), generator=generator)[:SAMPLE]].sort().values
            for rows in (self.fitting, self.held_out)
        )
        return Source(self.model, self.decomposition, self.data, fitting, held_out)

    def runs(
        self, rows: Int64[Tensor, " rows"], sites: Sequence[Site], stage: str, progress: Progress
    ) -> Iterator[tuple[Int64[Tensor, " batch"], Inputs, Run]]:
        """Run the model on some rows, a batch at a time; ConfigError if it gives no numbers."""
        for chosen, inputs in batches(self.data, rows, BATCH, stage, progress):
            run = capture(self.model, sites, inputs)
            for site, activation in run.activations.items():
                if not activation.isfinite().all():
                    raise ConfigError(
                        f"site {site!r} gives NaN or infinite numbers on trusted inputs; take the "
                        "inputs out that do this, or name another site"
                    )
            yield chosen, inputs, run


def examine(source: Source, asked: Asked, *, progress: Progress) -> DictionaryReport:
    """Examine each dictionary, and compare it with each other one.

    The same data and plan give the same report.

    Raises:
        ConfigError: there is no dictionary, known directions or labels are of other shapes, the
            model fails on the data, or a site gives no numbers.
    """
    own, skipped = dictionaries(source.decomposition)
    others, _ = dictionaries(asked.other, mark=" (other)") if asked.other else ({}, ())
    if not own:
        raise ConfigError(f"no dictionary among the views {', '.join(skipped)}; train one")
    _check(own, asked.truth)
    source = source.sampled(asked.seed)
    try_out(source.model, _sites({**own, **others}), source.data)
    known = _fitting(source, own, progress)
    seen = _held_out(source, own, others, asked, known, progress=progress)
    examined = tuple(_examined(name, one, known, seen, asked) for name, one in own.items())
    pairs = [*combinations(own, 2), *product(own, others)]
    return DictionaryReport(
        model=source.model.name,
        fitting_inputs=len(source.fitting),
        held_out_inputs=len(source.held_out),
        dictionaries=examined,
        comparisons=_comparisons({**own, **others}, pairs, seen.observed, seed=asked.seed),
        skipped=skipped,
    )


@final
@dataclass(frozen=True)
class _HeldOut:
    observed: Mapping[str, Observed]
    splices: Mapping[str, SpliceSums]
    routed: Mapping[str, Float[Tensor, "batch source"]]
    """What Switch dictionaries read, normalised."""


def dictionaries(
    decomposition: Decomposition, *, mark: str = ""
) -> tuple[dict[str, Dictionary], tuple[View, ...]]:
    """Return the dictionaries by view, with a mark behind it, and the views of what is none."""
    parts = decomposition.parts if isinstance(decomposition, Joined) else (decomposition,)
    found = {part.view + mark: part for part in parts if isinstance(part, Dictionary)}
    rest = [view for part in parts if not isinstance(part, Dictionary) for view in part.views]
    return found, tuple(rest)


def _sites(dictionaries: Mapping[str, Dictionary]) -> tuple[Site, ...]:
    return tuple(dict.fromkeys(site for one in dictionaries.values() for site in one.sites))


def _check(
    own: Mapping[str, Dictionary], truth: Mapping[View, Float[Tensor, "known coordinate"]]
) -> None:
    """Refuse known directions of no dictionary, before any work."""
    for view, known in truth.items():
        if view not in own:
            raise ConfigError(f"directions {view!r} are of no dictionary; name {', '.join(own)}")
        if known.shape[1] != own[view].decoder.shape[1]:
            raise ConfigError(
                f"directions {view!r} have {known.shape[1]} coordinates, and the dictionary "
                f"explains {own[view].decoder.shape[1]}"
            )


def _fitting(
    source: Source, own: Mapping[str, Dictionary], progress: Progress
) -> dict[str, Observed]:
    found: dict[str, list[Mapping[View, Activity]]] = defaultdict(list)
    runs = source.runs(source.fitting, _sites(own), "looking at fitting inputs", progress)
    for _, _, run in runs:
        for name, one in own.items():
            found[name].append(one.activity(run.activations))
    return {name: Observed.of(one, found[name]) for name, one in own.items()}


def _held_out(
    source: Source,
    own: Mapping[str, Dictionary],
    others: Mapping[str, Dictionary],
    asked: Asked,
    known: Mapping[str, Observed],
    *,
    progress: Progress,
) -> _HeldOut:
    found: dict[str, list[Mapping[View, Activity]]] = defaultdict(list)
    splices: dict[str, SpliceSums] = {}
    routed: dict[str, list[Tensor]] = defaultdict(list)
    means = {name: one.target.mean(dim=0) for name, one in known.items()}
    both = {**own, **others}
    runs = source.runs(source.held_out, _sites(both), "measuring on held-out inputs", progress)
    for rows, inputs, run in runs:
        for name, one in both.items():
            found[name].append(one.activity(run.activations))
            if isinstance(one.encoder, SwitchEncoder):
                read = one.look.examples(run.activations).source
                routed[name].append(one.source.normalised(read))
        answered = Answered.of(inputs, run.outputs, asked.labels_of(rows))
        if answered is None:
            continue
        for name, one in own.items():
            sums = splice(source.model, one, answered, found[name][-1], means[name])
            splices[name] = splices[name].merge(sums) if name in splices else sums
    observed = {name: Observed.of(one, found[name]) for name, one in both.items()}
    return _HeldOut(observed, splices, {name: torch.cat(read) for name, read in routed.items()})


def _examined(
    name: str,
    one: Dictionary,
    known: Mapping[str, Observed],
    seen: _HeldOut,
    asked: Asked,
) -> Examined:
    observed = seen.observed[name]
    inputs = len(known[name].activity) + len(observed.activity)
    return Examined(
        view=name,
        kind=one.encoder.kind,
        reads=one.look.reads,
        writes=one.look.writes,
        width=one.width,
        coordinates=sum(one.widths),
        shrunk=one.encoder.shrunk if isinstance(one.encoder, ReLUEncoder) else None,
        reconstruction=Reconstruction.of(observed, one.target.centre),
        use=Use.of(observed),
        length=length(known[name], observed, relative_step=asked.relative_step, inputs=inputs),
        splice=seen.splices[name].means if name in seen.splices else None,
        truth=_found(asked.truth[name], one) if name in asked.truth else None,
        router=router(one, seen.routed[name]) if name in seen.routed else None,
    )


def _found(known: Float[Tensor, "known target"], one: Dictionary) -> Recovery:
    # Sites of a crosscoder have a scale each; so compared, none of them drowns the others.
    return recovery(known / one.target.scale, one.decoder)


def _comparisons(
    dictionaries: Mapping[str, Dictionary],
    pairs: Sequence[tuple[str, str]],
    observed: Mapping[str, Observed],
    *,
    seed: int,
) -> tuple[Comparison, ...]:
    codes = {name: Codes.of(observed[name]) for pair in pairs for name in pair}
    generator = np.random.default_rng(seed)
    return tuple(
        Comparison(
            first,
            second,
            similarity(codes[first], codes[second], generator=generator),
            _shared(dictionaries[first], dictionaries[second], observed[first]),
        )
        for first, second in pairs
    )


def _shared(first: Dictionary, second: Dictionary, observed: Observed) -> Recovery | None:
    living = observed.living
    # Directions at different sites have nothing in common, even where they are as wide.
    is_same_space = (first.look.writes, first.widths) == (second.look.writes, second.widths)
    if not (is_same_space and len(living)):
        return None
    return recovery(first.decoder[living], second.decoder)
