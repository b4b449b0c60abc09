"""How long a run of the model takes, as a running estimate: so much a run, and so much an input."""

from typing import Final, final

_STEP: Final = 0.5
"""Share of the difference between a run and its estimate that the next estimate makes good."""
_MOST: Final = 1.5
"""A run counts as at most this many times its estimate, so that a single slow one changes little;
a model that became ten times as slow is known as such after ten runs."""


@final
class Pace:
    """Learns from every run by normalised least mean squares; before the first it expects nothing.

    ``full`` is the number of inputs of a large run: what makes the two unknowns comparable.
    """

    def __init__(self, *, full: int) -> None:
        self._full = full
        self._run_s = 0.0
        self._full_s = 0.0

    def seconds(self, inputs: int, *, runs: int = 1) -> float:
        """Return how long so many inputs would take in so many runs."""
        return runs * self._run_s + inputs / self._full * self._full_s

    def observe(self, inputs: int, seconds: float) -> None:
        """Learn from one run."""
        expected = self.seconds(inputs)
        share = inputs / self._full
        step = _STEP if expected else 1.0
        seen = min(seconds, _MOST * expected) if expected else seconds
        change = step * (seen - expected) / (1 + share**2)
        self._run_s = max(self._run_s + change, 0.0)
        self._full_s = max(self._full_s + change * share, 0.0)
