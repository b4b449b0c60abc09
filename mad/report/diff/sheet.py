"""What has moved between two baselines or models, as tables and drawings, and as JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from mad.report.diff.flow import Diff, Length, Viewed
from mad.report.diff.weights import Expressed
from mad.report.drawing import bars
from mad.report.sheet import Section, Sheet, Table, share

_DRAWN: Final = 20


def diff_sheet(diff: Diff, *, top: int) -> Sheet:
    """Report on what has moved; at most ``top`` components a table."""
    return Sheet(
        f"{diff.first} and {diff.second}",
        _prose(diff),
        tuple(
            filter(
                None,
                (
                    _lengths(diff),
                    _components(diff, top) if diff.views else None,
                    *(_weights(one, top) for one in diff.weights),
                ),
            )
        ),
    )


def as_json(diff: Diff) -> Mapping[str, object]:
    """Return every figure, by component in the order of their numbers; NaN is null."""
    return {
        "compared": diff.compared,
        "first": diff.first,
        "second": diff.second,
        "inputs": diff.inputs,
        "lengths": [
            {
                "site": one.site,
                "term": one.term,
                "first_bits": _known(one.first),
                "second_bits": _known(one.second),
                "difference_error_bits": _known(one.error),
            }
            for one in diff.lengths
        ],
        "views": {one.view: _view(one) for one in diff.views},
        "weights": {
            one.layer: {
                "change": one.change,
                "explained": _known(one.explained),
                "factors": one.factors.tolist(),
                "sizes": one.sizes.tolist(),
            }
            for one in diff.weights
        },
    }


def _view(one: Viewed) -> Mapping[str, object]:
    return {
        "rates_bits": float(one.moves.rates.sum()),
        "rates_beyond_chance_bits": one.moves.beyond_chance,
        "components": [
            {
                "first_rate": row[0],
                "second_rate": row[1],
                "rate_bits": row[2],
                "first_magnitude": _known(row[3]),
                "second_magnitude": _known(row[4]),
                "magnitude_bits": _known(row[5]),
            }
            for row in zip(
                one.first.rates.tolist(),
                one.second.rates.tolist(),
                one.moves.rates.tolist(),
                one.first.typical.tolist(),
                one.second.typical.tolist(),
                one.moves.magnitudes.tolist(),
                strict=True,
            )
        ],
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _prose(diff: Diff) -> str:
    if diff.compared == "baselines":
        return (
            f"What {diff.second} expects, held against what {diff.first} expects. Bits are what "
            f"describing the first by the second's codes costs more, an input; lengths are over "
            f"{diff.inputs} trusted inputs."
        )
    return (
        f"The same {diff.inputs} trusted inputs through {diff.first} and {diff.second}, under one "
        "decomposition. Bits are what describing the first's use of components by the second's "
        "rates and magnitudes costs more, an input."
    )


def _lengths(diff: Diff) -> Section:
    ranked = sorted(diff.lengths, key=lambda one: -_size(one.more))
    by = "by" if diff.compared == "baselines" else "of"
    total = sum(one.more for one in diff.lengths if math.isfinite(one.more))
    return Section(
        title="Lengths by site and term",
        prose=f"In all, the same inputs cost {_bits(total)} more {by} {diff.second}.",
        drawings=(
            bars(
                "How far mean lengths are apart, in bits an input, either way.",
                [(f"{one.site} {one.term}", _size(one.more)) for one in ranked[:_DRAWN]],
                unit="bits",
            ),
        ),
        tables=(
            Table(
                "",
                ("site", "term", f"{by} {diff.first}", f"{by} {diff.second}", "more", "± error"),
                tuple(_row(one) for one in ranked),
            ),
        ),
    )


def _size(more: float) -> float:
    """Return how far apart lengths are; a term that one side has not is not apart."""
    return 0.0 if math.isnan(more) else abs(more)


def _row(one: Length) -> tuple[str, ...]:
    bits = (one.first, one.second, one.more, one.error)
    return (one.site, one.term, *(_number(value) for value in bits))


def _components(diff: Diff, top: int) -> Section:
    ranked = sorted(
        (
            (float(bits), one, place)
            for one in diff.views
            for place, bits in enumerate(one.moves.total.tolist())
        ),
        key=lambda row: -row[0],
    )[:top]
    drawn = [(f"{one.view}:{place}", bits) for bits, one, place in ranked[:_DRAWN]]
    return Section(
        title="Components that moved",
        drawings=(
            bars("Bits an input, of rate and magnitude together, most first.", drawn, unit="bits"),
        ),
        tables=(
            Table(
                "By view",
                ("view", "components", "rates, bits", "beyond chance", "magnitudes, bits"),
                tuple(_view_row(one) for one in diff.views),
            ),
            Table(
                f"The {len(ranked)} that moved most",
                (
                    "component",
                    "rate",
                    "then",
                    "bits",
                    "magnitude",
                    "then",
                    "bits",
                ),
                tuple(_component_row(one, place) for _, one, place in ranked),
            ),
        ),
    )


def _view_row(one: Viewed) -> tuple[str, ...]:
    magnitudes = one.moves.magnitudes
    known = float(magnitudes.nansum()) if not magnitudes.isnan().all() else math.nan
    return (
        one.view,
        str(len(one.first.rates)),
        _number(float(one.moves.rates.sum())),
        _number(one.moves.beyond_chance),
        _number(known),
    )


def _component_row(one: Viewed, place: int) -> tuple[str, ...]:
    return (
        f"{one.view}:{place}",
        share(float(one.first.rates[place])),
        share(float(one.second.rates[place])),
        _number(float(one.moves.rates[place])),
        _number(float(one.first.typical[place])),
        _number(float(one.second.typical[place])),
        _number(float(one.moves.magnitudes[place])),
    )


def _weights(one: Expressed, top: int) -> Section:
    title = f"Weights of {one.layer}"
    if math.isnan(one.explained):
        return Section(title=title, prose="They are the same.")
    order: Sequence[int] = one.sizes.argsort(descending=True, stable=True)[:top].tolist()
    rows = [(place, float(one.factors[place]), float(one.sizes[place])) for place in order]
    return Section(
        title=title,
        prose=f"The difference has {share(one.change)} of the squares of the matrix; stronger and "
        f"weaker subcomponents account for {share(one.explained)} of it, and the rest is in "
        "directions that none of them has.",
        drawings=(
            bars(
                "Length of each subcomponent's part of the difference, the whole being one "
                "hundred.",
                [(f"{one.layer}:{place}", 100 * size) for place, _, size in rows[:_DRAWN]],
            ),
        ),
        tables=(
            Table(
                "",
                ("subcomponent", "has become stronger by", "length of that, of the difference"),
                tuple(
                    (f"{one.layer}:{place}", share(factor), share(size))
                    for place, factor, size in rows
                ),
            ),
        ),
    )


def _number(value: float) -> str:
    """Write a figure with three digits; nothing for what is unknown."""
    return "" if math.isnan(value) else f"{value:.3g}"


def _bits(value: float) -> str:
    return f"{value:.3g} bits"
