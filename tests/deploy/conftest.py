"""A deployment on disk, as in ``tests/cli``."""

from tests.cli.conftest import fitted, mad, own_logging

__all__ = ["fitted", "mad", "own_logging"]
