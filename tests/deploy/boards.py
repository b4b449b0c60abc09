"""The committed dashboards, read as what a person may ask of them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.deploy.tools import DEPLOY

FOLDER = DEPLOY / "grafana" / "dashboards"
NAMES = ("anomalies", "calibration", "fitting", "service")
# What Grafana would put in, for everything chosen and a Prometheus that scrapes twice a second.
VARIABLES = {
    "$__rate_interval": "5s",
    "$__range": "10m",
    "$job": ".+",
    "$instance": ".+",
    "$model": ".+",
    "$baseline": ".+",
}


@dataclass(frozen=True)
class Asked:
    """One query of a panel; ``kind`` is the panel's."""

    title: str
    kind: str
    expr: str
    is_instant: bool


def filled(expr: str, *, traffic: str) -> str:
    """Return an expression with Grafana's variables put in."""
    for variable, value in {"$traffic": traffic, **VARIABLES}.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr
    return expr


def read(name: str) -> dict[str, Any]:
    """Return a dashboard."""
    board: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return board


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return its panels, rows left out."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def asked(board: dict[str, Any]) -> Iterator[Asked]:
    """Yield every query of every panel."""
    for panel in panels(board):
        for target in panel["targets"]:
            is_instant = bool(target.get("instant"))
            yield Asked(panel["title"], panel["type"], target["expr"], is_instant)


def selectors(expr: str) -> list[tuple[str, str]]:
    """Return every series with its matchers: ``("up", 'job=~"$job"')``."""
    bare = re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expr)
    nameless = re.findall(r"[\s(]\{([^}]*)\}", expr)
    return bare + [("", matchers) for matchers in nameless]
