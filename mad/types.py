"""The values that travel between rooms.

inputs → activations → activity → ledger → verdict → alert

Axis names: ``batch`` (one entry for one verdict), ``component``, ``coordinate`` (of a residual),
``entry`` (one active component of one input), ``part`` (one term at one site), ``reference``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

Site: TypeAlias = str
"""Name of a captured output, ``module[#call][@output]``; see capture.sites."""

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

PValues: TypeAlias = Float64[Tensor, " batch"]
"""Chance, on trusted data, of a surprise at least this large."""

Term: TypeAlias = Literal["set", "residual", "neighbours"]
"""What is being described: which components were active, what they leave unexplained, or where
the whole activation points among trusted ones."""


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

    @property
    def counts(self) -> Int64[Tensor, " batch"]:
        """How many components each input used."""
        return self.offsets.diff()

    @property
    def rows(self) -> Int64[Tensor, " entry"]:
        """The input each entry belongs to."""
        return torch.repeat_interleave(torch.arange(len(self)), self.counts)

    def row(self, index: int) -> "Activity":
        """Return the activity of one input, as a batch of one."""
        start, stop = self.offsets[index : index + 2].tolist()
        return Activity(
            offsets=torch.tensor([0, stop - start]),
            components=self.components[start:stop],
            magnitudes=self.magnitudes[start:stop],
            residual=self.residual[index : index + 1],
            activation=self.activation[index : index + 1],
            num_components=self.num_components,
        )


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


@dataclass(frozen=True, slots=True)
class Part:
    """The bits one term costs at one site."""

    site: Site
    term: Term
    bits: float


@dataclass(frozen=True)
class Ledger:
    """Surprise split by site and term. Law: a row of ``bits`` adds up to the surprise."""

    keys: tuple[tuple[Site, Term], ...]
    bits: Float64[Tensor, "batch part"]

    @property
    def surprise(self) -> Bits:
        """The code length of each input's whole activity."""
        return self.bits.sum(dim=1)

    def parts(self, row: int) -> tuple[Part, ...]:
        """Return one input's entries."""
        return tuple(
            Part(site, term, bits)
            for (site, term), bits in zip(self.keys, self.bits[row].tolist(), strict=True)
        )


@dataclass(frozen=True, slots=True)
class Charge:
    """The bits one component, coordinate of the residual, or neighbourhood accounts for.

    ``typical_bits`` is what it costs on average in trusted data, in the input's context; the
    difference is what is surprising. ``magnitude`` is the component's strength (0 when silent), or
    the residual's value. ``trusted_rate`` is the share of trusted inputs, in the input's context,
    that use the component; None for anything else, which is never on or off. A neighbourhood has
    the row of the nearest trusted input for its index, and their cosine for its magnitude.
    """

    site: Site
    term: Term
    index: int
    bits: float
    typical_bits: float
    magnitude: float
    trusted_rate: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """One input's surprise, the charges furthest above their typical bits first.

    Law: the bits of ``charges`` and ``rest_bits`` add up to the surprise.
    """

    charges: tuple[Charge, ...]
    rest_bits: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the service says about one input."""

    surprise_bits: float
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
