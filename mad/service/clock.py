"""The wall clock, which everything that tells the time is given."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time now."""
    return datetime.now(UTC)
