"""The measure itself: parameters and mean bits in, total description lengths out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from mad.types import Site

Share: TypeAlias = Literal["parameters", "set", "magnitudes", "residual"]
"""What bits are spent on."""

SHARES: tuple[Share, ...] = ("parameters", "set", "magnitudes", "residual")


@final
@dataclass(frozen=True, slots=True)
class Described:
    """One term of the description, under the code that makes the total shortest.

    ``choices`` is how many codes it was chosen from; naming the choice costs their log2.
    ``mean_bits`` is over held-out inputs.
    """

    code: str
    parameters: int
    choices: int
    mean_bits: float


NOTHING = Described("", 0, 1, 0.0)
"""A term that a vocabulary does not need."""


@final
@dataclass(frozen=True, slots=True)
class SiteAccount:
    """What one vocabulary costs at one site.

    ``active`` is how many components an input uses on average. ``vocabulary_parameters`` are those
    of the components themselves, ``alternatives`` how many vocabularies there were to
    choose from, and ``pitch_steps`` the one chosen, in grid steps. ``largest_error_steps`` is the
    furthest that what was described lies from the activation, in any coordinate of any held-out
    input, in grid steps.
    """

    site: Site
    vocabulary: str
    step: float
    pitch_steps: float
    alternatives: int
    components: int
    active: float
    vocabulary_parameters: int
    set: Described
    magnitudes: Described
    residual: Described
    largest_error_steps: float

    @property
    def terms(self) -> tuple[Described, Described, Described]:
        """The set, the magnitudes and the residual."""
        return self.set, self.magnitudes, self.residual

    @property
    def parameters(self) -> int:
        """How many numbers the receiver must know before the first input."""
        return self.vocabulary_parameters + sum(term.parameters for term in self.terms)

    @property
    def choice_bits(self) -> float:
        """What it takes to say which codes and which precision were chosen."""
        return math.log2(self.alternatives) + sum(math.log2(term.choices) for term in self.terms)

    @property
    def mean_bits(self) -> float:
        """What one held-out input costs, once the parameters are known."""
        return sum(term.mean_bits for term in self.terms)

    def parameter_bits(self, inputs: int) -> float:
        """Return what the parameters cost before ``inputs`` inputs are described."""
        return self.parameters * bits_per_parameter(inputs) + self.choice_bits


@final
@dataclass(frozen=True)
class Accounting:
    """The accounts of every vocabulary at every site.

    ``inputs`` is how many inputs the description is for: all trusted inputs. Codes were fitted on
    ``fitting_inputs`` of them, and mean bits are those of the ``held_out_inputs`` others.
    """

    inputs: int
    fitting_inputs: int
    held_out_inputs: int
    sites: tuple[SiteAccount, ...]

    @property
    def vocabularies(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(dict.fromkeys(account.vocabulary for account in self.sites))

    def of(self, vocabulary: str, site: Site | None = None) -> tuple[SiteAccount, ...]:
        """Return the accounts of a vocabulary, at one site or at all."""
        return tuple(
            account
            for account in self.sites
            if account.vocabulary == vocabulary and site in (None, account.site)
        )

    def per_input(self, vocabulary: str, site: Site | None = None) -> dict[Share, float]:
        """Return the bits of one input by what they are spent on; their sum is the measure."""
        accounts = self.of(vocabulary, site)
        return {
            "parameters": sum(a.parameter_bits(self.inputs) for a in accounts) / self.inputs,
            "set": sum(a.set.mean_bits for a in accounts),
            "magnitudes": sum(a.magnitudes.mean_bits for a in accounts),
            "residual": sum(a.residual.mean_bits for a in accounts),
        }

    def total_bits(self, vocabulary: str, site: Site | None = None) -> float:
        """Return the bits of the parameters and of all inputs."""
        return self.inputs * sum(self.per_input(vocabulary, site).values())


def bits_per_parameter(inputs: int) -> float:
    """Return ``1/2 log2 n``, the precision at which a parameter costs least in all.

    Coarser, and the n inputs cost more; finer, and the digits are noise (Rissanen 1978; BIC).
    """
    return 0.5 * math.log2(inputs)


def shortest(candidates: Sequence[Described], *, inputs: int) -> Described:
    """Return the candidate whose parameters and n inputs together cost least; the first of equals.

    All candidates have the same number of choices, so that naming the choice is no reason.
    """
    return min(candidates, key=lambda one: total(one, inputs=inputs))


def total(described: Described, *, inputs: int) -> float:
    """Return the bits of a term's parameters and of n inputs."""
    return described.parameters * bits_per_parameter(inputs) + inputs * described.mean_bits
