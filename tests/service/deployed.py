"""A real server over a deployment on disk, as ``mad serve`` composes it, that takes fits."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry
from safetensors.torch import save_file

from mad.client import AsyncClient
from mad.config import Settings
from mad.deployment import Deployment
from mad.service.deployment import from_settings
from tests.service.running import Running
from tests.worlds import ordinary, quiet, tiny_module

SETTINGS = """
[model]
name = "tiny"
factory = "model.py:build"
weights = "model.safetensors"
inputs = ["x"]

[decomposition]
sites = ["1", "3"]
width = 32
k = 4
steps = 60

[data]
trusted = ["trusted.safetensors"]

[baseline]
false_alarm_rate = 0.05

[server]
grpc_address = "127.0.0.1:0"
max_message_bytes = 262144
http_address = "127.0.0.1:0"
"""
FACTORY = '''"""The operator's own file."""

from tests.worlds import tiny_module


def build():
    return tiny_module()
'''


def fitted_deployment(folder: Path) -> Path:
    """Write a deployment and fit its first baseline; return the folder."""
    (folder / "model.py").write_text(FACTORY)
    (folder / "mad.toml").write_text(SETTINGS)
    save_file(tiny_module().state_dict(), folder / "model.safetensors")
    save_file({"x": ordinary(600, seed=1)}, folder / "trusted.safetensors")
    deployment = Deployment.load(folder / "mad.toml")
    data = deployment.trusted()
    deployment.train(data, progress=quiet)
    deployment.fit(data, created=datetime(2026, 1, 1, tzinfo=UTC), progress=quiet)
    return folder


def copied(fitted: Path, folder: Path, *, extra: str = "") -> Path:
    """Copy a deployment, so that a test may write to it; ``extra`` is added to its settings."""
    home = shutil.copytree(fitted, folder / "deployed")
    with (home / "mad.toml").open("a") as settings:
        settings.write(extra)
    return home


@asynccontextmanager
async def serving(home: Path, settings: str = "mad.toml") -> AsyncIterator[Running]:
    """Serve a deployment on a free port until the test is over."""
    collectors = CollectorRegistry()
    server = from_settings(Settings.load(home / settings), collectors=collectors)
    address = f"127.0.0.1:{await server.start()}"
    try:
        async with AsyncClient(address) as client, grpc.aio.insecure_channel(address) as channel:
            yield Running(server, collectors, address, client, channel)
    finally:
        await server.drain(lame_duck_s=0, grace_s=1)
