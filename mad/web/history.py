"""What the page remembers of the last hour, so that its charts need no Prometheus."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, final

from prometheus_client import CollectorRegistry

from mad.web import figures
from mad.web.figures import Tally

PERIOD_S: Final = 5.0
KEPT: Final = 720
"""Steps between moments that are kept: an hour of them."""


@final
@dataclass(frozen=True, slots=True)
class Moment:
    """What had been counted at one time."""

    time: datetime
    tally: Tally


@final
class History:
    """The latest moments, at most ``KEPT`` steps of them. Safe to read from any thread."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], datetime]) -> None:
        self._registry = registry
        self._clock = clock
        self._moments: deque[Moment] = deque(maxlen=KEPT + 1)

    def note(self) -> None:
        """Remember what has been counted by now."""
        self._moments.append(Moment(self._clock(), figures.tally(self._registry)))

    @property
    def moments(self) -> tuple[Moment, ...]:
        """What is remembered, the oldest first."""
        return tuple(self._moments.copy())

    @asynccontextmanager
    async def running(self, *, period_s: float = PERIOD_S) -> AsyncIterator[None]:
        """Note how things stand every so often, until the block ends."""

        async def keep_noting() -> None:
            while True:
                await asyncio.to_thread(self.note)
                await asyncio.sleep(period_s)

        noting = asyncio.create_task(keep_noting())
        try:
            yield
        finally:
            noting.cancel()
            with suppress(asyncio.CancelledError):
                await noting
