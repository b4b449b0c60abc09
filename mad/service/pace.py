"""How long a run of the model takes, as a running estimate: so much a run, and so much an input."""

from typing import Final, final

_KEEP: Final = 0.9
"""What a run still weighs when the next has been seen: about ten runs make the estimate."""
_MOST: Final = 3.0
"""A run counts as at most this many times its estimate, so that a single slow one changes it by a
fifth; that the model has become ten times as slow is known after a dozen runs."""
_PRIOR: Final = 0.05
"""Runs of like sizes do not tell what a run costs from what its inputs cost. They are taken to cost
by their inputs then: believing that more of them cost nothing would take on too much."""


@final
class Pace:
    """Learns from every run, by least squares that forget; before the first it expects nothing."""

    def __init__(self) -> None:
        self._runs = self._inputs = self._squares = self._seconds = self._products = 0.0
        self._run_s = self._input_s = 0.0

    def seconds(self, inputs: int, *, runs: int = 1) -> float:
        """Return how long so many inputs would take in so many runs."""
        return runs * self._run_s + inputs * self._input_s

    def observe(self, inputs: int, seconds: float) -> None:
        """Learn from one run."""
        expected = self.seconds(inputs)
        seen = min(seconds, _MOST * expected) if expected else seconds
        self._runs = _KEEP * self._runs + 1
        self._inputs = _KEEP * self._inputs + inputs
        self._squares = _KEEP * self._squares + inputs**2
        self._seconds = _KEEP * self._seconds + seen
        self._products = _KEEP * self._products + inputs * seen
        self._solve()

    def _solve(self) -> None:
        runs = (1 + _PRIOR) * self._runs
        whole = runs * self._squares - self._inputs**2
        run_s = (self._squares * self._seconds - self._inputs * self._products) / whole
        input_s = (runs * self._products - self._inputs * self._seconds) / whole
        if run_s < 0:
            run_s, input_s = 0.0, self._products / self._squares
        elif input_s < 0:
            run_s, input_s = self._seconds / self._runs, 0.0
        self._run_s, self._input_s = run_s, input_s
