"""One version from the store to where it scores: loaded beside, warmed up, swapped whole."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Final, TypeVar, assert_never, final

from mad.baseline.pointer import Alias
from mad.baseline.store import BaselineStore, Entry
from mad.errors import OverloadedError
from mad.metrics import Metrics
from mad.monitor import Monitor
from mad.service.batching import Batcher
from mad.service.registry import Registry
from mad.service.warming import warm_up
from mad.service.watch import StreamWatch

Result = TypeVar("Result")

PATIENCE_S: Final = 30.0
"""How long a change waits for room among live traffic, at each step."""
_RETRY_S: Final = 0.02


@final
@dataclass(frozen=True)
class Candidate:
    """A version that is loaded and warm, and answers nobody yet."""

    monitor: Monitor
    entry: Entry


@final
@dataclass(frozen=True)
class Loading:
    """Changes what a server scores with; ``changing`` is held while an alias moves."""

    store: BaselineStore
    registry: Registry
    batcher: Batcher
    watch: StreamWatch
    metrics: Metrics
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def load(self, name: str, version: int) -> Candidate:
        """Read a version, bind it to the model that runs here, and run it once.

        Raises BaselineNotFoundError, BaselineError for one that is damaged or of another model or
        decomposition, and what the batcher raises.
        """
        entry = await asyncio.to_thread(self.store.entry, name, version)
        baseline = await asyncio.to_thread(self.store.load, name, version)
        scorer = self.registry.default.scorer
        monitor = Monitor.bind(scorer.model, scorer.decomposition, baseline)
        monitor = monitor.alongside(self.registry.monitors)
        await self.run(partial(warm_up, monitor), kind="warm-up")
        return Candidate(monitor, entry)

    async def run(self, function: Callable[[], Result], *, kind: str) -> Result:
        """Run a function in the model's thread; where too much waits, try for PATIENCE_S.

        An operator who goes back from a bad version does so while traffic is heaviest.
        """
        until = monotonic() + PATIENCE_S
        while True:
            try:
                return await self.batcher.call(function, kind=kind)
            except OverloadedError:
                if monotonic() > until:
                    raise
            await asyncio.sleep(_RETRY_S)

    def version(self, name: str, alias: Alias) -> int | None:
        """Return what scores here; None for a name that is not loaded, and for no shadow."""
        monitors = [self.registry.shadow] if alias == "shadow" else list(self.registry.monitors)
        found = (one.baseline.manifest for one in monitors if one is not None)
        return next((one.version for one in found if one.name == name), None)

    def put(self, alias: Alias, candidate: Candidate | None) -> None:
        """Score with a candidate from now on, if its name is one that scores here.

        None ends the shadow. The stream begins anew with the default baseline.
        """
        match alias:
            case "shadow":
                default = self.registry.default.baseline.manifest.name
                if candidate is None:
                    self.registry.put_shadow(None)
                elif candidate.entry.manifest.name == default:
                    self.registry.put_shadow(candidate.monitor)
            case "active":
                assert candidate is not None
                self._put_active(candidate)
            case _:
                assert_never(alias)

    def _put_active(self, candidate: Candidate) -> None:
        before = self.registry.default
        self.registry.put(candidate.monitor)
        if self.registry.default is not before:
            self.watch.switch(candidate.monitor.baseline)
        if candidate.monitor in self.registry.monitors:
            self.metrics.baseline_loaded(candidate.entry.manifest, digest=candidate.entry.digest)
