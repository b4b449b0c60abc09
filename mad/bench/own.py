"""mad on one task: dictionaries trained, codes fitted, and every way of scoring asked for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeAlias, final, get_args

from mad.arrays import Table
from mad.bench.figures import Measured
from mad.bench.tasks import Task, batches
from mad.calibration.weighing import Weighing
from mad.codes.accounting import joined
from mad.components.base import Decomposition
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.joined import Joined
from mad.errors import ConfigError
from mad.fit import FitPlan, Split, fit, train_dictionaries
from mad.scoring import ContextRule, Scorer
from mad.types import MEASURES, Inputs, Ledger, Measure, Progress, Term

Clock: TypeAlias = Callable[[], float]


@final
@dataclass(frozen=True)
class Configuration:
    """A way to score: what codes are conditioned on, and which terms of the ledger count."""

    context: ContextRule
    terms: tuple[Term, ...]


DEFAULT = "default"
TERMS: tuple[Term, ...] = get_args(Term)

CONFIGURATIONS: Mapping[str, Configuration] = {
    DEFAULT: Configuration("predicted", TERMS),
    "independent": Configuration("none", TERMS),
    "set": Configuration("predicted", ("set",)),
    "output": Configuration("predicted", ("output",)),
    "residual": Configuration("predicted", ("residual",)),
    "neighbours": Configuration("predicted", ("neighbours",)),
}


@final
@dataclass(frozen=True)
class Plans:
    """How dictionaries are trained and a baseline is fitted, the same for every task.

    ``decomposition_steps`` is how long a parameter decomposition is trained.
    """

    fit: FitPlan
    dictionary: DictionaryPlan
    decomposition_steps: int = 1_500

    @staticmethod
    def usual(*, seed: int) -> "Plans":
        """What an operator who sets nothing gets."""
        return Plans(FitPlan(name="bench"), DictionaryPlan()).seeded(seed)

    def seeded(self, seed: int) -> "Plans":
        """Return the same plans with another seed."""
        return replace(
            self,
            fit=replace(self.fit, seed=seed),
            dictionary=replace(self.dictionary, seed=seed),
        )


def check_names(configurations: Sequence[str]) -> None:
    """Raise ConfigError when one of these is no configuration's name."""
    for name in configurations:
        if name not in CONFIGURATIONS:
            raise ConfigError(f"configuration {name!r} is none of {', '.join(CONFIGURATIONS)}")


def fit_own(
    task: Task,
    rows: Split,
    names: Iterable[str],
    plans: Plans,
    *,
    progress: Progress,
    clock: Clock,
) -> "dict[ContextRule, Scored]":
    """Train dictionaries once, and fit and score once for each context that names need."""
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
    scored: dict[ContextRule, Scored] = {}
    for rule in dict.fromkeys(CONFIGURATIONS[name].context for name in names):
        own_plan = replace(plans.fit, context=rule)
        one = score_all(
            task, Joined(trained.dictionaries), rows, own_plan, progress=progress, clock=clock
        )
        scored[rule] = replace(one, fit_seconds=train_seconds + one.fit_seconds)
    return scored


def measure_own(
    scored: "Mapping[ContextRule, Scored]", names: Iterable[str]
) -> dict[str, Measured]:
    """Count the terms of each name.

    The default's two other measures, ``mad:mechanism`` and ``mad:novelty``, come with it.

    Raises:
        ConfigError: codes have none of the terms that a configuration counts.
    """
    measured: dict[str, Measured] = {}
    for name in names:
        wanted = CONFIGURATIONS[name]
        found = scored[wanted.context].measured(wanted.terms)
        if name == DEFAULT:
            measured |= {_METHODS[measure]: one for measure, one in found.items()}
        else:
            measured[f"mad:{name}"] = found["surprise"]
    return measured


_METHODS: Mapping[Measure, str] = {
    "surprise": "mad",
    "mechanism": "mad:mechanism",
    "novelty": "mad:novelty",
}


@final
@dataclass(frozen=True)
class Scored:
    """The ledgers that one fit gives every test, the reference and what weighs parts."""

    ledgers: Mapping[str, Ledger]
    fit_seconds: float
    ms_per_1000: float

    def measured(self, terms: tuple[Term, ...]) -> dict[Measure, Measured]:
        """Let only some terms count, weighed and ranked by themselves."""
        ledgers = {name: _only(ledger, terms) for name, ledger in self.ledgers.items()}
        weighing = Weighing.fit(ledgers.pop("weighing"))
        weighed = {name: weighing.weigh(ledger) for name, ledger in ledgers.items()}
        return {
            measure: Measured(
                {name: getattr(one, measure) for name, one in weighed.items()},
                self.fit_seconds,
                self.ms_per_1000,
            )
            for measure in MEASURES
        }


def measure_decomposition(
    task: Task,
    decomposition: Decomposition,
    rows: Split,
    plan: FitPlan,
    *,
    progress: Progress,
    clock: Clock,
) -> dict[Measure, Measured]:
    """Fit a baseline of all terms to a decomposition, and measure by each measure.

    ``fit_seconds`` are those of the baseline alone.
    """
    scored = score_all(task, decomposition, rows, plan, progress=progress, clock=clock)
    return scored.measured(TERMS)


def score_all(
    task: Task,
    decomposition: Decomposition,
    rows: Split,
    plan: FitPlan,
    *,
    progress: Progress,
    clock: Clock,
) -> Scored:
    """Fit a baseline and score what was held out and every test, without explaining alerts."""
    data = Table(task.trusted)
    start = clock()
    baseline = fit(
        task.model, decomposition, data, plan, created=datetime.now(UTC), progress=progress
    )
    fit_seconds = clock() - start
    scorer = Scorer(task.model, decomposition, baseline.parts, plan.context, plan.activity)
    start = clock()
    asked = {
        "weighing": data.take(rows.weighing),
        "reference": data.take(rows.reference),
        **task.tests,
    }
    ledgers: dict[str, Ledger] = {}
    for done, (name, inputs) in enumerate(asked.items()):
        progress("scoring", done=done, total=len(asked), note=name)
        ledgers[name] = _ledger(scorer, inputs, plan.batch_size)
    progress("scoring", done=len(asked), total=len(asked))
    count = sum(len(ledger.bits) for ledger in ledgers.values())
    return Scored(ledgers, fit_seconds, 1e6 * (clock() - start) / count)


def _ledger(scorer: Scorer, inputs: Inputs, batch_size: int) -> Ledger:
    return joined(scorer.score(batch).ledger for batch in batches(inputs, size=batch_size))


def _only(ledger: Ledger, terms: tuple[Term, ...]) -> Ledger:
    columns = [place for place, (_, term) in enumerate(ledger.keys) if term in terms]
    if not columns:
        raise ConfigError(f"these codes have no term {' or '.join(terms)}; ask for another")
    keys = tuple(ledger.keys[place] for place in columns)
    return Ledger(keys, ledger.bits[:, columns], ledger.marginal[:, columns])
