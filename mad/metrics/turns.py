"""Long work in pieces: other threads have the interpreter in between.

A thread that computes keeps the interpreter for 5 ms whoever waits (``sys.getswitchinterval``), and
scoring gives it up at each of some 250 operations of torch: one request could have to wait for all
of a scrape, which takes 10 to 20 ms.
"""

import time
from typing import Final, final

WORK_S: Final = 0.0005
REST_S: Final = 0.002
"""A fifth of a thread's time is work, at most. A rest of nothing would not do: whoever waits has to
be woken first, and the interpreter would be taken again by then."""


@final
class Turns:
    """Rests after each ``WORK_S`` of work, if it is asked often enough."""

    def __init__(self) -> None:
        self._rested = time.perf_counter()

    def offer(self) -> None:
        """Rest, if it is time to."""
        if time.perf_counter() - self._rested >= WORK_S:
            time.sleep(REST_S)
            self._rested = time.perf_counter()
