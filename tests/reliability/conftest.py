"""One tiny world for all, and a fresh server for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.running import Running, running
from tests.worlds import World, tiny_world


@pytest.fixture(scope="session")
def world() -> World:
    return tiny_world()


@pytest.fixture
async def service(world: World, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(world, tmp_path) as service:
        yield service
