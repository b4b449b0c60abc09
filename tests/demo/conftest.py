"""The shipped images, read once."""

import pytest

from mad.demo.images import Splits, read_splits


@pytest.fixture(scope="session")
def splits() -> Splits:
    return read_splits()
