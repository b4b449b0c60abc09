"""How well a dictionary explains held-out inputs, and how its latents are used."""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries.shrinkage import relative_bias
from mad.report.dictionary.observed import Observed

SHARES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles that distributions are told by."""

RATE_EDGES: Final = tuple(-4.0 + 0.25 * number for number in range(17))
"""Bins of log10 firing rates: a quarter of a decade each, from one input in ten thousand to all."""


@final
@dataclass(frozen=True, slots=True)
class Distribution:
    """A mean, and the quantiles at ``SHARES``; NaN of no values."""

    mean: float
    quantiles: tuple[float, ...]

    @staticmethod
    def of(values: Float64[np.ndarray, " value"]) -> "Distribution":
        """Measure some values."""
        if not values.size:
            return Distribution(float("nan"), (float("nan"),) * len(SHARES))
        return Distribution(float(values.mean()), tuple(np.quantile(values, SHARES).tolist()))


@final
@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between ascending edges, one fewer than these; values outside are in the end bins."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @staticmethod
    def of(values: Float64[np.ndarray, " value"], edges: tuple[float, ...]) -> "Histogram":
        """Count some values."""
        inside = np.clip(values, edges[0], edges[-1])
        counts, _ = np.histogram(inside, bins=list(edges))
        return Histogram(edges, tuple(counts.tolist()))


@final
@dataclass(frozen=True, slots=True)
class Reconstruction:
    """How near reconstructions ``y`` come to what they explain, ``x``.

    ``unexplained_variance`` (FVU) is ``sum |x - y|^2 / sum |x - mean x|^2``. The others are taken
    from the dictionary's own centre ``c``, for a shared offset would hide everything: the mean
    ``cosine`` of ``x - c`` and ``y - c``, the mean ``length_ratio`` of ``|y - c|`` to ``|x - c|``,
    and ``relative_bias = E|y - c|^2 / E (y - c)(x - c)``, which is below one where the
    reconstruction is shrunk: dividing by it would explain more (Rajamanoharan et al. 2024,
    "Improving dictionary learning with gated sparse autoencoders").
    """

    unexplained_variance: float
    cosine: float
    length_ratio: float
    relative_bias: float

    @property
    def explained_variance(self) -> float:
        """The rest of the variance."""
        return 1 - self.unexplained_variance

    @staticmethod
    def of(observed: Observed, centre: Float[Tensor, " target"]) -> "Reconstruction":
        """Measure reconstructions from that centre."""
        x, residual = observed.target.double(), observed.residual.double()
        own = x - centre
        explained = own - residual
        lengths = own.norm(dim=1)
        variance = (x - x.mean(dim=0)).square().sum()
        return Reconstruction(
            unexplained_variance=float(residual.square().sum() / variance),
            cosine=float(functional.cosine_similarity(own, explained, dim=1).mean()),
            length_ratio=float((explained.norm(dim=1) / lengths)[lengths > 0].mean()),
            relative_bias=float(relative_bias(explained, own)),
        )


@final
@dataclass(frozen=True, slots=True)
class Use:
    """How the latents are used on held-out inputs.

    ``active`` is how many an input activates (L0). ``dead_share`` is the share of latents that no
    input activates: with few inputs, rare ones seem dead. ``rates`` counts the others by the log10
    of the share of inputs that activate them. ``magnitudes`` is how far an active latent moves
    the target, in the units of the activations.
    """

    active: Distribution
    dead_share: float
    rates: Histogram
    magnitudes: Distribution

    @staticmethod
    def of(observed: Observed) -> "Use":
        """Measure how latents are used."""
        activity = observed.activity
        uses = activity.components.bincount(minlength=activity.num_components)
        rates = (uses[uses > 0] / len(activity)).double().log10()
        return Use(
            active=Distribution.of(activity.counts.double().numpy()),
            dead_share=int((uses == 0).sum()) / max(activity.num_components, 1),
            rates=Histogram.of(rates.numpy(), RATE_EDGES),
            magnitudes=Distribution.of(observed.distances.double().numpy()),
        )
