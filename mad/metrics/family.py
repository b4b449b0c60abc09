"""One series and its children: one for each set of labels, made when it is first asked for.

prometheus-client's own counters and histograms cost a call more than the rest of it does; ours move
less. What is exported is the same, but as lines that are mostly written beforehand: with 16
baselines there are ten thousand of them a scrape.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, Generic, NamedTuple, TypeVar, cast, final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

from mad.metrics.table import Series

Child = TypeVar("Child")
Labels = tuple[str, ...]

_ESCAPED: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Line(NamedTuple):
    """What sets a line of a child apart: what its name ends in, and a bucket's edge or nothing."""

    suffix: str
    edge: str = ""


WHOLE: Final = (Line(""),)
"""The lines of a child that is one number."""


def nothing_waits() -> None:
    """Do nothing before a series is read: all there is has been counted in."""


class Read(NamedTuple):
    """A child's numbers, one a line, and examples of what was counted, by line."""

    values: Sequence[float]
    examples: Mapping[int, Exemplar] = {}


@final
class Family(Generic[Child]):
    """All children of one series; safe to use from any thread.

    ``read`` returns the numbers of a child's ``lines``. ``before_read`` is called first, to count
    in what waits.
    """

    def __init__(
        self,
        series: Series,
        registry: CollectorRegistry,
        *,
        make: Callable[[], Child],
        read: Callable[[Child], Read],
        lines: Sequence[Line] = WHOLE,
        before_read: Callable[[], None] = nothing_waits,
    ) -> None:
        self._series = series
        self._make = make
        self._read = read
        self._lines = lines
        self._before_read = before_read
        self._children: dict[Labels, Child] = {}
        self._beginnings: dict[Labels, Sequence[str]] = {}
        self._making = threading.Lock()
        registry.register(self)
        if not series.labels:
            self.labels()

    def labels(self, *values: str) -> Child:
        """Return the child of some labels, in the order of the table."""
        child = self._children.get(values)
        if child is None:
            assert len(values) == len(self._series.labels)
            with self._making:
                child = self._children.setdefault(values, self._make())
                self._beginnings[values] = self._begun(values)
        return child

    def remove(self, *values: str) -> None:
        """Export the child of some labels no more."""
        self.keep(*values)

    def keep(self, *first: str, only: Collection[Labels] = ()) -> None:
        """Of children whose labels begin with some, export no more than those given whole."""
        with self._making:
            for values in tuple(self._children):
                if values[: len(first)] == first and values not in only:
                    del self._children[values], self._beginnings[values]

    def describe(self) -> Iterator[Metric]:
        """Tell the registry which names are taken."""
        yield self._metric()

    def collect(self) -> Iterator[Metric]:
        """Export every child."""
        self._before_read()
        with self._making:
            children = list(self._children.items())
            beginnings = [self._beginnings[values] for values, _ in children]
        found = self._metric()
        written = Written(
            self._series,
            self._lines,
            [values for values, _ in children],
            beginnings,
            [self._read(child) for _, child in children],
        )
        # The library asks no more of samples than to be gone through.
        found.samples = cast("list[Sample]", written)
        yield found

    def _metric(self) -> Metric:
        name, kind = self._series.name, self._series.kind
        return Metric(
            name.removesuffix("_total") if kind == "counter" else name, self._series.help, kind
        )

    def _begun(self, values: Labels) -> Sequence[str]:
        """Write what comes before the numbers of a child's lines, which never changes."""
        pairs = sorted(zip(self._series.labels, values, strict=True))
        labels = [f'{label}="{value.translate(_ESCAPED)}"' for label, value in pairs]
        beginnings = []
        for line in self._lines:
            every = ",".join([*labels, f'le="{line.edge}"'] if line.edge else labels)
            name = f"{self._series.name}{line.suffix}"
            beginnings.append(f"\n{name}{{{every}}} " if every else f"\n{name} ")
        return beginnings


@final
class Written:
    """The samples of one series at one moment: to be gone through, or written as lines."""

    def __init__(
        self,
        series: Series,
        lines: Sequence[Line],
        labels: Sequence[Labels],
        beginnings: Sequence[Sequence[str]],
        children: Sequence[Read],
    ) -> None:
        self._series = series
        self._lines = lines
        self._labels = labels
        self._beginnings = beginnings
        self._children = children

    def __iter__(self) -> Iterator[Sample]:
        """Go through the samples."""
        name = self._series.name
        for values, read in zip(self._labels, self._children, strict=True):
            labels = dict(zip(self._series.labels, values, strict=True))
            for place, (line, value) in enumerate(zip(self._lines, read.values, strict=True)):
                every = {**labels, "le": line.edge} if line.edge else labels
                yield Sample(
                    f"{name}{line.suffix}", every, value, exemplar=read.examples.get(place)
                )

    def text(self, *, has_examples: bool) -> str:
        """Write the samples as the text format and OpenMetrics both have them."""
        pieces: list[str] = []
        for begun, read in zip(self._beginnings, self._children, strict=True):
            numbers = list(map(_number, read.values))
            if has_examples:
                for place, example in read.examples.items():
                    numbers[place] += _example(example)
            pieces += chain.from_iterable(zip(begun, numbers, strict=True))
        # Every beginning ends the line before it.
        return "".join(pieces)


def _number(value: float) -> str:
    if isinstance(value, int):
        return f"{value}.0"
    written: str = floatToGoString(value)  # type: ignore[no-untyped-call]  # the library left it out
    return written


def _example(example: Exemplar) -> str:
    labels = ",".join(
        f'{name}="{text.translate(_ESCAPED)}"' for name, text in example.labels.items()
    )
    return f" # {{{labels}}} {example.value!r} {float(example.timestamp or 0):.3f}"
