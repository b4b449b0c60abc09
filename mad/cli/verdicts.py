"""Verdicts as tables and as lines of JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    path: Path, verdicts: Sequence["Verdict"], *, offline_bits: Sequence[float] = ()
) -> None:
    """Write one JSON object a line, with its row; ConfigError if the file cannot be written.

    JSON has no infinity: bits that are not finite are the string ``Infinity``.
    """
    beside = [{"offline_bits": _bits(bits)} for bits in offline_bits] or [{}] * len(verdicts)
    lines = (
        json.dumps({"row": row} | _finite(asdict(verdict)) | extra, allow_nan=False) + "\n"
        for row, (verdict, extra) in enumerate(zip(verdicts, beside, strict=True))
    )
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _finite(verdict: dict[str, Any]) -> dict[str, Any]:
    parts = [part | {"bits": _bits(part["bits"])} for part in verdict["parts"]]
    return verdict | {"surprise_bits": _bits(verdict["surprise_bits"]), "parts": parts}


def _bits(bits: float) -> float | str:
    return bits if math.isfinite(bits) else "Infinity"
