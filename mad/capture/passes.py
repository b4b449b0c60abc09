"""Every forward pass of a module that somebody else runs: what its sites gave, and its output."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import final

from torch import nn

from mad.capture.hooks import End, Hook, Run, gathered, hooked, keep, named_tensors
from mad.capture.sites import Address
from mad.types import Site


@contextmanager
def each_pass(
    module: nn.Module, sites: Sequence[Site], seen: Callable[[Callable[[], Run]], None]
) -> Iterator[None]:
    """Call ``seen`` at the end of each forward pass of this thread, with what gives its run.

    Law: what the module returns is the object it returned; its hooks, mode, parameters and
    gradients stay as they were. Passes of other threads are not looked at. The module's own errors
    end the pass unseen.

    Raises:
        ConfigError: there is no module of a site's name, or part of the module is in training mode;
            from what gives the run, a site does not run exactly once or gives no activation, as in
            ``capture``.
    """
    looking = _Looking(sites, seen)
    with hooked(module, looking.hooks):
        handles = (
            module.register_forward_pre_hook(looking.begun, prepend=True),
            module.register_forward_hook(looking.ended),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@final
class _Looking:
    """What the calls of one pass gave so far, in the thread that looks."""

    def __init__(self, sites: Sequence[Site], seen: Callable[[Callable[[], Run]], None]) -> None:
        self._thread = threading.get_ident()
        self._addresses = {site: Address.parse(site) for site in sites}
        self._calls: dict[End, list[object]] = {one.end: [] for one in self._addresses.values()}
        self._seen = seen

    @property
    def hooks(self) -> Mapping[End, Hook]:
        """A hook for each end of a module that is looked at."""
        return {end: partial(self._kept, calls) for end, calls in self._calls.items()}

    def begun(self, _module: nn.Module, _args: object) -> None:
        """Forget the pass before, whether it came to its end or not."""
        if threading.get_ident() == self._thread:
            for calls in self._calls.values():
                calls.clear()

    def ended(self, _module: nn.Module, _args: object, output: object) -> None:
        """Tell of the pass."""
        if threading.get_ident() == self._thread:
            self._seen(lambda: self._run(output))

    def _kept(self, calls: list[object], part: nn.Module, args: object, output: object) -> None:
        if threading.get_ident() == self._thread:
            keep(calls, part, args, output)

    def _run(self, output: object) -> Run:
        outputs = named_tensors(output)
        first = next(iter(outputs.values()), None)
        batch = -1 if first is None or first.ndim == 0 else first.shape[0]
        return Run(outputs, gathered(self._addresses, self._calls, batch=batch))
