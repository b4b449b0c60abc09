"""Do alerts find, and name, the mechanism that a network should not have used?

Run as ``python -m mad.bench.circuits``. For each seed a circuit is drawn and its network decomposed
from all inputs (``full``), and for each kind of anomaly again from trusted inputs alone
(``trusted``); ``known`` is the decomposition that the truth gives, the ceiling. Other ``--models``
than circuits have features, or operations, for mechanisms. What ``--out`` has already is not done
again.
"""

import argparse
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Final, final, get_args

import torch
from rich.console import Console
from rich.table import Table as Printed

from mad.arrays import Table
from mad.bench.parameters import STAGE, decompose, usual_plan
from mad.bench.report import write_text
from mad.bench.truth.base import Anomaly, AnomalyKind, Truth
from mad.bench.truth.cases import Cases, draw_cases, fair
from mad.bench.truth.detecting import Row, Source, measure
from mad.bench.truth.models import KINDS
from mad.components.base import Decomposition
from mad.components.parameters.training.plan import SpdPlan
from mad.errors import ConfigError
from mad.fit import FitPlan, split
from mad.fit.plan import SetCodeName
from mad.types import Inputs, Measure, Progress

COLUMNS: Final = (
    *("model", "components", "anomaly", "of", "found", "its own", "AUROC matched"),
    *("recall at 1 %", "matched", "false alarms", "named", "CPU s"),
)
SUMMARY: Final = (
    *("model", "components", "found", "anomalies whose own were found"),
    *("recall at 1 %, least and mean", "matched", "named"),
)
TOLD: Final = ("recall", "recall_matched", "named")


@final
@dataclass(frozen=True)
class Setting:
    """How much of everything, and what alerts go by."""

    trusted: int = 6_000
    tests: int = 500
    steps: int = 3_000
    anomalies: int = 1
    by: Measure = "mechanism"
    set_code: SetCodeName = "clusters"


@final
@dataclass
class Sources:
    """The decompositions of one model; the one of all inputs is trained once, when first used."""

    model: str
    truth: Truth
    seed: int
    setting: Setting
    progress: Progress

    def of(self, source: Source, cases: Cases) -> Decomposition:
        """Return where components come from."""
        match source:
            case "known":
                known = KINDS[self.model].known
                assert known is not None, "left out where nothing gives it"
                return known(self.seed)
            case "full":
                return self._full
            case "trusted":
                return self._trained(cases.trusted)

    @cached_property
    def _full(self) -> Decomposition:
        generator = torch.Generator().manual_seed(self.seed)
        return self._trained(self.truth.draw(self.setting.trusted, generator))

    def _trained(self, inputs: Inputs) -> Decomposition:
        plan = KINDS[self.model].plan
        return trained(
            self.truth, inputs, plan, self.setting.steps, seed=self.seed, progress=self.progress
        )


def rows_of(
    model: str,
    seed: int,
    wanted: Collection[tuple[AnomalyKind, Source]],
    setting: Setting,
    *,
    done: Collection[Row] = (),
    progress: Progress,
) -> Iterator[Row]:
    """Measure anomalies of some kinds of one model, each with sources of components.

    What is done already is left out, a kind that the model has no fair example of, and the source
    of what is not known of it.
    """
    truth = KINDS[model].truth(seed)
    sources = Sources(model, truth, seed, setting, progress)
    before = {(one.model, one.kind, one.anomaly, one.source) for one in done}
    asked = [one for one in wanted if one[1] != "known" or KINDS[model].known is not None]
    for kind in dict.fromkeys(kind for kind, _ in asked):
        every = fair(truth, kind, trusted=setting.trusted, seed=seed)
        for anomaly in islice(every, setting.anomalies):
            row = (truth.name, kind, anomaly.name(truth))
            left = [own for of, own in asked if of == kind and (*row, own) not in before]
            if left:
                yield from _measured(sources, anomaly, left)


def _measured(sources: Sources, anomaly: Anomaly, asked: Sequence[Source]) -> Iterator[Row]:
    setting, seed = sources.setting, sources.seed
    cases = draw_cases(
        sources.truth, anomaly, trusted=setting.trusted, tests=setting.tests, seed=seed
    )
    for source in asked:
        yield measure(
            cases,
            sources.of(source, cases),
            source,
            by=setting.by,
            set_code=setting.set_code,
            seed=seed,
            progress=sources.progress,
        )


