"""Serve the run folder and send it the three kinds of traffic, as its users would."""

from collections.abc import Mapping
from dataclasses import dataclass

from mad.client import Client
from mad.demo.folder import RunFolder
from mad.demo.logged import ExplainedAlert, LoggedAlert, explain_some, read_alerts
from mad.demo.server import serving
from mad.demo.stream import Answers, Counters, read_counters, send
from mad.demo.traffic import Traffic
from mad.types import Progress


@dataclass(frozen=True)
class Served:
    """What one life of the server showed; ``answers`` are by kind of traffic."""

    answers: Mapping[str, Answers]
    counters: Counters
    alerts: tuple[LoggedAlert, ...]
    explained: tuple[ExplainedAlert, ...]
    exit_status: int


def attack(
    folder: RunFolder, traffic: Traffic, *, false_alarm_rate: float, progress: Progress
) -> Served:
    """Start the server, stream the traffic, read counters and alerts back, and stop it.

    Raises:
        ConfigError: the server did not start.
    """
    progress("starting the server", done=0, total=1)
    with serving(folder) as server, Client(server.target) as client:
        progress("starting the server", done=1, total=1)
        answers = {
            kind: send(client, kind, part.images, progress=progress)
            for kind, part in traffic.kinds.items()
        }
        counters = read_counters(server.url, false_alarm_rate=false_alarm_rate)
        alerts = tuple(read_alerts(client))
        triggered = [alert for alert in alerts if alert.kind == "triggered"]
        explained = explain_some(client, triggered, traffic.triggered.images)
        return Served(answers, counters, alerts, explained, server.stop())
