"""``mad alerts``: the newest alerts, from a running server or straight from the log."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mad.cli import screen
from mad.cli.verdicts import MEASURES, rarities
from mad.config import Address, Settings
from mad.errors import ConfigError, InputError, MadError

if TYPE_CHECKING:
    import grpc

COLUMNS = ("time", "baseline", "request", "input", *MEASURES, "p-value", "what makes it rare")
TOP = 3
_SQLITE = "sqlite:///"
_SHORT = {"set": "", "residual": "residual ", "neighbours": "nearest trusted "}


def alerts(
    address: Annotated[str, typer.Option(help="host:port of a running server.")] = "127.0.0.1:8001",
    config: Annotated[
        Path | None, typer.Option(help="Read the log this settings file names, without a server.")
    ] = None,
    baseline: Annotated[str, typer.Option(help="Only alerts of this baseline name.")] = "",
    limit: Annotated[int, typer.Option(help="Alerts to show.", min=1, max=1000)] = 20,
) -> None:
    """List the newest alerts."""
    if config is not None:
        rows = _from_log(Settings.load(config).server.alert_log, baseline, limit)
        source = str(config)
    else:
        rows = _from_server(Address.parse(address), baseline, limit)
        source = address
    screen.table(f"Newest alerts, in bits, by {source}", COLUMNS, rows)


def _from_log(url: str, baseline: str, limit: int) -> list[tuple[str, ...]]:
    from mad.alerts.log import AlertLog

    if url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).is_file():
        raise ConfigError(f"there is no alert log {url} yet; `mad serve` makes it")
    log = AlertLog.open(url)
    try:
        page, _ = log.page(baseline, limit, "")
    finally:
        log.close()
    return [
        (
            f"{alert.time:%Y-%m-%d %H:%M:%S}",
            f"{alert.baseline}@{alert.version}",
            alert.request_id,
            str(alert.input_index),
            *rarities(alert.verdict),
            f"{alert.verdict.p_value:.3g}",
            _top((one.site, one.term, one.index) for one in alert.explanation.charges),
        )
        for alert in page
    ]


def _from_server(address: Address, baseline: str, limit: int) -> list[tuple[str, ...]]:
    import grpc

    from mad.client import Client, term

    try:
        with Client(str(address)) as client:
            page = client.alerts(baseline, page_size=limit).alerts
    except grpc.RpcError as error:
        raise explained(error, address) from error
    return [
        (
            f"{alert.raise_time.ToDatetime():%Y-%m-%d %H:%M:%S}",
            alert.baseline_revision,
            alert.request_id,
            str(alert.input_index),
            *rarities(alert.verdict),
            f"{alert.verdict.p_value:.3g}",
            _top((one.site, term(one), one.index) for one in alert.explanation.charges),
        )
        for alert in page
    ]


def _top(charges: Iterable[tuple[str, str, int]]) -> str:
    """Name the first charges, each a site, a term and an index."""
    return ", ".join(
        f"{site} {_SHORT.get(name, name + ' ')}{index}"
        for site, name, index in islice(charges, TOP)
    )


def explained(error: "grpc.RpcError", address: Address) -> MadError:
    """Turn what the channel or the server said into a sentence for the operator."""
    import grpc

    outcome = cast("grpc.Call", error)  # what a call raises is the call, which its types hide
    if outcome.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return ConfigError(
            f"no server answers at {address}; start one with `mad serve`, name its --address, or "
            "read the log with --config"
        )
    return InputError(f"the server at {address} refused: {outcome.details()}")
