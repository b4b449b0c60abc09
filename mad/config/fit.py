"""What a server makes of trusted inputs that are sent to it."""

from pathlib import Path
from typing import Annotated, final

from pydantic import Field

from mad.config.fields import Count, File, Section


@final
class Fit(Section):
    """Where trusted inputs wait for their fit, how many may, and what a fit may take."""

    directory: File = Path("fits")
    max_inputs: Count = 1_000_000
    max_bytes: Count = 4 * 1024**3
    threads: Count = 1
    quarantine_rate: Annotated[float, Field(ge=0, lt=0.5, strict=True)] = 0.001
    kept_jobs: Count = 20
