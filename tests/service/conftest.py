"""One tiny world for all, and a fresh server for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.deployed import fitted_deployment
from tests.service.running import Running, running
from tests.worlds import World, tiny_world


@pytest.fixture(scope="session")
def world() -> World:
    return tiny_world()


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a deployment whose baseline has been fitted; never written to."""
    return fitted_deployment(tmp_path_factory.mktemp("fitted"))


@pytest.fixture
async def service(world: World, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(world, tmp_path) as service:
        yield service
