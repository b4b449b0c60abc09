"""The values that travel between rooms.

inputs → activations → activity → ledger → weighed → verdict → alert

Axis names: ``batch`` (one entry for one verdict), ``component``, ``coordinate`` (of a residual),
``entry`` (one active component of one input), ``part`` (one term of one view), ``reference``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor
from torch.nn import functional

Site: TypeAlias = str
"""Name of a captured output, ``module[#call][@output]``, or of an input, ``module[#call]<[input]``;
see capture.sites. Where activity is kept by site, it may also be a ``View``."""

View: TypeAlias = str
"""One way of looking at a captured site, ``site`` or ``site:suffix``; a site name has no colon."""
PAIRS: Final[View] = "@pairs"  # in the place of a view where a part is of several; no module's

Inputs: TypeAlias = Mapping[str, Shaped[Tensor, "batch ..."]]
"""The monitored model's named inputs, all with one batch size."""

Activations: TypeAlias = Mapping[Site, Float[Tensor, "batch ..."]]
"""What the monitored model computed at each site."""

Context: TypeAlias = Int64[Tensor, " batch"]
"""A small discrete label of each input, such as the class the model itself predicts."""

Bits: TypeAlias = Float64[Tensor, " batch"]
"""A code length of each input, in bits."""

Reference: TypeAlias = Float64[Tensor, " reference"]
"""Surprises of trusted inputs held out from the fit, in bits, ascending."""

Measure: TypeAlias = Literal["surprise", "mechanism", "novelty"]
"""What an alert can go by: how the model's mechanisms were used, how new the activity is, both."""

MEASURES: tuple[Measure, ...] = ("surprise", "mechanism", "novelty")

PValues: TypeAlias = Float64[Tensor, " batch"]
"""Chance, on trusted data, of a surprise at least this large."""

Term: TypeAlias = Literal["set", "output", "magnitudes", "residual", "neighbours"]
"""What is being described: which components were active, the model's output given them, how strong
they were, what they leave unexplained, or where the whole activation points among trusted ones."""

MECHANISM_TERMS: frozenset[Term] = frozenset({"set", "output", "magnitudes"})
"""Terms that tell how components were used; the others tell how unlike trusted activity it is."""


def view_of(site: Site, suffix: str) -> View:
    """Name a view; without a suffix it is the site's default one, and bears the site's name."""
    return f"{site}:{suffix}" if suffix else site


def site_of(view: View) -> Site:
    """Return the captured site that a view looks at."""
    return view.partition(":")[0]


def batch_size(inputs: Inputs) -> int:
    """Return how many inputs there are."""
    return next(iter(inputs.values())).shape[0]


@dataclass(frozen=True)
class Activity:
    """Which components each input used at one site, how strongly, and what they leave over.

    ``activation`` is what was decomposed: the site's own output, one vector an input.

    Sparse by rows: the components of input ``i`` are the entries ``offsets[i]:offsets[i + 1]``,
    each component at most once per input.
    """

    offsets: Int64[Tensor, " offsets"]
    components: Int64[Tensor, " entry"]
    magnitudes: Float[Tensor, " entry"]
    residual: Float[Tensor, "batch coordinate"]
    activation: Float[Tensor, "batch coordinate"]
    num_components: int

    def __len__(self) -> int:
        """Return the number of inputs."""
        return self.offsets.numel() - 1

    @cached_property
    def counts(self) -> Int64[Tensor, " batch"]:
        """How many components each input used."""
        return self.offsets.diff()

    @cached_property
    def rows(self) -> Int64[Tensor, " entry"]:
        """The input each entry belongs to."""
        return torch.repeat_interleave(torch.arange(len(self)), self.counts)

    def take(self, rows: Int64[Tensor, " chosen"]) -> "Activity":
        """Return the activity of some inputs, in this order."""
        counts = self.counts[rows]
        offsets = functional.pad(counts.cumsum(dim=0), (1, 0))
        moved = torch.repeat_interleave(self.offsets[rows] - offsets[:-1], counts)
        entries = torch.arange(moved.numel()) + moved
        used = (self.components[entries], self.magnitudes[entries])
        vectors = (self.residual[rows], self.activation[rows])
        return Activity(offsets, *used, *vectors, self.num_components)

    @staticmethod
    def joined(parts: Sequence["Activity"]) -> "Activity":
        """Return the activity of several batches at one site, at least one, as one."""
        counts = torch.cat([part.counts for part in parts])
        return Activity(
            offsets=functional.pad(counts.cumsum(dim=0), (1, 0)),
            components=torch.cat([part.components for part in parts]),
            magnitudes=torch.cat([part.magnitudes for part in parts]),
            residual=torch.cat([part.residual for part in parts]),
            activation=torch.cat([part.activation for part in parts]),
            num_components=parts[0].num_components,
        )

    def first(self, count: int) -> "Activity":
        """Return the activity of the first inputs, without a copy."""
        offsets, stop = self.offsets[: count + 1], int(self.offsets[count])
        used = (self.components[:stop], self.magnitudes[:stop])
        vectors = (self.residual[:count], self.activation[:count])
        return Activity(offsets, *used, *vectors, self.num_components)

    def row(self, index: int) -> "Activity":
        """Return the activity of one input, as a batch of one."""
        return self.take(torch.tensor([index]))


@runtime_checkable
class Dataset(Protocol):
    """Inputs that can be read a few at a time, however many there are."""

    def __len__(self) -> int:
        """Return the number of inputs."""
        ...

    def take(self, rows: Int64[Tensor, " batch"]) -> Inputs:
        """Read some inputs; ``rows`` are ascending."""
        ...


@runtime_checkable
class Progress(Protocol):
    """Told how far a long piece of work has come."""

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:
        """Report ``done`` of ``total`` steps of one stage; ``note`` carries its current figures."""
        ...


class Part(NamedTuple):
    """The bits one term costs at one site, and how rare so many are, in bits.

    ``rarity_bits`` is ``-log2`` of the share of trusted inputs for which the part costs as much.
    Of an active set, ``rare_components_bits`` is what independent components would cost; the rest
    of ``bits`` is the rare combination, negative where components go together as usual. None for
    other terms. A tuple, which is made faster: a verdict has several.
    """

    site: Site
    term: Term
    bits: float
    rarity_bits: float
    rare_components_bits: float | None = None

    @property
    def rare_combination_bits(self) -> float | None:
        """What the combination costs beyond its components; None where nothing is combined."""
        alone = self.rare_components_bits
        return None if alone is None else self.bits - alone


@dataclass(frozen=True)
class Ledger:
    """Code lengths by site and term.

    Law: a row of ``bits`` adds up to the description. ``marginal`` is what the components of an
    active set cost independently, NaN for other terms.
    """

    keys: tuple[tuple[Site, Term], ...]
    bits: Float64[Tensor, "batch part"]
    marginal: Float64[Tensor, "batch part"]

    @property
    def description(self) -> Bits:
        """The code length of each input's whole activity."""
        return self.bits.sum(dim=1)


@dataclass(frozen=True)
class Weighed:
    """How rare code lengths are among trusted inputs, in bits: each part's, and taken together.

    A rarity of ``b`` bits is that of one trusted input in ``2 ** b``.
    """

    rarity: Float64[Tensor, "batch part"]
    surprise: Bits
    mechanism: Bits
    novelty: Bits


@dataclass(frozen=True, slots=True)
class Charge:
    """The bits one component, coordinate of the residual, or neighbourhood accounts for.

    ``typical_bits`` is what it costs on average in trusted data, in the input's context; the
    difference is what is surprising. ``magnitude`` is the component's strength (0 when silent), or
    the residual's value. ``trusted_rate`` is the share of trusted inputs, in the input's context,
    that use the component; None for anything else, which is never on or off. The charges of an
    output are those of the components that speak against it. A neighbourhood has the row of the
    nearest trusted input for its index, and their cosine for its magnitude.
    """

    site: Site
    term: Term
    index: int
    bits: float
    typical_bits: float
    magnitude: float
    trusted_rate: float | None


@dataclass(frozen=True, slots=True)
class SetNeighbour:
    """A trusted input with a like active set, and how the scored input's set differs from it.

    ``row`` is the row of the trusted data; ``distance`` is Jaccard's, zero for equal sets and one
    for disjoint ones. Components in ``shared`` are active in both, in ``missing`` only in the
    trusted input, in ``extra`` only in the scored one; all ascending.
    """

    row: int
    distance: float
    shared: tuple[int, ...]
    missing: tuple[int, ...]
    extra: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """One input's description, the charges that account for most of its rarity first.

    Charges of what alerts go by come before others. ``nearest`` has the trusted input with the
    likest set, where sets are kept. Law: ``charges`` and ``rest_bits`` add up to the description.
    """

    charges: tuple[Charge, ...]
    rest_bits: float
    nearest: Mapping[Site, SetNeighbour] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the service says about one input.

    ``surprise_bits`` is how rare the activity is among trusted inputs, of which one in
    ``2 ** surprise_bits`` is as rare. ``mechanism_bits`` is the same for how components were used
    and ``novelty_bits`` for how unlike trusted activity it is. ``description_bits`` is the code
    length of the whole activity. ``p_value`` and ``is_alert`` go by the measure that the baseline
    alerts on, which is the surprise unless set otherwise.
    """

    surprise_bits: float
    mechanism_bits: float
    novelty_bits: float
    description_bits: float
    p_value: float
    is_alert: bool
    parts: tuple[Part, ...]
    context: int
    active_components: int


@dataclass(frozen=True, slots=True)
class Alert:
    """A verdict the policy chose to raise, with what it takes to understand it."""

    alert_id: str
    time: datetime
    model: str
    baseline: str
    version: int
    request_id: str
    input_index: int
    input_digest: str
    verdict: Verdict
    explanation: Explanation
