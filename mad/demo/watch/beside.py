"""A real Prometheus and Alertmanager beside a server, by the settings that operators copy."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from mad.demo.watch.programs import Programs, shipped_settings
from mad.errors import ConfigError

_START_S: Final = 60.0
_STOP_S: Final = 10.0


@final
@dataclass(frozen=True)
class Beside:
    """Where both answer."""

    prometheus: str
    alertmanager: str

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Ask Prometheus for the present values of an expression, with their labels."""
        found = _read(f"{self.prometheus}/api/v1/query?{urlencode({'query': expression})}")
        return [(one["metric"], float(one["value"][1])) for one in found["data"]["result"]]

    def troubles(self) -> list[str]:
        """Return the rules that Prometheus could not evaluate, with why."""
        groups = _read(f"{self.prometheus}/api/v1/rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] == "err"]

    def states(self) -> dict[str, str]:
        """Return what Alertmanager does about each alert it has: active or suppressed."""
        found = _read(f"{self.alertmanager}/api/v2/alerts")
        return {one["labels"]["alertname"]: one["status"]["state"] for one in found}


@contextmanager
def beside(
    folder: Path, programs: Programs, *, scraped: str, webhook: str, scrape_s: int
) -> Iterator[Beside]:
    """Run both until the block ends: their settings, data and logs are in ``folder``.

    ``scraped`` is the host and port of a server's metrics, ``webhook`` the URL that the names of
    receivers are added to. The settings are those of ``deploy/`` but for addresses and intervals.

    Raises:
        ConfigError: one of them did not start; with its last words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own, theirs = _free_ports(2)
    prometheus, alertmanager = f"127.0.0.1:{own}", f"127.0.0.1:{theirs}"
    shipped = shipped_settings()
    _copy(
        shipped / "prometheus" / "prometheus.yml",
        folder / "prometheus.yml",
        {
            "127.0.0.1:8002": scraped,
            "127.0.0.1:9093": alertmanager,
            "_interval: 15s": f"_interval: {scrape_s}s",
            '"rules/*.yml"': f'"{shipped}/prometheus/rules/*.yml"',
            "runbooks: deploy/runbooks": f"runbooks: {shipped}/runbooks",
        },
    )
    _copy(
        shipped / "alertmanager" / "alertmanager.yml",
        folder / "alertmanager.yml",
        {"http://127.0.0.1:9099": webhook},
    )
    with ExitStack() as running:
        # No evidence of an earlier run: it would be told of at once.
        for data in (folder / "prometheus-data", folder / "alertmanager-data"):
            shutil.rmtree(data, ignore_errors=True)
        running.enter_context(
            _program(
                [
                    programs.alertmanager,
                    f"--config.file={folder}/alertmanager.yml",
                    f"--storage.path={folder}/alertmanager-data",
                    f"--web.listen-address={alertmanager}",
                    "--cluster.listen-address=",
                ],
                log=folder / "alertmanager.log",
                ready=f"http://{alertmanager}/-/ready",
            )
        )
        running.enter_context(
            _program(
                [
                    programs.prometheus,
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/prometheus-data",
                    f"--web.listen-address={prometheus}",
                ],
                log=folder / "prometheus.log",
                ready=f"http://{prometheus}/-/ready",
            )
        )
        yield Beside(f"http://{prometheus}", f"http://{alertmanager}")


def _copy(source: Path, target: Path, changes: dict[str, str]) -> None:
    text = source.read_text()
    for before, after in changes.items():
        assert before in text, f"{source} has no {before}"
        text = text.replace(before, after)
    target.write_text(text)


@contextmanager
def _program(command: Sequence[str], *, log: Path, ready: str) -> Iterator[None]:
    with log.open("wb") as words:
        child = subprocess.Popen(command, stdout=words, stderr=subprocess.STDOUT)  # noqa: S603  # found on the PATH
    try:
        _wait(child, ready, log)
        yield
    finally:
        child.terminate()
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait(child: "subprocess.Popen[bytes]", ready: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(ready, timeout=5):  # noqa: S310  # a URL we made
                return
        except (URLError, ConnectionError):
            time.sleep(0.1)
    words = log.read_text().strip().splitlines()[-1:]
    raise ConfigError(f"it did not start; see {log}: {' '.join(words)}")


def _read(url: str) -> Any:  # noqa: ANN401  # JSON
    with urlopen(url, timeout=20) as answer:  # noqa: S310  # a URL we made
        return json.load(answer)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as probes:
        found = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in found:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in found]
