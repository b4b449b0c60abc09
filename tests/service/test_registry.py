"""The registry finds a loaded baseline by name or revision, and says what it has instead."""

import pytest

from mad.errors import BaselineNotFoundError, ConfigError
from mad.monitor import Monitor
from mad.service.registry import Registry
from tests.worlds import World, numbered


@pytest.fixture(scope="module")
def versions(world: World) -> tuple[Monitor, Monitor]:
    first, second = (
        Monitor.bind(world.model, world.decomposition, numbered(world.baseline, version))
        for version in (1, 2)
    )
    return first, second


def test_a_name_alone_means_the_first_of_that_name(versions: tuple[Monitor, Monitor]) -> None:
    registry = Registry(versions, default="tiny@2")
    assert registry.resolve("tiny") is versions[0]
    assert registry.resolve("tiny@2") is versions[1]
    assert registry.resolve("") is versions[1]


def test_what_is_not_loaded_is_answered_with_what_is(versions: tuple[Monitor, Monitor]) -> None:
    registry = Registry(versions, default="tiny")
    with pytest.raises(BaselineNotFoundError, match=r"'tiny@3' .* loaded: tiny@1, tiny@2"):
        registry.resolve("tiny@3")


def test_only_the_watched_model_is_answered_for(versions: tuple[Monitor, Monitor]) -> None:
    registry = Registry(versions, default="tiny")
    assert registry.resolve("", model="tiny") is versions[0]
    with pytest.raises(BaselineNotFoundError, match="leave model empty or name 'tiny'"):
        registry.resolve("", model="huge")


def test_a_server_needs_a_baseline() -> None:
    with pytest.raises(ConfigError, match="no baseline is loaded; fit one"):
        Registry([], default="tiny")