def trained(  # what is decomposed, and how
    truth: Truth,
    inputs: Inputs,
    adapted: Callable[[SpdPlan], SpdPlan],
    steps: int,
    *,
    seed: int,
    progress: Progress,
) -> Decomposition:
    """Decompose a truth's layers from some inputs, by the rule of ``mad bench``, adapted."""
    data = Table(inputs)
    rows = split(len(data), FitPlan(name="truth", seed=seed))
    usual = usual_plan(truth.model, data, rows, steps=steps, seed=seed)
    layers = tuple(one for one in usual.layers if one.name in truth.layers)
    plan = adapted(replace(usual, layers=layers))
    return decompose(truth.model, data, rows.fitting, plan, progress=progress)


def cells(row: Row) -> tuple[str, ...]:
    """Return a row in the order of ``COLUMNS``."""
    return (
        *(row.model, row.source, row.kind, row.anomaly, f"{row.found:.0%}"),
        "yes" if row.culprits_found else "no",
        f"{row.auroc_matched:.3f}",
        *(f"{share:.1%}" for share in (row.recall, row.recall_matched, row.false_alarms)),
        f"{row.named:.1%}",
        f"{row.cpu_seconds:.0f}",
    )


def summary(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return for each kind of model and source what came of anomalies whose own were found.

    A line tells the mean share of mechanisms found, how many anomalies of how many have all of
    their own found, and among those the lowest and mean recall and share named.
    """
    lines = []
    for model, source in dict.fromkeys((row.model.split()[0], row.source) for row in rows):
        every = [row for row in rows if (row.model.split()[0], row.source) == (model, source)]
        clear = [row for row in every if row.culprits_found]
        found = sum(row.found for row in every) / len(every)
        told = [_least_and_mean([getattr(row, one) for row in clear]) for one in TOLD]
        lines.append((model, source, f"{found:.0%}", f"{len(clear)} of {len(every)}", *told))
    return lines


def _least_and_mean(shares: Sequence[float]) -> str:
    return f"{min(shares):.1%}, {sum(shares) / len(shares):.1%}" if shares else "none"


def table(rows: Sequence[Row]) -> str:
    """Return a summary and rows as Markdown."""
    return "\n".join((_markdown(SUMMARY, summary(rows)), _markdown(COLUMNS, map(cells, rows))))


def _markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    every = [heads, ("---",) * len(heads), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every) + "\n"


def kept(path: Path) -> list[Row]:
    """Read the rows that a run before left; none if it left no file.

    Raises:
        ConfigError: the file is of something else.
    """
    if not path.exists():
        return []
    try:
        return [Row(**one) for one in json.loads(path.read_text())]
    except (ValueError, TypeError) as cause:
        raise ConfigError(f"{path} is no file of python -m mad.bench.circuits ({cause})") from cause


def _main(asked: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    done = kept(asked.out) if asked.out else []
    setting = Setting(
        steps=asked.steps, anomalies=asked.anomalies, by=asked.by, set_code=asked.set_code
    )
    seeds = range(asked.seed, asked.seed + asked.seeds)
    for model, seed in ((model, seed) for model in asked.models for seed in seeds):
        wanted = [(kind, source) for kind in asked.kinds for source in asked.sources]
        for row in rows_of(model, seed, wanted, setting, done=tuple(done), progress=_told):
            done.append(row)
            if asked.out:
                write_text(json.dumps([asdict(one) for one in done], indent=2) + "\n", asked.out)
    _print("Mechanisms that should not have been used", COLUMNS, map(cells, done))
    _print("Where the decomposition found them", SUMMARY, summary(done))
    if asked.table:
        write_text(table(done), asked.table)


def _print(title: str, heads: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    printed = Printed(*heads, title=title)
    for line in lines:
        printed.add_row(*line)
    Console(width=200).print(printed)


def _told(stage: str, *, done: int, total: int, note: str = "") -> None:
    if stage == STAGE and (done % 500 == 0 or done == total):
        told = f"{done:,} of {total:,} steps: {note}"
        Console(stderr=True).print(told, highlight=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mad.bench.circuits", description=__doc__)
    every_kind, every_source = get_args(AnomalyKind), get_args(Source)
    parser.add_argument("--models", nargs="+", choices=list(KINDS), default=["circuit"])
    parser.add_argument("--kinds", nargs="+", choices=every_kind, default=every_kind)
    parser.add_argument("--sources", nargs="+", choices=every_source, default=every_source)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Setting.steps)
    parser.add_argument(
        "--anomalies", type=int, default=1, help="of each kind and model, where it has so many"
    )
    parser.add_argument("--by", choices=get_args(Measure), default=Setting.by)
    parser.add_argument("--set-code", choices=get_args(SetCodeName), default=Setting.set_code)
    parser.add_argument("--out", type=Path, help="JSON of every row; goes on where it stopped")
    parser.add_argument("--table", type=Path, help="Markdown of every row")
    _main(parser.parse_args())
