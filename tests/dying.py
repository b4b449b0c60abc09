"""A program that changes a store in children which die at every step they take on disk.

Each child carries out one change and is ended, as by kill -9, before its first step on disk, then
before its second, and so on until one survives. After each death the store is read as a server
would read it.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mad.baseline.store import BaselineStore
from tests.stores import small
from tests.worlds import World, tiny_world

STEPS = (
    *("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"),
    *("fcntl.flock", "shutil.rmtree"),
)


def main(root: str) -> None:
    """Print, by change, how many deaths it took, and whatever was wrong after one."""
    world = tiny_world()
    store = BaselineStore(root)
    for _ in range(3):
        store.save(small(world))
    told: dict[str, object] = {}
    for name, change in changes(world).items():
        told[name] = killed_at_every_step(store, change, root=root)
    sys.stdout.write(json.dumps(told))


def changes(world: World) -> dict[str, Callable[[BaselineStore], object]]:
    """Return what is done to the store; each leaves the next something to do."""

    def move(store: BaselineStore) -> None:
        before = store.pointer("tiny", "active")
        store.move("tiny", "active", before, before.moved_to(1 if before.version != 1 else 2))

    def back(store: BaselineStore) -> None:
        before = store.pointer("tiny", "active")
        store.move("tiny", "active", before, store.behind("tiny", before))

    def delete(store: BaselineStore) -> None:
        spare = [entry for entry in store.entries() if not entry.is_active]
        store.delete("tiny", spare[0].manifest.version)

    return {
        "save": lambda store: store.save(small(world), activate=False),
        "save and activate": lambda store: store.save(small(world)),
        "move": move,
        "back": back,
        "delete": delete,
    }


def killed_at_every_step(
    store: BaselineStore, change: Callable[[BaselineStore], object], *, root: str
) -> dict[str, object]:
    """Carry a change out in children that die ever later; say how many did, and what was wrong."""
    deaths, wrong = 0, []
    while True:
        child = os.fork()
        if not child:
            die_before_step(deaths, folder=root.removeprefix("file://"))
            change(BaselineStore(root))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        wrong += list(faults(store))
        if os.waitstatus_to_exitcode(status) == 0:
            return {"deaths": deaths, "wrong": wrong}
        deaths += 1


def die_before_step(step: int, *, folder: str) -> None:
    """End this process before its step on disk of this number, counted from 0."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        is_step = event in STEPS or (
            event == "open" and str(arguments[0]).startswith(folder) and arguments[1] != "r"
        )
        if is_step:
            if seen == step:
                os._exit(9)
            seen += 1

    sys.addaudithook(hook)


def faults(store: BaselineStore) -> Iterator[str]:
    """Say what a reader would stumble over."""
    try:
        store.load("tiny")
        for entry in store.entries():
            store.load("tiny", entry.manifest.version)
    except Exception as error:  # noqa: BLE001  # whatever it is, the test tells it
        yield repr(error)


if __name__ == "__main__":
    main(str(Path(sys.argv[1])) if "://" not in sys.argv[1] else sys.argv[1])
