"""Say when the alert log has gone on: at once for what this server writes, soon for others'."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

from mad.alerts.log import AlertLog
from mad.errors import AlertLogError

log = logging.getLogger(__name__)

POLL_S: Final = 1.0
"""How soon alerts that another server wrote are noticed; one small read, however many watch."""


@final
class Arrivals:
    """Wakes whoever watches the log. Watchers read it for themselves, so nothing is kept here."""

    def __init__(self, alert_log: AlertLog, *, poll_s: float = POLL_S) -> None:
        self._log = alert_log
        self._poll_s = poll_s
        self._watchers = 0
        self._seen = 0
        self._is_failing = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, in the running event loop."""
        self._task = asyncio.create_task(self._poll())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look for others' alerts as long as somebody watches."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    @property
    def news(self) -> asyncio.Event:
        """What the next alerts set; to be taken before reading, or those in between are missed."""
        return self._news

    def tell(self) -> None:
        """Wake everybody: this server has written alerts."""
        self._news.set()
        self._news = asyncio.Event()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            if self._watchers:
                await self._look()

    async def _look(self) -> None:
        try:
            last = (await asyncio.to_thread(self._log.position)).sequence
        except AlertLogError as error:
            if not self._is_failing:
                log.warning("the alert log cannot be watched: %s", error)
            self._is_failing = True
            return
        self._is_failing = False
        if last != self._seen:
            self._seen = last
            self.tell()
