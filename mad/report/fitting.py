"""One vocabulary at one site: streamed statistics in, codes out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import final

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from mad.codes.statistics import KeptSets, SetCounts
from mad.report.magnitudes import MagnitudeCode, MagnitudeSums
from mad.report.residuals import ResidualCodes, ResidualSums
from mad.report.sets import CLUSTERS, SetCandidate, set_candidates
from mad.report.vocabularies import Vocabulary
from mad.types import Activity, Context


@final
@dataclass(frozen=True)
class SaidStatistics:
    """What the codes of one vocabulary are fitted from; ``residual`` is None where there is none.

    Their size does not grow with the number of inputs.
    """

    counts: SetCounts
    kept: KeptSets
    magnitudes: MagnitudeSums
    residual: ResidualSums | None

    @staticmethod
    def of(
        vocabulary: Vocabulary,
        activity: Activity,
        context: Context,
        *,
        rows: Int64[Tensor, " batch"],
        keep: Bool[Tensor, " batch"],
    ) -> "SaidStatistics":
        """Describe one batch and add up what was said; keep the sets where ``keep`` says so."""
        said = vocabulary.say(activity)
        return SaidStatistics(
            SetCounts.of(said, context),
            KeptSets.of(said, context, rows=rows, keep=keep),
            MagnitudeSums.of(said),
            ResidualSums.of(said) if vocabulary.leaves_residual else None,
        )

    def merge(self, other: "SaidStatistics") -> "SaidStatistics":
        """Return the statistics of both parts of the data."""
        left, right = self.residual, other.residual
        return SaidStatistics(
            self.counts.merge(other.counts),
            self.kept.merge(other.kept),
            self.magnitudes.merge(other.magnitudes),
            None if left is None or right is None else left.merge(right),
        )

    def using(self, used: Bool[Tensor, " component"]) -> "SaidStatistics":
        """Return the statistics of some components; no other may ever have been active."""
        place = used.cumsum(dim=0) - 1
        kept = self.kept
        return SaidStatistics(
            SetCounts(self.counts.contexts, self.counts.inputs, self.counts.active[:, used]),
            KeptSets(
                kept.rows, kept.context, kept.offsets, place[kept.components], int(used.sum())
            ),
            MagnitudeSums(
                *(getattr(self.magnitudes, field.name)[used] for field in fields(MagnitudeSums))
            ),
            self.residual,
        )


@final
@dataclass(frozen=True)
class Fitted:
    """A vocabulary, and the codes each term may choose from; none for a term it does not need."""

    vocabulary: Vocabulary
    sets: tuple[SetCandidate, ...]
    magnitudes: tuple[MagnitudeCode, ...]
    residual: ResidualCodes | None

    @staticmethod
    def fit(
        vocabulary: Vocabulary,
        statistics: SaidStatistics,
        *,
        clusters: Sequence[int] = CLUSTERS,
        seed: int,
    ) -> "Fitted":
        """Fit every code; mixtures of at most so many clusters each.

        Where there is a residual, components that no fitting input used are left out: what they
        would say of a later input stays in its residual, so they cost nothing but parameters.
        """
        used = statistics.counts.active.sum(dim=0) > 0
        if not vocabulary.leaves_residual:
            used = torch.ones_like(used)
        own = statistics.using(used)
        says = bool(used.any())
        return Fitted(
            vocabulary.using(used),
            tuple(set_candidates(own.counts, own.kept, clusters=clusters, seed=seed))
            if says
            else (),
            tuple(
                MagnitudeCode.fit(own.magnitudes, scale) for scale in ("value", "logarithm") if says
            ),
            None if own.residual is None else ResidualCodes.fit(own.residual, step=vocabulary.step),
        )
