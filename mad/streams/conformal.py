"""Wealth against a claim, that inputs are as the reference: surprises in, a test martingale out."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int64

from mad.streams.martingale import MixtureMartingale
from mad.streams.ranks import Places, draw_ties, transductive


@final
@dataclass(frozen=True, eq=False)
class ConformalMartingale:
    """A gambler who bets that inputs are more surprising than the reference.

    Each input is ranked among the reference and the inputs before it, ``counts`` by place, ties by
    chance; ``seed`` decides them.

    Law (Vovk, Nouretdinov and Gammerman 2003; Ville 1939): for inputs exchangeable with the
    reference, the chance that the wealth ever reaches ``c`` is at most ``1 / c``, over the choice
    of the reference, the inputs and the ties. So for p-values that are too large: bets pay less the
    larger those are, and whoever looks for inputs that surprise too little has to look elsewhere.
    """

    places: Places
    counts: Int64[np.ndarray, " place"]
    martingale: MixtureMartingale
    seed: int

    @staticmethod
    def of(reference: Float64[np.ndarray, " reference"], *, seed: int) -> "ConformalMartingale":
        """Begin with a wealth of one, against an ascending reference."""
        places = Places.of(reference)
        return ConformalMartingale(places, places.reference, MixtureMartingale.start(), seed)

    @property
    def inputs(self) -> int:
        """How many inputs were bet on."""
        return self.martingale.inputs

    @property
    def log10(self) -> float:
        """The logarithm of the wealth, to base 10."""
        return self.martingale.bits * float(np.log10(2))

    def advance(self, surprise: Float64[np.ndarray, " batch"]) -> "ConformalMartingale":
        """Return the gambler after these inputs, in the order they came; surprises are in bits."""
        ties = draw_ties(self.seed, self.inputs, surprise.size)
        ranked = transductive(self.places.find(surprise), self.counts, ties)
        martingale, _ = self.martingale.advance(ranked.p)
        return ConformalMartingale(self.places, ranked.counts, martingale, self.seed)
