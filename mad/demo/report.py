"""Findings as tables on a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from rich.console import Console
from rich.table import Table

from mad.bench.detection import Estimate
from mad.demo.findings import Findings
from mad.demo.images import CLASSES, Labelled
from mad.demo.logged import ExplainedAlert
from mad.demo.traffic import TARGET
from mad.types import MEASURES, Term

_SHOWN_CHARGES: Mapping[Term, int] = {
    "set": 4,
    "output": 1,
    "magnitudes": 2,
    "residual": 2,
    "neighbours": 1,
}
_CHARGED: Mapping[Term, str] = {
    "set": "component",
    "output": "despite component",
    "magnitudes": "strength of component",
    "residual": "coordinate",
    "neighbours": "nearest trusted image",
}

Row = Sequence[str]


def show(findings: Findings, triggered: Labelled, console: Console) -> None:
    """Print what was found: alerts, counters, the model, detection, alarms, measures, claims."""
    for explained in findings.served.explained:
        truth = CLASSES[int(triggered.labels[explained.alert.image])]
        _show_alert(explained, truth, console)
    _show_counters(findings, console)
    _show_model(findings, console)
    _show_detection(findings, console)
    _show_alarms(findings, console)
    _show_measures(findings, console)
    rows = [("holds" if claim.holds else "FAILS", claim.sentence) for claim in findings.claims]
    _print("Claims", ("", "with this run's figures"), rows, console)


def _show_alert(explained: ExplainedAlert, truth: str, console: Console) -> None:
    alert = explained.alert
    title = (
        f"Alert {alert.alert_id}: a triggered {truth}, taken for a {CLASSES[alert.predicted]}\n"
        f"surprise {alert.surprise_bits:.1f} bits, mechanism {alert.mechanism_bits:.1f}, novelty "
        f"{alert.novelty_bits:.1f}, p = {alert.p_value:.2g}; its parts and what makes them rare"
    )
    columns = ("", "rarity, bits", "length, bits", "typical", "magnitude", "trusted rate")
    _print(title, columns, list(_ledger(explained)), console)


def _ledger(explained: ExplainedAlert) -> Iterator[Row]:
    for part in explained.alert.parts:
        yield f"{part.site} {part.term}", f"{part.rarity_bits:.1f}", f"{part.bits:.1f}", "", "", ""
        for name, bits in (
            ("rare components", part.rare_components_bits),
            ("rare combination", part.rare_combination_bits),
        ):
            if bits is not None:
                yield f"  {name}", "", f"{bits:.1f}", "", "", ""
        charges = (
            charge
            for charge in explained.charges
            if charge.site == part.site and charge.term == part.term
        )
        for charge in islice(charges, _SHOWN_CHARGES[part.term]):
            yield (
                f"  {_CHARGED[part.term]} {charge.index}",
                "",
                f"{charge.bits:.2f}",
                f"{charge.typical_bits:.2f}",
                f"{charge.magnitude:.2f}" if charge.magnitude else "silent",
                "" if charge.trusted_rate is None else f"{charge.trusted_rate:.1%}",
            )


def _show_counters(findings: Findings, console: Console) -> None:
    server, client = findings.served.counters, findings.counted
    rows = [
        ("images scored", server.scored, client.scored),
        ("p-values within the nominal rate", server.within_rate, client.within_rate),
        ("alerts", server.alerts, client.alerts),
    ]
    _print(
        "Counters",
        ("", "server's /metrics", "client's own count"),
        [(what, str(counted), str(expected)) for what, counted, expected in rows],
        console,
    )


def _show_model(findings: Findings, console: Console) -> None:
    skill = findings.skill
    rows = [
        ("accuracy of a clean model", f"{skill.clean_accuracy:.2%}"),
        ("accuracy of the monitored model", f"{skill.backdoored_accuracy:.2%}"),
        (
            f"triggered images of other classes that it takes for a {CLASSES[TARGET]}",
            f"{skill.attack_success:.2%}",
        ),
    ]
    _print("The monitored model, on images it was not trained on", ("", "share"), rows, console)


def _show_detection(findings: Findings, console: Console) -> None:
    rows = [
        (name, _interval(detection.auroc), _interval(detection.recall))
        for name, detection in findings.detection.items()
    ]
    _print(
        "Triggered against ordinary images, with 95 % bootstrap intervals",
        ("score", "AUROC", "recall at 1 % false alarms"),
        rows,
        console,
    )


def _show_alarms(findings: Findings, console: Console) -> None:
    manifest = findings.manifest
    rows = []
    for kind, answers in findings.served.answers.items():
        low, high = findings.alarm_interval(kind)
        rows.append(
            (
                kind,
                str(len(answers)),
                str(answers.alarms),
                f"{answers.alarms / len(answers):.2%}",
                f"{low:.2%} to {high:.2%}",
            )
        )
    _print(
        f"Alarms at the nominal rate of {manifest.false_alarm_rate:.2%}: {manifest.alert_on} above "
        f"{manifest.threshold_bits:.1f} bits, from {manifest.reference_inputs} reference images",
        ("traffic", "images", "alarms", "rate", "99 % interval"),
        rows,
        console,
    )


def _show_measures(findings: Findings, console: Console) -> None:
    rows = [
        (
            kind,
            *(
                f"{findings.flagged(kind, measure) / len(answers):.2%}, "
                f"{float(answers.rarity[measure].median()):.1f}"
                for measure in MEASURES
            ),
        )
        for kind, answers in findings.served.answers.items()
    ]
    _print(
        "What each measure by itself would flag at that rate, and its median bits",
        ("traffic", *MEASURES),
        rows,
        console,
    )
    mechanism, novelty = (findings.flagged("triggered", name) for name in MEASURES[1:])
    console.print(
        "The trigger is mostly an unusual use of components."
        if mechanism > novelty
        else "The trigger is mostly something new: trusted images never use what it uses, so no "
        "component stands for it.",
        highlight=False,
        soft_wrap=True,
    )


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _print(title: str, columns: Sequence[str], rows: Sequence[Row], console: Console) -> None:
    table = Table(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right" if len(columns) > 2 else "left")  # noqa: PLR2004
    for row in rows:
        table.add_row(*row)
    # Outside the table: a title within it is broken at the table's width.
    console.print(f"\n{title}", style="bold", highlight=False)
    console.print(table)
