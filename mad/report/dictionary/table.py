"""A report in; tables of words and figures, Markdown and JSON out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, TypeAlias, final

from mad.components.dictionaries.recovery import Cosines, Recovery
from mad.report.dictionary.report import Comparison, DictionaryReport, Examined

Row: TypeAlias = tuple[str, ...]

ABSENT: Final = "n/a"
"""What stands where a figure cannot be had."""


@final
@dataclass(frozen=True)
class Table:
    """Rows under columns, and one sentence that says what they mean."""

    title: str
    note: str
    columns: Row
    rows: tuple[Row, ...]


def title(report: DictionaryReport) -> str:
    """Say what was examined."""
    return (
        f"{len(report.dictionaries)} dictionaries of {report.model} on {report.held_out_inputs} "
        f"held-out trusted inputs (codes and means from {report.fitting_inputs} others)"
    )


def skipped(report: DictionaryReport) -> str:
    """Say which views are of no dictionary; empty if none."""
    views = ", ".join(report.skipped)
    return f"left out, as no dictionary explains them: {views}" if views else ""


def tables(report: DictionaryReport) -> tuple[Table, ...]:
    """Return the tables that have any rows."""
    own = report.dictionaries
    found = (
        Table("Reconstruction", _RECONSTRUCTION, _COLUMNS, tuple(map(_reconstruction, own))),
        Table("Use", _USE, _USE_COLUMNS, tuple(map(_use, own))),
        Table("Description length", _LENGTH, _LENGTH_COLUMNS, tuple(map(_length, own))),
        Table("Loss recovered", _SPLICE, _SPLICE_COLUMNS, tuple(_splices(own))),
        Table("Known directions", _TRUTH, _TRUTH_COLUMNS, tuple(_truths(own))),
        Table("Routers", _ROUTER, _ROUTER_COLUMNS, tuple(_routers(own))),
        Table("Compared", _COMPARED, _COMPARED_COLUMNS, tuple(map(_compared, report.comparisons))),
    )
    return tuple(table for table in found if table.rows)


def as_markdown(report: DictionaryReport) -> str:
    """Return the tables."""
    blocks = [f"{sentence}." for sentence in (title(report), skipped(report)) if sentence]
    for table in tables(report):
        lines = [table.columns, ("---",) * len(table.columns), *map(_escaped, table.rows)]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        blocks += [f"## {table.title}", table.note, body]
    return "\n\n".join(blocks) + "\n"


def as_json(report: DictionaryReport) -> object:
    """Return the object that ``json.dumps`` takes; every figure, not rounded, null for NaN."""
    found = asdict(report)
    for one, own in zip(found["dictionaries"], report.dictionaries, strict=True):
        one["reconstruction"]["explained_variance"] = own.reconstruction.explained_variance
        if own.splice is not None:
            one["splice"]["recovered_from_zero"] = own.splice.recovered_from_zero
            one["splice"]["recovered_from_mean"] = own.splice.recovered_from_mean
    return _finite(found)


_RECONSTRUCTION: Final = (
    "FVU is the share of variance left over. Cosine, length ratio and bias compare reconstructions "
    "with activations, both from the dictionary's centre; a bias below 1 is shrinkage, "
    "before gains what a penalty left of it in training."
)
_COLUMNS = (
    *("dictionary", "kind", "explains", "latents", "active", "FVU"),
    *("cosine", "length ratio", "relative bias", "before gains", "dead"),
)


def _reconstruction(one: Examined) -> Row:
    own = one.reconstruction
    reads = "" if one.reads == one.writes else f" from {', '.join(one.reads)}"
    return (
        *(one.view, one.kind, ", ".join(one.writes) + reads, f"{one.width}"),
        f"{one.use.active.mean:.1f}",
        *(f"{own.unexplained_variance:.4f}", f"{own.cosine:.4f}"),
        *(f"{own.length_ratio:.4f}", f"{own.relative_bias:.4f}"),
        ABSENT if one.shrunk is None else f"{one.shrunk:.4f}",
        f"{one.use.dead_share:.1%}",
    )


_USE: Final = (
    "Quantiles over held-out inputs of how many latents are active, and over active latents of how "
    "far they move the activation."
)
_USE_COLUMNS = (
    "dictionary",
    *(f"active {share}" for share in ("5 %", "25 %", "50 %", "75 %", "95 %")),
    *(f"magnitude {share}" for share in ("5 %", "25 %", "50 %", "75 %", "95 %")),
)


def _use(one: Examined) -> Row:
    active = (f"{value:g}" for value in one.use.active.quantiles)
    return (one.view, *active, *(_figure(value) for value in one.use.magnitudes.quantiles))


_LENGTH: Final = (
    "Bits of one held-out input: of its whole description on a grid of the step, a share of the "
    "deviation; of the same without the dictionary; and of the latents alone by the bound of "
    "MDL-SAEs, L0 (B + log2 C) with B = log2(1 / step)."
)
_LENGTH_COLUMNS = ("dictionary", "step", "description", "without it", "saved", "bound, latents")


def _length(one: Examined) -> Row:
    own = one.length
    bits, bare = own.description_bits, own.bare_bits
    described: Row = (ABSENT,) * 3
    if bits is not None and bare is not None:
        described = f"{bits:.1f}", f"{bare:.1f}", f"{1 - bits / bare:.1%}"
    return (one.view, f"{own.relative_step:g}", *described, f"{own.code_bits:.1f}")


_SPLICE: Final = (
    "The model's loss, in bits, with its own activation, with the reconstruction, and with zero or "
    "the mean in its place. Recovered is 1 - (spliced - clean) / (ablated - clean). The loss is "
    "cross-entropy against labels, or else the divergence from the model's own answer."
)
_SPLICE_COLUMNS = (
    *("dictionary", "loss", "clean", "spliced", "zero", "mean", "recovered, of zero"),
    *("recovered, of mean", "same label", "zero: same label", "mean: same label"),
)


def _splices(own: Sequence[Examined]) -> Iterator[Row]:
    for one in own:
        if (found := one.splice) is not None:
            effects = (found.reconstructed, found.zeroed, found.averaged)
            yield (
                *(one.view, found.loss, f"{found.clean_bits:.4f}"),
                *(f"{effect.loss_bits:.4f}" for effect in effects),
                *map(_figure, (found.recovered_from_zero, found.recovered_from_mean)),
                *(f"{effect.agreement:.1%}" for effect in effects),
            )


_TRUTH: Final = (
    "MMCS is the mean over known directions of the largest cosine with any latent's; matches are "
    "one-to-one. Unique is the share of known directions whose nearest latent is no other's too."
)
_FOUND = ("MMCS", "above 0.9", "above 0.95", "unique", "matched", "above 0.9", "above 0.95")
_TRUTH_COLUMNS = ("dictionary", "known", *_FOUND)


def _truths(own: Sequence[Examined]) -> Iterator[Row]:
    for one in own:
        if one.truth is not None:
            yield (one.view, f"{one.truth.known}", *_recovery(one.truth))


_ROUTER: Final = (
    "Is the router a down-projection of the encoder's features? Then its rows lie where the "
    "encoder's do (principal angles, R2 in the leading quarter of directions), point where their "
    "own expert's do, and choose the expert of the largest latents. Repeated are latents whose "
    "direction another expert has too."
)
_ROUTER_COLUMNS = (
    *("dictionary", "experts", "angle cosine", "by chance", "R2", "by chance", "own cosine"),
    *("other cosine", "agreement", "by chance", "repeated"),
)


def _routers(own: Sequence[Examined]) -> Iterator[Row]:
    for one in own:
        if (found := one.router) is not None:
            yield (
                *(one.view, f"{found.experts}"),
                *(f"{found.angle_cosine:.3f}", f"{found.angle_cosine_by_chance:.3f}"),
                *(f"{found.r_squared:.3f}", f"{found.r_squared_by_chance:.3f}"),
                *(f"{found.own_cosine:.3f}", f"{found.other_cosine:.3f}"),
                *(f"{found.agreement:.1%}", f"{found.agreement_by_chance:.1%}"),
                f"{found.repeated:.1%}",
            )


_COMPARED: Final = (
    "RSA (with the 95 % interval of bootstraps) and linear CKA compare the codes of the same "
    "held-out inputs; directions are those of living latents of the first, looked for in the "
    "second."
)
_COMPARED_COLUMNS = ("first", "second", "RSA", "interval", "CKA", "debiased CKA", *_FOUND)


def _compared(one: Comparison) -> Row:
    own = one.similarity
    interval = f"{own.rsa_low:.3f} to {own.rsa_high:.3f}" if math.isfinite(own.rsa) else ABSENT
    directions = (ABSENT,) * len(_FOUND) if one.recovery is None else _recovery(one.recovery)
    return (
        *(one.first, one.second, _figure(own.rsa), interval),
        *(_figure(own.cka), _figure(own.cka_debiased), *directions),
    )


def _recovery(found: Recovery) -> Row:
    matched = (ABSENT,) * 3 if found.matched is None else _cosines(found.matched)
    return (*_cosines(found.nearest), f"{found.unique:.1%}", *matched)


def _cosines(found: Cosines) -> Row:
    return f"{found.mean:.3f}", f"{found.above_90:.1%}", f"{found.above_95:.1%}"


def _figure(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else ABSENT


def _escaped(row: Row) -> Row:
    return tuple(cell.replace("|", "\\|") for cell in row)


def _finite(value: object) -> object:
    """Put null in the place of numbers that JSON has no word for."""
    match value:
        case dict():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
