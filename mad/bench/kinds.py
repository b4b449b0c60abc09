"""mad on one task with each kind of dictionary: which kinds detect what."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from mad.arrays import Table
from mad.bench.figures import Measured
from mad.bench.own import Clock, Plans, measure_decomposition
from mad.bench.tasks import Task
from mad.components.dictionaries.plan import Kind
from mad.components.joined import Joined
from mad.errors import ConfigError
from mad.fit import Split, train_dictionaries
from mad.types import Progress

EVERY_KIND: tuple[Kind, ...] = get_args(Kind)


def parse_kinds(names: Sequence[str]) -> tuple[Kind, ...]:
    """Return the kinds of these names, each once; ``all`` stands for every one.

    Raises:
        ConfigError: there is no kind of a name.
    """
    for name in names:
        if name not in (*EVERY_KIND, "all"):
            raise ConfigError(f"kind {name!r} is none of {', '.join(EVERY_KIND)}, all")
    return tuple(kind for kind in EVERY_KIND if kind in names or "all" in names)


def measure_kinds(
    task: Task,
    rows: Split,
    kinds: Sequence[Kind],
    plans: Plans,
    *,
    progress: Progress,
    clock: Clock,
) -> dict[str, Measured]:
    """Train one dictionary a view of each kind, without search, and fit a baseline to it.

    All have the plan's size and steps, so that rows differ by the kind alone. Both the surprise,
    ``mad:KIND``, and the mechanism, ``mad:KIND:mechanism``, are measured.
    """
    measured: dict[str, Measured] = {}
    for kind in kinds:
        start = clock()
        trained = train_dictionaries(
            task.model,
            task.sites,
            Table(task.trusted),
            replace(plans.dictionary, kind=kind, search=False),
            rows=rows.fitting,
            progress=progress,
        )
        seconds = clock() - start
        found = measure_decomposition(
            task, Joined(trained.dictionaries), rows, plans.fit, progress=progress, clock=clock
        )
        named = {f"mad:{kind}": found["surprise"], f"mad:{kind}:mechanism": found["mechanism"]}
        for name, one in named.items():
            measured[name] = replace(one, fit_seconds=seconds + one.fit_seconds)
    return measured
