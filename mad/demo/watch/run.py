"""Watch the demo's server: ordinary traffic, a burst of triggered images, and who is told."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

from jaxtyping import UInt8
from torch import Tensor

from mad.client import Client, request, traffic_options
from mad.demo.folder import RunFolder
from mad.demo.images import Splits
from mad.demo.server import serving
from mad.demo.stream import REQUEST_INPUTS
from mad.demo.traffic import divide
from mad.demo.watch.beside import Beside, beside
from mad.demo.watch.pictures import pictures_of, take
from mad.demo.watch.programs import find_programs
from mad.demo.watch.receiver import Inbox, Notification, receiving

SCRAPE_S: Final = 2
ALERT: Final = "MadAnomalyBurst"
_TOLD_S: Final = 120.0
_SEEN_S: Final = 60
_SCRAPES: Final = 3

Say = Callable[[str], None]


@final
@dataclass(frozen=True)
class Watched:
    """How long the burst took to the webhook, None if it never came, and what came altogether."""

    seconds: float | None
    notifications: tuple[Notification, ...]


def watch(folder: RunFolder, splits: Splits, *, seed: int, say: Say) -> Watched:
    """Serve a prepared run folder, watch it, and send it a burst of triggered images.

    Raises:
        ConfigError: a program is missing, or did not start.
    """
    programs = find_programs()
    folder.forget()
    traffic = divide(splits.fresh, seed=seed)
    with (
        receiving(lambda one: _tell(one, say)) as inbox,
        serving(folder) as server,
        Client(server.target) as client,
        beside(
            folder.watched,
            programs,
            scraped=f"127.0.0.1:{server.http_port}",
            webhook=inbox.url,
            scrape_s=SCRAPE_S,
        ) as tools,
    ):
        say(f"page {server.url}, Prometheus {tools.prometheus}, Alertmanager {tools.alertmanager}")
        half = len(traffic.ordinary) // 2
        say(f"{half} ordinary images as trusted traffic, and as many as live traffic")
        send(client, traffic.ordinary.images[:half], traffic="trusted")
        send(client, traffic.ordinary.images[half:], traffic="live")
        _settle(tools, inbox)
        say(f"a burst of {len(traffic.triggered)} images with the backdoor's trigger")
        began = datetime.now(UTC)
        send(client, traffic.triggered.images, traffic="live")
        told = inbox.wait_for(ALERT, timeout_s=_TOLD_S)
        _look(client, server.url, folder.pictures, say)
        seconds = (told.received - began).total_seconds() if told else None
        server.stop()
        return Watched(seconds, inbox.notifications)


def send(client: Client, images: UInt8[Tensor, "batch 28 28"], *, traffic: str) -> None:
    """Have images scored as one kind of traffic, request by request."""
    options = traffic_options(traffic)
    for part in images.split(REQUEST_INPUTS):
        client.score(request({"image": part}, options=options))


def _settle(tools: Beside, inbox: Inbox) -> None:
    """Wait until Prometheus has seen ordinary traffic, as it would have for long."""
    query = f'count_over_time(up{{job="mad"}}[1h]) >= {_SCRAPES}'
    for _ in range(_SEEN_S):
        if tools.query(query):
            return
        inbox.wait_for(ALERT, timeout_s=1)


def _tell(one: Notification, say: Say) -> None:
    lines = [f"webhook, {one.route}, {one.status}: {one.name}"]
    lines += [one.annotations[name] for name in ("summary", "description", "runbook_url")]
    # In one go: another message may come in the middle.
    say("\n    ".join(lines))


def _look(client: Client, url: str, into: Path, say: Say) -> None:
    (alert,) = client.alerts(page_size=1).alerts
    baseline, _, _ = alert.baseline_revision.partition("@")
    found = take(url, pictures_of(alert.alert_id, baseline), into=into)
    if isinstance(found, str):
        say(found)
    else:
        for path in found:
            say(f"picture {path}")
