"""Findings as tables on a terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from mad.bench.detection import Estimate
from mad.demo.findings import Claim, Findings
from mad.demo.images import CLASSES
from mad.demo.logged import LoggedAlert
from mad.demo.traffic import Traffic

SHOWN_ALERTS = 3
SHOWN_CHARGES = 5


def show(findings: Findings, traffic: Traffic, console: Console) -> None:
    """Print what was found: the model, detection, alarms, three alerts, counters, claims."""
    _show_model(findings, console)
    _show_detection(findings, console)
    _show_alarms(findings, console)
    for alert in _spread([alert for alert in findings.alerts if alert.kind == "triggered"]):
        _show_alert(alert, traffic, console)
    _show_counters(findings, console)
    show_claims(findings.claims, console)


def show_claims(claims: Iterable[Claim], console: Console) -> None:
    """Print each claim and whether it holds."""
    table = _table("Claims", "", "")
    for claim in claims:
        mark = "[green]holds[/]" if claim.holds else "[bold red]FAILS[/]"
        table.add_row(mark, claim.sentence)
    console.print(table)


def _show_model(findings: Findings, console: Console) -> None:
    skill = findings.skill
    table = _table("The monitored model, on images it was not trained on", "", "share")
    table.add_row("accuracy of a clean model", f"{skill.clean_accuracy:.2%}")
    table.add_row("accuracy of the model with the backdoor", f"{skill.backdoored_accuracy:.2%}")
    table.add_row("triggered images of other classes it calls a bag", f"{skill.attack_success:.2%}")
    console.print(table)


def _show_detection(findings: Findings, console: Console) -> None:
    table = _table(
        "Triggered against ordinary images (95 % bootstrap intervals)",
        "score",
        "AUROC",
        "recall at 1 % false alarms",
    )
    for name, detection in findings.detection.items():
        table.add_row(name, _interval(detection.auroc, 4), _interval(detection.recall, 3))
    console.print(table)


def _show_alarms(findings: Findings, console: Console) -> None:
    manifest = findings.manifest
    table = _table(
        f"Alarms at the nominal rate {manifest.false_alarm_rate:.2%}, above "
        f"{manifest.threshold_bits:.1f} bits ({manifest.reference_inputs} reference images)",
        "traffic",
        "images",
        "alarms",
        "rate",
        "99 % interval",
        "median bits",
    )
    for kind, answers in findings.answers.items():
        low, high = findings.alarm_interval(kind)
        table.add_row(
            kind,
            str(len(answers.surprise)),
            str(answers.alarms),
            f"{answers.alarms / len(answers.surprise):.2%}",
            f"{low:.2%} to {high:.2%}",
            f"{float(answers.surprise.median()):.1f}",
        )
    console.print(table)


def _show_alert(alert: LoggedAlert, traffic: Traffic, console: Console) -> None:
    truth = CLASSES[int(traffic.triggered.labels[alert.image])]
    ledger = " + ".join(f"{part.bits:.1f} {part.site} {part.term}" for part in alert.parts)
    table = _table(
        f"Alert {alert.alert_id}: a triggered {truth}, taken for a {CLASSES[alert.predicted]}\n"
        f"{alert.surprise_bits:.1f} bits (p = {alert.p_value:.2g}) = {ledger}",
        "site",
        "furthest above typical",
        "bits",
        "typical bits",
        "magnitude",
        "trusted rate",
    )
    for charge in alert.charges[:SHOWN_CHARGES]:
        what = "component" if charge.term == "set" else "residual coordinate"
        table.add_row(
            charge.site,
            f"{what} {charge.index}",
            f"{charge.bits:.2f}",
            f"{charge.typical_bits:.2f}",
            f"{charge.magnitude:.2f}",
            "" if charge.trusted_rate is None else f"{charge.trusted_rate:.2%}",
        )
    console.print(table)


def _show_counters(findings: Findings, console: Console) -> None:
    server, client = findings.counters, findings.counted
    table = _table("Counters", "", "server's /metrics", "client's own count")
    table.add_row("images scored", str(server.scored), str(client.scored))
    table.add_row(
        "p-values within the nominal rate", str(server.within_rate), str(client.within_rate)
    )
    table.add_row("alerts raised", str(server.alerts), str(client.alerts))
    table.add_row("alerts in the log", str(len(findings.alerts)), str(client.alerts))
    console.print(table)


def _spread(alerts: Sequence[LoggedAlert]) -> Sequence[LoggedAlert]:
    """Choose the first, middle and last of the alerts."""
    last = len(alerts) - 1
    places = {round(last * step / (SHOWN_ALERTS - 1)) for step in range(SHOWN_ALERTS)}
    return [alerts[place] for place in sorted(places)] if alerts else []


def _table(title: str, name: str, *figures: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(name)
    for figure in figures:
        table.add_column(figure, justify="right" if figure else "left")
    return table


def _interval(estimate: Estimate, digits: int) -> str:
    low, high = f"{estimate.low:.{digits}f}", f"{estimate.high:.{digits}f}"
    return f"{estimate.value:.{digits}f} ({low} to {high})"
