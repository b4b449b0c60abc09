"""mad on one task: dictionaries trained, codes fitted, and every way of scoring asked for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeAlias, final

import torch

from mad.arrays import Table
from mad.bench.figures import Measured
from mad.bench.tasks import Task, batches
from mad.components.base import Decomposition
from mad.components.dictionaries.train import DictionaryPlan
from mad.components.joined import Joined
from mad.errors import ConfigError
from mad.fit import FitPlan, Split, fit, train_dictionaries
from mad.scoring import ContextRule, Scorer
from mad.types import Bits, Inputs, Ledger, Progress, Term

Clock: TypeAlias = Callable[[], float]


@final
@dataclass(frozen=True)
class Configuration:
    """A way to score: what codes are conditioned on, and which terms of the ledger count."""

    context: ContextRule
    terms: tuple[Term, ...]


DEFAULT = "default"

CONFIGURATIONS: Mapping[str, Configuration] = {
    DEFAULT: Configuration("predicted", ("set", "residual", "neighbours")),
    "independent": Configuration("none", ("set", "residual", "neighbours")),
    "set": Configuration("predicted", ("set",)),
    "residual": Configuration("predicted", ("residual",)),
    "neighbours": Configuration("predicted", ("neighbours",)),
}


@final
@dataclass(frozen=True)
class Plans:
    """How dictionaries are trained and a baseline is fitted, the same for every task."""

    fit: FitPlan
    dictionary: DictionaryPlan

    @staticmethod
    def usual(*, seed: int) -> "Plans":
        """What an operator who sets nothing gets."""
        return Plans(FitPlan(name="bench"), DictionaryPlan()).seeded(seed)

    def seeded(self, seed: int) -> "Plans":
        """Return the same plans with another seed."""
        return Plans(replace(self.fit, seed=seed), replace(self.dictionary, seed=seed))


def check_names(configurations: Sequence[str]) -> None:
    """Raise ConfigError when one of these is no configuration's name."""
    for name in configurations:
        if name not in CONFIGURATIONS:
            raise ConfigError(f"configuration {name!r} is none of {', '.join(CONFIGURATIONS)}")


def measure_own(
    task: Task,
    rows: Split,
    names: Iterable[str],
    plans: Plans,
    *,
    progress: Progress,
    clock: Clock,
) -> dict[str, Measured]:
    """Train dictionaries once, fit once for each context, and count terms for each name."""
    start = clock()
    trained = train_dictionaries(
        task.model,
        task.sites,
        Table(task.trusted),
        plans.dictionary,
        rows=rows.fitting,
        progress=progress,
    )
    train_seconds = clock() - start
    scored: dict[ContextRule, _Scored] = {}
    measured: dict[str, Measured] = {}
    for name in names:
        wanted = CONFIGURATIONS[name]
        if wanted.context not in scored:
            own_plan = replace(plans.fit, context=wanted.context)
            one = _score_all(
                task, Joined(trained.dictionaries), rows, own_plan, progress=progress, clock=clock
            )
            scored[wanted.context] = replace(one, fit_seconds=train_seconds + one.fit_seconds)
        method = "mad" if name == DEFAULT else f"mad:{name}"
        measured[method] = scored[wanted.context].measured(wanted.terms)
    return measured


@final
@dataclass(frozen=True)
class _Scored:
    """The ledgers that one fit gives every test and the reference."""

    ledgers: Mapping[str, Ledger]
    fit_seconds: float
    ms_per_1000: float

    def measured(self, terms: tuple[Term, ...]) -> Measured:
        """Let only some terms count; the reference is ranked by the same ones."""
        scores = {name: _bits(ledger, terms) for name, ledger in self.ledgers.items()}
        return Measured(scores, self.fit_seconds, self.ms_per_1000)


def _score_all(
    task: Task,
    decomposition: Decomposition,
    rows: Split,
    plan: FitPlan,
    *,
    progress: Progress,
    clock: Clock,
) -> _Scored:
    """Fit a baseline and score the reference and every test, without explaining alerts."""
    data = Table(task.trusted)
    start = clock()
    baseline = fit(
        task.model, decomposition, data, plan, created=datetime.now(UTC), progress=progress
    )
    fit_seconds = clock() - start
    scorer = Scorer(task.model, decomposition, baseline.parts, plan.context)
    start = clock()
    asked = {"reference": data.take(rows.reference), **task.tests}
    ledgers: dict[str, Ledger] = {}
    for done, (name, inputs) in enumerate(asked.items()):
        progress("scoring", done=done, total=len(asked), note=name)
        ledgers[name] = _ledger(scorer, inputs, plan.batch_size)
    progress("scoring", done=len(asked), total=len(asked))
    count = sum(len(ledger.bits) for ledger in ledgers.values())
    return _Scored(ledgers, fit_seconds, 1e6 * (clock() - start) / count)


def _ledger(scorer: Scorer, inputs: Inputs, batch_size: int) -> Ledger:
    parts = [scorer.score(batch).ledger for batch in batches(inputs, size=batch_size)]
    return Ledger(parts[0].keys, torch.cat([part.bits for part in parts]))


def _bits(ledger: Ledger, terms: tuple[Term, ...]) -> Bits:
    columns = [place for place, (_, term) in enumerate(ledger.keys) if term in terms]
    return ledger.bits[:, columns].sum(dim=1)
