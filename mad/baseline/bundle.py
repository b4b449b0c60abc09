"""A baseline: everything fitted on trusted data, and what it belongs to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Final, final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from mad.calibration.conformal import p_values, threshold
from mad.calibration.groups import GroupedReference
from mad.calibration.weighing import Weighing
from mad.codes.accounting import CodedPart
from mad.errors import BaselineError
from mad.scoring import ActivityRule, ContextRule
from mad.types import (
    MEASURES,
    MECHANISM_TERMS,
    Bits,
    Context,
    Measure,
    PValues,
    Reference,
    Site,
    Weighed,
)


@final
@dataclass(frozen=True, slots=True)
class InputSpec:
    """A named input as trusted data had it: element type and shape without the batch axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@final
@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a baseline is and where it came from.

    ``version`` 0 stands for a baseline that is in no store yet. Alerts go by ``alert_on``: an input
    for which it exceeds ``threshold_bits`` has a p-value at or below ``false_alarm_rate``, unless
    inputs are ranked among the reference of their own context, ``by_context``.
    """

    name: str
    version: int
    created: datetime
    model_name: str
    model_fingerprint: str
    decomposition_fingerprint: str
    sites: tuple[Site, ...]
    inputs: tuple[InputSpec, ...]
    context: ContextRule
    activity: ActivityRule
    fit_inputs: int
    weighing_inputs: int
    reference_inputs: int
    false_alarm_rate: float
    alert_on: Measure
    by_context: bool
    median_bits: float
    threshold_bits: float
    seed: int
    library_versions: Mapping[str, str]

    @cached_property
    def revision(self) -> str:
        """Name and version, such as ``default@7``."""
        return f"{self.name}@{self.version}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who fitted a version, and on what.

    ``principal`` is empty if nobody was asked who they are, ``source`` is the caller's own word for
    where the data came from, and ``data_digest`` the SHA-256 of data that were sent. Of ``inputs``
    that came in, ``quarantined_inputs`` were set aside before the fit, because the active baseline
    found them most surprising. A fit on the command line has no ``job_id``.
    """

    principal: str = ""
    source: str = ""
    data_digest: str = ""
    inputs: int = 0
    quarantined_inputs: int = 0
    job_id: str = ""


UNKNOWN: Final = Provenance()
"""The provenance of a version that says nothing of it."""


@final
@dataclass(frozen=True)
class TrustedRows:
    """Rows of the trusted data, ascending, and 64 bits of a hash of what stood in each."""

    rows: Int64[Tensor, " row"]
    digests: Int64[Tensor, " row"]

    def hold(self, rows: Sequence[int], digests: Int64[Tensor, " found"]) -> bool:
        """Say whether all of some rows are known, and have these digests."""
        wanted = torch.tensor(rows)
        places = torch.searchsorted(self.rows, wanted).clamp_max(len(self.rows) - 1)
        is_known = torch.equal(self.rows[places], wanted)
        return is_known and torch.equal(self.digests[places], digests)


NO_ROWS: Final = TrustedRows(*torch.zeros(2, 0, dtype=torch.int64))
"""Those of a version that was fitted before digests were kept, or that names no trusted inputs."""


@final
@dataclass(frozen=True)
class Baseline:
    """Fitted codes, what weighs them, the measures of held-out trusted inputs, and the manifest.

    ``references`` has a row for each of ``MEASURES``, in bits, and ``contexts`` the context of each
    of its inputs. ``trusted`` has the rows that explanations can name.
    """

    manifest: Manifest
    parts: tuple[CodedPart, ...]
    weighing: Weighing
    references: Float64[Tensor, "measure reference"]
    contexts: Int64[Tensor, " reference"]
    trusted: TrustedRows = NO_ROWS

    @cached_property
    def reference(self) -> Reference:
        """The reference of the measure that alerts go by."""
        return self._alerting.sort().values

    def p_values(self, weighed: Weighed, context: Context) -> PValues:
        """Rank the measure that alerts go by among the reference, or that of its own context."""
        bits: Bits = getattr(weighed, self.manifest.alert_on)
        if self.manifest.by_context:
            return self._grouped.p_values(bits, context)
        return p_values(bits, self.reference)

    @cached_property
    def measured(self) -> Bool[Tensor, " part"]:
        """Say which parts the measure that alerts go by is made of."""
        asked = {"surprise": {True, False}, "mechanism": {True}, "novelty": {False}}
        wanted = asked[self.manifest.alert_on]
        return torch.tensor([(part.term in MECHANISM_TERMS) in wanted for part in self.parts])

    @cached_property
    def mechanism(self) -> "Baseline":
        """What judges active sets alone: the mechanism's parts, weighed and ranked by themselves.

        Law: mechanism bits are those of the whole, and ``P(p <= a) <= a`` holds for them. Raises
        BaselineError if the baseline has no components.
        """
        parts = tuple(part for part in self.parts if part.term in MECHANISM_TERMS)
        if not parts:
            raise BaselineError(
                f"baseline {self.revision} has no components, so active sets tell it nothing; send "
                "activations or inputs, or train dictionaries and fit again"
            )
        own = self.references[MEASURES.index("mechanism")]
        at = threshold(own.sort().values, self.manifest.false_alarm_rate)
        manifest = replace(
            self.manifest,
            alert_on="mechanism",
            threshold_bits=at,
            median_bits=float(own.median()),
        )
        return replace(self, manifest=manifest, parts=parts, weighing=self.weighing.mechanism)

    @property
    def _alerting(self) -> Float64[Tensor, " reference"]:
        return self.references[MEASURES.index(self.manifest.alert_on)]

    @cached_property
    def _grouped(self) -> GroupedReference:
        return GroupedReference.fit(
            self._alerting, self.contexts, false_alarm_rate=self.manifest.false_alarm_rate
        )

    @property
    def revision(self) -> str:
        """Name and version, such as ``default@7``."""
        return self.manifest.revision
