"""Verdicts as tables and as lines of JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mad.cli import screen
from mad.errors import ConfigError

if TYPE_CHECKING:
    from mad.types import Explanation, Verdict


def summary(verdict: "Verdict") -> list[tuple[str, str]]:
    """Return what a verdict says, as names and values."""
    return [
        ("surprise, bits", f"{verdict.surprise_bits:.1f}"),
        ("p-value", f"{verdict.p_value:.3g}"),
        ("alert", "yes" if verdict.is_alert else "no"),
        ("context", str(verdict.context) if verdict.context >= 0 else "none"),
        ("active components", str(verdict.active_components)),
    ]


def show_ledger(verdict: "Verdict", explanation: "Explanation") -> None:
    """Print the bits by site and term, then by component."""
    screen.table(
        "Bits by site and term",
        ("site", "term", "bits"),
        [(part.site, part.term, f"{part.bits:.1f}") for part in verdict.parts],
    )
    screen.table(
        "Furthest above what is typical",
        ("site", "term", "index", "bits", "typical", "magnitude", "trusted rate"),
        [
            (
                charge.site,
                charge.term,
                str(charge.index),
                f"{charge.bits:.2f}",
                f"{charge.typical_bits:.2f}",
                f"{charge.magnitude:.3g}",
                "" if charge.trusted_rate is None else f"{charge.trusted_rate:.2%}",
            )
            for charge in explanation.charges
        ],
    )
    screen.say(f"everything else: {explanation.rest_bits:.1f} bits")


def write_lines(
    path: Path, verdicts: Sequence["Verdict"], *, beside: Sequence[dict[str, float]] = ()
) -> None:
    """Write one JSON object a line, with its row; ConfigError if the file cannot be written.

    ``beside`` holds more of each verdict's line, where there is more.
    JSON has no infinity: bits that are not finite are the string ``Infinity``.
    """
    lines = (
        json.dumps(_finite({"row": row} | asdict(verdict) | more), allow_nan=False) + "\n"
        for row, (verdict, more) in enumerate(
            zip(verdicts, beside or [{}] * len(verdicts), strict=True)
        )
    )
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _finite(value: object) -> object:
    """Replace bits that are not finite, however deep."""
    match value:
        case dict():
            return {name: _finite(one) for name, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case float() if not math.isfinite(value):
            return "Infinity"
        case _:
            return value
