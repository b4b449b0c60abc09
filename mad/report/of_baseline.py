"""The report of one version of a baseline: what it is, what it promises, where its bits lie."""

import math
from collections.abc import Sequence
from typing import Final

from mad.baseline.bundle import Baseline, Provenance
from mad.calibration.conformal import attainable_rate, required_reference
from mad.calibration.health import promised_interval
from mad.promotion import halves
from mad.report.drawing import bars, curves
from mad.report.sheet import Section, Sheet, Table, facts, number, share
from mad.types import MEASURES

RATES: Final = (0.1, 0.05, 0.01, 0.005, 0.001, 0.0001)
"""Rates that operators ask of, besides the baseline's own."""

Lengths = Sequence[tuple[str, str, float]]
"""Site, term and mean length in bits."""


def baseline_sheet(
    baseline: Baseline,
    provenance: Provenance,
    aliases: Sequence[str],
    lengths: Lengths,
    inputs: int,
) -> Sheet:
    """Report on a version; ``lengths`` are mean ones of so many inputs of the reference."""
    manifest = baseline.manifest
    standing = ", ".join(aliases) or "no alias points at it"
    return Sheet(
        f"Baseline {manifest.revision} of {manifest.model_name}",
        f"Made {manifest.created:%Y-%m-%d %H:%M} UTC; {standing}.",
        (
            _promise(baseline),
            _accounting(lengths, inputs),
            Section(
                title="Where it comes from",
                tables=(_manifest(baseline), _provenance(provenance), _versions(baseline)),
            ),
        ),
    )


def _promise(baseline: Baseline) -> Section:
    manifest = baseline.manifest
    rates = sorted({manifest.false_alarm_rate, *RATES}, reverse=True)
    rarities = dict(zip(MEASURES, (one.tolist() for one in baseline.references), strict=True))
    own = halves(baseline)
    return Section(
        title="What it promises",
        prose=f"The reference's later half, ranked by its earlier: {own.verdict}.",
        standing="ok" if own.standing == "as promised" else "bad",
        drawings=(
            curves(
                "Across: bits of rarity. Up: share of the reference above, on a log axis. Dashed: "
                "the promise, one input in 2 to the power of the bits. The reference has fitted "
                "nothing, so lines near it say that rarities mean what they say.",
                rarities,
            ),
        ),
        tables=(
            Table(
                f"Rates that a reference of {manifest.reference_inputs} supports",
                ("false-alarm rate", "supported", "inputs needed", "rate of 99 % of references"),
                tuple(_supported(rate, manifest.reference_inputs) for rate in rates),
            ),
        ),
    )


def _supported(rate: float, reference: int) -> tuple[str, str, str, str]:
    is_supported = rate >= attainable_rate(reference)
    promised = promised_interval(rate, reference) if is_supported else None
    return (
        share(rate),
        "yes" if is_supported else "no",
        str(required_reference(rate)),
        f"{share(promised.low)} to {share(promised.high)}" if promised else "",
    )


def _accounting(lengths: Lengths, inputs: int) -> Section:
    ranked = sorted(lengths, key=lambda one: -one[2])
    total = sum(bits for *_, bits in lengths)
    finite = total > 0 and math.isfinite(total)
    return Section(
        title="Accounting of bits",
        prose=f"{number(total)} bits describe an ordinary input's activity, on the mean of "
        f"{inputs} inputs of the reference.",
        drawings=(
            bars(
                "Mean length by site and term, in bits: what an alert's ledger is to be compared "
                "with.",
                [(f"{site} {term}", bits) for site, term, bits in ranked],
                unit="bits",
            ),
        ),
        tables=(
            Table(
                "",
                ("site", "term", "bits", "of all"),
                tuple(
                    (site, term, number(bits), share(bits / total) if finite else "")
                    for site, term, bits in lengths
                ),
            ),
        ),
    )


def _manifest(baseline: Baseline) -> Table:
    manifest = baseline.manifest
    above = "by context" if manifest.by_context else f"{manifest.threshold_bits:.2f} bits"
    named = ", ".join(f"{one.name} {one.dtype} {list(one.shape)}" for one in manifest.inputs)
    return facts(
        "Manifest",
        (
            ("model", manifest.model_name),
            ("sites", ", ".join(manifest.sites)),
            ("inputs", named),
            ("false-alarm rate", share(manifest.false_alarm_rate)),
            ("alerts go by", f"{manifest.alert_on}, above {above}"),
            ("inputs the codes were fitted on", str(manifest.fit_inputs)),
            ("inputs that weigh parts", str(manifest.weighing_inputs)),
            ("inputs of the reference", str(manifest.reference_inputs)),
            ("context", str(manifest.context)),
            ("activity", str(manifest.activity)),
            ("seed", str(manifest.seed)),
            ("fingerprint of the model", manifest.model_fingerprint),
            ("fingerprint of the decomposition", manifest.decomposition_fingerprint),
        ),
    )


def _provenance(provenance: Provenance) -> Table:
    known = (
        ("made by", provenance.principal),
        ("data from", provenance.source),
        ("digest of the data", provenance.data_digest),
        ("fit job", provenance.job_id),
        (
            "set aside before the fit",
            f"{provenance.quarantined_inputs} of {provenance.inputs}" if provenance.inputs else "",
        ),
    )
    rows = [(name, value) for name, value in known if value]
    return facts("Provenance", rows or [("of this version", "nothing is known")])


def _versions(baseline: Baseline) -> Table:
    return facts("Versions that fitted it", sorted(baseline.manifest.library_versions.items()))
