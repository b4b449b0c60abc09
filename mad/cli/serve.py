"""``mad serve``: scores over gRPC, metrics and the page over HTTP, until a signal."""

import asyncio
import json
import logging
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mad.cli import logs, screen
from mad.cli.options import Config
from mad.config import Address, Settings
from mad.config.security import is_loopback
from mad.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from mad.service.server import Server
    from mad.web.server import HttpServer

log = logging.getLogger(__name__)


def serve(
    config: Config,
    grpc_address: Annotated[
        str, typer.Option(help="host:port instead of the settings'; port 0 takes a free one.")
    ] = "",
    http_address: Annotated[
        str, typer.Option(help="host:port instead of the settings'; port 0 takes a free one.")
    ] = "",
    ports_file: Annotated[
        Path | None, typer.Option(help="Write the ports taken to this file, as JSON.")
    ] = None,
    *,
    check: Annotated[
        bool,
        typer.Option("--check", help="Try all that serving needs, say what was found, and exit."),
    ] = False,
) -> None:
    """Serve the active baseline until SIGTERM or Ctrl-C, then drain."""
    settings = Settings.load(config)
    given = {"grpc_address": grpc_address, "http_address": http_address}
    changes = {key: Address.parse(text) for key, text in given.items() if text}
    server = settings.server.model_copy(update=changes)
    settings = settings.model_copy(update={"server": server})
    if check:
        raise typer.Exit(_checked(config, settings))
    from mad.service import process

    process.run(_serve(settings, ports_file))


def _checked(config: Path, settings: Settings) -> int:
    """Print a line a check as it is made; return the exit status."""
    from mad.service.checks import findings

    screen.say(f"{'ok':<10}settings: {config} can be read")
    failed = 0
    for finding in findings(settings):
        failed += finding.outcome == "failed"
        screen.say(f"{finding.outcome:<10}{finding.what}: {finding.text}")
    return 2 if failed else 0


async def _serve(settings: Settings, ports_file: Path | None) -> None:
    from prometheus_client import CollectorRegistry

    from mad.service.caller import caller
    from mad.service.deployment import from_settings
    from mad.service.errors import request_id

    asked = logs.Asked(request_id=request_id.get, principal=lambda: caller.get().name)
    logs.configure(asked, written=settings.logging.format)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    collectors = CollectorRegistry()
    server = from_settings(settings, collectors=collectors)
    serving = threading.Event()
    grpc_at, http_at = settings.server.grpc_address, settings.server.http_address
    http = _http(server, settings, collectors, serving)
    http_port = http.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.look_at_store)
    try:
        grpc_port = await _started(server)
        try:
            serving.set()
            _announce(
                replace(grpc_at, port=grpc_port),
                replace(http_at, port=http_port),
                ports_file,
                scheme="http" if server.guard.certificates is None else "https",
            )
            await stopped.wait()
        finally:
            serving.clear()
            log.info("draining")
            await server.drain(
                lame_duck_s=settings.server.lame_duck_seconds,
                grace_s=settings.server.drain_seconds,
            )
    finally:
        await asyncio.to_thread(http.stop)
    log.info("stopped")


async def _started(server: "Server") -> int:
    from mad.service import process

    port = await server.start()
    process.keep_loaded()
    return port


def _http(
    server: "Server",
    settings: Settings,
    collectors: "CollectorRegistry",
    serving: threading.Event,
) -> "HttpServer":
    from mad.cli.watching import behind_of
    from mad.renderer import trusted_inputs
    from mad.web.application import application
    from mad.web.server import HttpServer

    address = settings.server.http_address
    behind = behind_of(
        server,
        is_serving=serving.is_set,
        # On loopback, whoever reads the page is on this machine already.
        is_open=is_loopback(address),
        trusted=trusted_inputs(settings),
    )
    page = application(collectors, behind)
    certificates = server.guard.certificates
    tls = None if certificates is None else certificates.web
    return HttpServer(page, host=address.host, port=address.port, tls=tls)


def _announce(grpc_at: Address, http_at: Address, ports_file: Path | None, *, scheme: str) -> None:
    """Say where the server is; who reads the ports file finds it whole or not at all."""
    if ports_file is not None:
        aside = ports_file.with_name(f".{ports_file.name}.part")
        try:
            aside.write_text(json.dumps({"grpc": grpc_at.port, "http": http_at.port}))
            aside.replace(ports_file)
        except OSError as error:
            raise ConfigError(f"cannot write {ports_file}: {error.strerror}") from error
    log.info("serving", extra={"grpc": str(grpc_at), "http": str(http_at)})
    screen.say(f"gRPC on {grpc_at}")
    screen.say(f"HTTP on {scheme}://{http_at}")
    screen.OUT.file.flush()
