"""The tiny world and a fresh server, as in ``tests/service``."""

from tests.service.conftest import service, world

__all__ = ["service", "world"]
