"""Settings of who may do what, and of what is recorded of it."""

from pathlib import Path
from typing import final

from mad.config.fields import File, Section


@final
class Security(Section):
    """Where the audit log is."""

    audit_log: File = Path("audit.jsonl")
