"""``mad alerts``: the newest alerts, or those that come; and what people say of them."""

from collections.abc import Iterable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from mad.cli import screen
from mad.cli.alert_rows import COLUMNS, FOUND, Question, from_log, from_messages, message, moment
from mad.cli.remote import At, connect
from mad.config import Address, Settings
from mad.errors import ConfigError, InputError, MadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc

    from mad.client import Client

Found = Literal["true_positive", "false_positive", "expected"]
As = Annotated[
    Found | None,
    typer.Option("--as", help="What it was found to be: an anomaly, nothing of note, or expected."),
]
Comment = Annotated[str, typer.Option(help="What was found, in words.")]


def alerts(  # noqa: PLR0913  # one option each
    *,
    address: At = "127.0.0.1:8001",
    config: Annotated[
        Path | None, typer.Option(help="Read the log this settings file names, without a server.")
    ] = None,
    baseline: Annotated[str, typer.Option(help="Only alerts of this baseline name.")] = "",
    since: Annotated[str, typer.Option(help="Only later ones: 90m, 2h, 3d or a time.")] = "",
    incident: Annotated[str, typer.Option(help="Only those of this incident.")] = "",
    request: Annotated[str, typer.Option(help="Only those of this request.")] = "",
    least_bits: Annotated[float, typer.Option(help="Only those of so much surprise.")] = 0.0,
    found: Annotated[str, typer.Option(help=f"Only those found to be: {', '.join(FOUND)}.")] = "",
    limit: Annotated[int, typer.Option(help="Alerts to show.", min=1, max=1000)] = 20,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show alerts as they are raised, until Ctrl-C.")
    ] = False,
    acknowledge: Annotated[
        str, typer.Option(metavar="ALERT", help="Say what this alert was found to be.")
    ] = "",
    as_: As = None,
    comment: Comment = "",
) -> None:
    """List the newest alerts, watch them come, or acknowledge one."""
    question = Question(
        baseline=baseline,
        since=moment(since, now=datetime.now(UTC)),
        incident=incident,
        request=request,
        least_bits=least_bits,
        found=found,
    )
    if config is not None:
        if watch or acknowledge:
            raise InputError("a server is needed to watch or acknowledge; leave --config out")
        rows = from_log(Settings.load(config).server.alert_log, question, limit)
        screen.table(f"Newest alerts, in bits, by {config}", COLUMNS, rows)
        return
    with asked(address) as client:
        if acknowledge:
            said = given(as_)
            client.alert_log.acknowledge(said, alert_id=acknowledge, comment=comment)
            screen.say(f"{acknowledge}: {said}")
        elif watch:
            _watch(client, baseline)
        else:
            page = client.alerts(baseline, page_size=limit, only=message(question))
            rows = from_messages(page.alerts)
            screen.table(f"Newest alerts, in bits, by {address}", COLUMNS, rows)


def given(as_: Found | None) -> Found:
    """Return what something was found to be; InputError if that was not said."""
    if as_ is None:
        raise InputError(f"say what it was found to be: --as {', --as '.join(get_args(Found))}")
    return as_


def _watch(client: "Client", baseline: str) -> None:
    try:
        for answer in client.alert_log.watch(baseline):
            (row,) = from_messages([answer.alert])
            screen.say("  ".join(_told(row)))
            screen.OUT.file.flush()
    except KeyboardInterrupt:
        return


def _told(row: Iterable[str]) -> "Iterator[str]":
    for name, value in zip(COLUMNS, row, strict=True):
        if value:
            yield value if name in {"time", "alert"} else f"{name} {value}"


@contextmanager
def asked(address: str) -> "Iterator[Client]":
    """Connect to a server; what it refuses becomes a sentence."""
    import grpc

    server = Address.parse(address)
    try:
        with connect(server) as client:
            yield client
    except grpc.RpcError as error:
        raise explained(error, server) from error


def explained(error: "grpc.RpcError", address: Address) -> MadError:
    """Turn what the channel or the server said into a sentence for the operator."""
    import grpc

    outcome = cast("grpc.Call", error)  # what a call raises is the call, which its types hide
    if outcome.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return ConfigError(
            f"no server answers at {address}; start one with `mad serve`, name its --address, or "
            "read the log with --config"
        )
    if outcome.code() is grpc.StatusCode.UNAUTHENTICATED:
        return ConfigError(
            f"the server at {address} asks who calls ({outcome.details()}); put your token into "
            "the environment as MAD_TOKEN"
        )
    return InputError(f"the server at {address} refused: {outcome.details()}")
