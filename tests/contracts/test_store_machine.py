"""Saves, promotions, rollbacks and deletions, in any order, leave what a plain list says."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mad.baseline.pointer import Alias, Pointer
from mad.errors import BaselineNotFoundError, ConflictError
from tests.stores import PLACES, small, store_at
from tests.worlds import World, tiny_world

VERSIONS = st.integers(1, 5)
ALIAS = st.sampled_from(["active", "shadow"])


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


class Store(RuleBasedStateMachine):
    """A store beside what it should hold."""

    place: str
    world: World

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.store = store_at(self.place, self.folder)
        self.saved = 0
        self.versions: set[int] = set()
        self.active: list[int] = []
        self.shadow: int | None = None
        self.read: dict[Alias, Pointer] = {}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @rule(activate=st.booleans())
    def save(self, activate: bool) -> None:  # drawn
        self.saved += 1
        found = self.store.save(small(self.world, note=self.saved), activate=activate)
        assert found.manifest.version == self.saved
        self.versions.add(self.saved)
        if activate:
            self._moved(self.saved)

    @rule(alias=ALIAS)
    def look(self, alias: Alias) -> None:
        self.read[alias] = self.store.pointer("tiny", alias)

    @rule(alias=ALIAS, version=VERSIONS)
    def move(self, alias: Alias, version: int) -> None:
        if alias not in self.read:
            self.look(alias)
        before = self.read[alias]
        if version == before.version:
            return
        is_fresh = self.store.pointer("tiny", alias).content == before.content
        try:
            self.store.move("tiny", alias, before, before.moved_to(version))
        except BaselineNotFoundError:
            assert version not in self.versions
        except ConflictError:
            assert not is_fresh
        else:
            assert is_fresh
            assert version in self.versions
            if alias == "active":
                self._moved(version)
            else:
                self.shadow = version

    @rule()
    def back(self) -> None:
        before = self.store.pointer("tiny", "active")
        here = self.active[-1] if self.active else None
        while self.active and self.active[-1] == here:
            self.active.pop()
        while self.active and self.active[-1] not in self.versions - {here}:
            self.active.pop()
        try:
            after = self.store.behind("tiny", before)
        except BaselineNotFoundError:
            assert not self.active
            self.active = [] if here is None else [here]
            return
        self.store.move("tiny", "active", before, after)
        if self.shadow == self.active[-1]:
            self.shadow = None

    @precondition(lambda self: self.versions)
    @rule(version=VERSIONS)
    def delete(self, version: int) -> None:
        is_pointed = version in self.active[-1:] or version == self.shadow
        try:
            self.store.delete("tiny", version)
        except BaselineNotFoundError:
            assert version not in self.versions
        except ConflictError:
            assert is_pointed
        else:
            assert not is_pointed
            self.versions.remove(version)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        entries = self.store.entries()
        assert [one.manifest.version for one in entries] == sorted(self.versions, reverse=True)
        assert [one.manifest.seed for one in entries] == sorted(self.versions, reverse=True)
        active = self.active[-1] if self.active else None
        assert self.store.pointer("tiny", "active").version == active
        assert self.store.pointer("tiny", "shadow").version == self.shadow
        if active is not None:
            assert self.store.load("tiny").manifest.version == active

    def _moved(self, version: int) -> None:
        if self.active[-1:] == [version]:
            return
        self.active.append(version)
        if self.shadow == version:
            self.shadow = None


@pytest.mark.parametrize("place", PLACES)
def test_a_store_is_what_a_plain_list_says(world: World, place: str) -> None:
    machine = type("Machine", (Store,), {"place": place, "world": world})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
