"""Programs that the machine may have: Prometheus, Alertmanager and a browser."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import final

from mad.errors import ConfigError


@final
@dataclass(frozen=True)
class Programs:
    """Where they are."""

    prometheus: str
    alertmanager: str


def find_programs() -> Programs:
    """Find Prometheus and Alertmanager.

    Raises:
        ConfigError: one is missing; with how to install it.
    """
    prometheus = shutil.which("prometheus")
    # Debian calls it otherwise, since another package had the name.
    alertmanager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if prometheus is None or alertmanager is None:
        missing = "prometheus" if prometheus is None else "alertmanager"
        raise ConfigError(
            f"{missing} is not on the PATH; on Debian and Ubuntu: apt install prometheus "
            "prometheus-alertmanager; elsewhere: https://prometheus.io/download"
        )
    return Programs(prometheus, alertmanager)


def find_browser() -> str | None:
    """Find a Chromium; None if there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def shipped_settings() -> Path:
    """Return the folder of a checkout that has the settings for operators.

    Raises:
        ConfigError: this is an installed package, without them.
    """
    folder = Path(__file__).parents[3] / "deploy"
    if not (folder / "prometheus" / "rules").is_dir():
        raise ConfigError(f"{folder} is not there: watching needs a checkout of the source")
    return folder
