"""One series and its children: one for each set of labels, made when it is first asked for.

prometheus-client's own counters and histograms cost a call more than the rest of it does; ours move
less. What is exported is the same, but as lines that are mostly written beforehand, and kept while
their numbers stay the same: with 16 baselines there are ten thousand of them a scrape.
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
        self._lines_of: dict[Labels, Lines] = {}
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
                self._lines_of[values] = Lines(self._begun(values))
        return child

    def remove(self, *values: str) -> None:
        """Export the child of some labels no more."""
        self.keep(*values)

    def keep(self, *first: str, only: Collection[Labels] = ()) -> None:
        """Of children whose labels begin with some, export no more than those given whole."""
        with self._making:
            for values in tuple(self._children):
                if values[: len(first)] == first and values not in only:
                    del self._children[values], self._lines_of[values]

    def describe(self) -> Iterator[Metric]:
        """Tell the registry which names are taken."""
        yield self._metric()

    def collect(self) -> Iterator[Metric]:
        """Export every child; each is read when its turn comes."""
        self._before_read()
        with self._making:
            children = [
                (values, child, self._lines_of[values]) for values, child in self._children.items()
            ]
        found = self._metric()
        written = Written(self._series, self._lines, children, self._read)
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
class Lines:
    """The lines of one child: what each begins with, which never changes, and how it stood."""

    __slots__ = ("_beginnings", "_kinds", "_last", "_template")

    def __init__(self, beginnings: Sequence[str]) -> None:
        self._beginnings = beginnings
        self._kinds: tuple[type, ...] = ()
        self._template = ""
        self._last = (Read(()), "")

    def text(self, read: Read) -> str:
        """Write the lines of some numbers, or return those written last if they say the same."""
        last, text = self._last
        if last != read:
            text = self._written(read)
            self._last = (read, text)
        return text

    def _written(self, read: Read) -> str:
        if read.examples:
            numbers = list(map(_number, read.values))
            for place, example in read.examples.items():
                numbers[place] += _example(example)
            return "".join(chain.from_iterable(zip(self._beginnings, numbers, strict=True)))
        # Most are counts: a template writes them at once, in a fraction of the time.
        kinds = tuple(map(type, read.values))
        if kinds != self._kinds:
            self._template = _template(self._beginnings, kinds)
            self._kinds = kinds
        return self._template % tuple(
            [one if type(one) is int else _number(one) for one in read.values]
        )


def _template(beginnings: Sequence[str], kinds: Sequence[type]) -> str:
    return "".join(
        begun.replace("%", "%%") + ("%d.0" if kind is int else "%s")
        for begun, kind in zip(beginnings, kinds, strict=True)
    )


@final
class Written(Generic[Child]):
    """The samples of one series: to be gone through, or written as lines."""

    def __init__(
        self,
        series: Series,
        lines: Sequence[Line],
        children: Sequence[tuple[Labels, Child, Lines]],
        read: Callable[[Child], Read],
    ) -> None:
        self._series = series
        self._lines = lines
        self._children = children
        self._read = read

    def __iter__(self) -> Iterator[Sample]:
        """Go through the samples."""
        name = self._series.name
        for values, child, _ in self._children:
            read = self._read(child)
            labels = dict(zip(self._series.labels, values, strict=True))
            for place, (line, value) in enumerate(zip(self._lines, read.values, strict=True)):
                every = {**labels, "le": line.edge} if line.edge else labels
                yield Sample(
                    f"{name}{line.suffix}", every, value, exemplar=read.examples.get(place)
                )

    def texts(self, *, has_examples: bool) -> Iterator[str]:
        """Write one child after another, as the text format and OpenMetrics both have them."""
        for _, child, lines in self._children:
            read = self._read(child)
            # Every beginning ends the line before it.
            yield lines.text(read if has_examples else Read(read.values))


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
