"""Verdicts as tables and as lines of JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mad.cli import screen
from mad.errors import ConfigError

if TYPE_CHECKING:
    from mad.types import Explanation, Verdict

MEASURES = ("surprise", "mechanism", "novelty")


def summary(verdict: "Verdict") -> list[tuple[str, str]]:
    """Return what a verdict says, as names and values."""
    return [
        *(
            (f"{name}, bits", value)
            for name, value in zip(MEASURES, rarities(verdict), strict=True)
        ),
        ("p-value", f"{verdict.p_value:.3g}"),
        ("alert", "yes" if verdict.is_alert else "no"),
        ("context", str(verdict.context) if verdict.context >= 0 else "none"),
        ("active components", str(verdict.active_components)),
    ]


class Measured(Protocol):
    """A verdict of ours or one from the wire."""

    @property
    def surprise_bits(self) -> float:
        """How rare the whole is."""
        ...

    @property
    def mechanism_bits(self) -> float:
        """How rarely components are used so."""
        ...

    @property
    def novelty_bits(self) -> float:
        """How unlike trusted activity it is."""
        ...


def rarities(verdict: Measured) -> tuple[str, str, str]:
    """Return surprise, mechanism and novelty; nothing for what was not measured."""
    measured = (verdict.surprise_bits, verdict.mechanism_bits, verdict.novelty_bits)
    surprise, mechanism, novelty = ("" if math.isnan(bits) else f"{bits:.1f}" for bits in measured)
    return surprise, mechanism, novelty


def show_ledger(verdict: "Verdict", explanation: "Explanation") -> None:
    """Print rarity and bits by site and term, then bits by component."""
    screen.table(
        "By site and term, the rarest first",
        ("site", "term", "rarity, bits", "length, bits", "rare components", "rare combination"),
        [
            (
                part.site,
                part.term,
                f"{part.rarity_bits:.1f}",
                f"{part.bits:.1f}",
                *(
                    "" if bits is None else f"{bits:.1f}"
                    for bits in (part.rare_components_bits, part.rare_combination_bits)
                ),
            )
            for part in sorted(verdict.parts, key=lambda part: -part.rarity_bits)
        ],
    )
    screen.say(
        f"together: a rarity of {verdict.surprise_bits:.1f} bits, "
        f"a length of {verdict.description_bits:.1f} bits"
    )
    screen.table(
        "What makes it rare, by what it costs above what is typical",
        ("site", "term", "index", "bits", "typical", "above", "magnitude", "trusted rate"),
        [
            (
                charge.site,
                charge.term,
                str(charge.index),
                f"{charge.bits:.2f}",
                f"{charge.typical_bits:.2f}",
                f"{charge.bits - charge.typical_bits:+.2f}",
                f"{charge.magnitude:.3g}",
                "" if charge.trusted_rate is None else f"{charge.trusted_rate:.2%}",
            )
            for charge in explanation.charges
        ],
    )
    screen.say(f"everything else: {explanation.rest_bits:.1f} bits")
    if explanation.nearest:
        screen.table(
            "The trusted input with the most similar components",
            ("site", "row", "distance", "shared", "missing here", "only here"),
            [
                (
                    site,
                    str(found.row),
                    f"{found.distance:.2f}",
                    *(
                        " ".join(map(str, components))
                        for components in (found.shared, found.missing, found.extra)
                    ),
                )
                for site, found in explanation.nearest.items()
            ],
        )


def write_lines(
    path: Path, verdicts: Sequence["Verdict"], *, beside: Sequence[dict[str, float]] = ()
) -> None:
    """Write one JSON object a line, with its row; ConfigError if the file cannot be written.

    ``beside`` holds more of each verdict's line, where there is more.
    JSON has no infinity: bits that are not finite are the string ``Infinity``.
    """
    lines = (
        json.dumps(_finite({"row": row} | _told(verdict) | more), allow_nan=False) + "\n"
        for row, (verdict, more) in enumerate(
            zip(verdicts, beside or [{}] * len(verdicts), strict=True)
        )
    )
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def _told(verdict: "Verdict") -> dict[str, object]:
    parts = [
        part._asdict() | {"rare_combination_bits": part.rare_combination_bits}
        for part in verdict.parts
    ]
    return asdict(verdict) | {"parts": parts}


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
