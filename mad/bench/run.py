"""One task in, every method's figures on it out: the same rule and settings for every task."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import final

from mad.arrays import Table
from mad.bench.figures import Figures, Measured, figures
from mad.bench.kinds import measure_kinds
from mad.bench.offline import measure_offline
from mad.bench.own import (
    CONFIGURATIONS,
    DEFAULT,
    Clock,
    Plans,
    check_names,
    fit_own,
    measure_own,
)
from mad.bench.parameters import measure_parameters
from mad.bench.peers.measure import measure_peers
from mad.bench.seen import see_task
from mad.bench.tasks import Task
from mad.components.dictionaries.plan import Kind
from mad.fit import split
from mad.types import Progress


@final
@dataclass(frozen=True)
class Asked:
    """What to measure beside mad's default: configurations, kinds of dictionaries, others' methods.

    ``parameters`` asks for a parameter decomposition, ``seeds`` says how many fits.
    """

    configurations: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    parameters: bool = False
    peers: bool = False
    seeds: int = 1


@final
@dataclass(frozen=True)
class Result:
    """Every method's figures on one task; ``settings`` is what the default configuration was.

    ``offline`` are methods that read the inputs they judge, which online ones never do.
    ``first`` is what each online method scored with the first seed.
    """

    task: str
    settings: Mapping[str, object]
    figures: Mapping[str, Figures]
    offline: Mapping[str, Figures]
    first: Mapping[str, Measured]


def run(
    task: Task,
    plans: Plans,
    asked: Asked = Asked(),
    *,
    progress: Progress,
    clock: Clock = time.perf_counter,
) -> Result:
    """Fit on the task's trusted inputs, score its test inputs, and measure.

    The default configuration always runs, as ``mad``; others are named ``mad:NAME``. Each further
    seed splits, trains and fits anew. A kind of dictionary is named ``mad:KIND``, and its mechanism
    ``mad:KIND:mechanism``; a parameter decomposition is ``mad:parameters``. The same task and plans
    give the same figures, but for times.

    Raises:
        ConfigError: there is no configuration of that name, or too few trusted inputs.
    """
    check_names(asked.configurations)
    seeds = range(plans.fit.seed, plans.fit.seed + asked.seeds)
    fits = [
        _measure(task, plans.seeded(seed), asked, progress=progress, clock=clock) for seed in seeds
    ]
    return Result(
        task=task.name,
        settings={
            **asdict(CONFIGURATIONS[DEFAULT]),
            "false_alarm_rate": plans.fit.false_alarm_rate,
            "weighing_share": plans.fit.weighing_share,
            "reference_share": plans.fit.reference_share,
            "seed": plans.fit.seed,
            "seeds": list(seeds),
            "dictionary": asdict(plans.dictionary),
        },
        figures=_figures([one.online for one in fits], seed=plans.fit.seed),
        offline=_figures([one.offline for one in fits], seed=plans.fit.seed),
        first=fits[0].online,
    )


def is_own(method: str) -> bool:
    """Say whether a method is mad, and no peer."""
    return method == "mad" or method.startswith("mad:")


@final
@dataclass(frozen=True)
class _Fit:
    """What every method scored with one seed."""

    online: Mapping[str, Measured]
    offline: Mapping[str, Measured]


def _measure(task: Task, plans: Plans, asked: Asked, *, progress: Progress, clock: Clock) -> _Fit:
    rows = split(len(Table(task.trusted)), plans.fit)
    names = dict.fromkeys((DEFAULT, *asked.configurations))
    scored = fit_own(task, rows, names, plans, progress=progress, clock=clock)
    online = measure_own(scored, names)
    if asked.parameters:
        default = scored[CONFIGURATIONS[DEFAULT].context]
        online |= measure_parameters(task, rows, plans, default, progress=progress, clock=clock)
    online |= measure_kinds(task, rows, asked.kinds, plans, progress=progress, clock=clock)
    if not asked.peers:
        return _Fit(online, {})
    seen = see_task(task, rows, plans.dictionary.pooling, clock=clock)
    seed = plans.fit.seed
    online |= measure_peers(
        seen, is_classifier=task.is_classifier, seed=seed, progress=progress, clock=clock
    )
    return _Fit(online, measure_offline(seen, seed=seed, clock=clock))


def _figures(fits: Sequence[Mapping[str, Measured]], *, seed: int) -> dict[str, Figures]:
    """Measure each method; its intervals do not depend on which others there are."""
    return {name: figures([one[name] for one in fits], seed=seed) for name in fits[0]}
