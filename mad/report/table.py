"""An accounting in; rows of a table, Markdown and JSON out."""

from collections.abc import Iterator
from dataclasses import asdict

from mad.report.accounting import SHARES, Accounting, SiteAccount
from mad.types import Site

COLUMNS = (
    "described in",
    "parameters",
    "parameter bits",
    "set bits",
    "magnitude bits",
    "residual bits",
    "bits an input",
)
CODES = ("described in", "components", "active", "pitch, steps", "set", "magnitudes", "residual")


def rows(accounting: Accounting, site: Site | None = None) -> Iterator[tuple[str, ...]]:
    """Return one row a vocabulary, in the order of ``COLUMNS``, for one site or for all.

    Bits are of one input: the parameters' are their share of the total.
    """
    for vocabulary in accounting.vocabularies:
        bits = accounting.per_input(vocabulary, site)
        yield (
            vocabulary,
            str(sum(account.parameters for account in accounting.of(vocabulary, site))),
            *(f"{bits[share]:.1f}" for share in SHARES),
            f"{sum(bits.values()):.1f}",
        )


def codes(accounting: Accounting, site: Site) -> Iterator[tuple[str, ...]]:
    """Return the codes that were chosen at a site, in the order of ``CODES``."""
    for vocabulary in accounting.vocabularies:
        for account in accounting.of(vocabulary, site):
            yield (
                vocabulary,
                str(account.components),
                f"{account.active:.1f}",
                f"{account.pitch_steps:g}",
                *(term.code for term in account.terms),
            )


def sites(accounting: Accounting) -> tuple[Site, ...]:
    """Return the sites, in order."""
    return tuple(dict.fromkeys(account.site for account in accounting.sites))


def title(accounting: Accounting) -> str:
    """Say what was counted."""
    return (
        f"Bits that describe the activations of {accounting.inputs} trusted inputs, an input "
        f"({accounting.fitting_inputs} fitted, means over {accounting.held_out_inputs} held out)"
    )


def as_markdown(accounting: Accounting) -> str:
    """Return the tables, all sites first."""
    blocks = [title(accounting) + "."]
    where = sites(accounting)
    if len(where) > 1:
        blocks += ["## All sites", _markdown(COLUMNS, rows(accounting))]
    for site in where:
        blocks += [
            f"## Site `{site}`",
            _markdown(COLUMNS, rows(accounting, site)),
            _markdown(CODES, codes(accounting, site)),
        ]
    return "\n\n".join(blocks) + "\n"


def as_json(accounting: Accounting) -> dict[str, object]:
    """Return the object that ``json.dumps`` takes; every figure of the tables, not rounded."""
    return {
        "inputs": accounting.inputs,
        "fitting_inputs": accounting.fitting_inputs,
        "held_out_inputs": accounting.held_out_inputs,
        "all_sites": {
            vocabulary: {
                "bits_an_input": accounting.per_input(vocabulary),
                "total_bits": accounting.total_bits(vocabulary),
            }
            for vocabulary in accounting.vocabularies
        },
        "sites": [_site(accounting, account) for account in accounting.sites],
    }


def _site(accounting: Accounting, account: SiteAccount) -> dict[str, object]:
    key = (account.vocabulary, account.site)
    return {
        **asdict(account),
        "bits_an_input": accounting.per_input(*key),
        "total_bits": accounting.total_bits(*key),
    }


def _markdown(columns: tuple[str, ...], cells: Iterator[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
