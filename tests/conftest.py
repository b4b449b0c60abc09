"""Shared by every test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from mad.service.listening import known
from tests import checked
from tests.postgres import Postgres, binaries

checked.install()
# As in `mad serve`, before any test imports grpc.
known.tell()
# pytest's line editing tells its worker processes a window's size, which would hold for tables too.
for size in ("COLUMNS", "LINES"):
    os.environ.pop(size, None)
# The tests share the machine with one another and with servers they start.
torch.set_num_threads(1)
# How long an example takes says more of what else the machine does.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL server for all tests, where there is one to run."""
    programs = binaries()
    if programs is None:
        # Where it can be installed, nobody would notice that these tests no longer run.
        assert "MAD_TESTS_NEED_POSTGRES" not in os.environ
        pytest.skip("there is no PostgreSQL server; install postgresql")
    server = Postgres.create(programs)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where a new alert log can be made, in either kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/alerts.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.fresh_url()
