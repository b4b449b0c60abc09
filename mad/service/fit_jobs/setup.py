"""What a server needs to know to take trusted inputs and fit baselines on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from mad.config import Settings

_NEEDED: Final = frozenset({"model", "decomposition", "data", "baseline"})


@final
@dataclass(frozen=True, kw_only=True)
class FitSetup:
    """Where fits wait, how many may, and what their processes are told; see the settings.

    ``baseline`` is the name of those that do not say one.
    """

    directory: Path
    settings: Mapping[str, Any]
    baseline: str
    max_inputs: int
    max_bytes: int
    threads: int
    quarantine_rate: float
    kept_jobs: int

    @staticmethod
    def of(settings: Settings) -> "FitSetup":
        """Take what is needed from the settings, and no secret of the server's."""
        fit = settings.fit
        return FitSetup(
            directory=fit.directory,
            settings={
                **settings.model_dump(mode="json", include=set(_NEEDED)),
                **{name: {} for name in Settings.model_fields if name not in _NEEDED},
            },
            baseline=settings.baseline.name,
            max_inputs=fit.max_inputs,
            max_bytes=fit.max_bytes,
            threads=fit.threads,
            quarantine_rate=fit.quarantine_rate,
            kept_jobs=fit.kept_jobs,
        )
