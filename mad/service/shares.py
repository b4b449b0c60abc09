"""What each caller has in hand, and how much more it may ask for."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

from mad.errors import OverloadedError
from mad.service.caller import ANYONE, caller
from mad.service.calls import Call

_UNCOUNTED: Final = frozenset({"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})
"""Services whose streams every well-behaved client keeps open beside its work."""


@final
@dataclass(frozen=True, kw_only=True)
class CallerLimits:
    """What one caller may have of a server; the numbers are explained in the settings."""

    requests_per_caller: int = 1024
    streams_per_caller: int = 128
    streams: int = 2048
    stream_requests: int = 256
    inputs_per_second_per_caller: float = 0.0


@dataclass
class _Share:
    requests: int = 0
    streams: int = 0
    inputs: float = 0.0  # may still come at once; below zero after a request larger than that
    counted: float = 0.0


@final
class Shares:
    """Counts requests and streams by caller.

    A server that asks nobody who they are has one caller, which may have all of it.
    """

    def __init__(
        self, limits: CallerLimits, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._shares: dict[str, _Share] = {}
        self._streams = 0

    def take(self, inputs: int) -> str | None:
        """Take a request of so many inputs in hand; raises OverloadedError beyond the limits.

        Returns whom to ``give_back`` to; None for a caller that nobody counts.
        """
        who = caller.get()
        if who == ANYONE:
            return None
        share = self._share(who.name)
        self._check_requests(who.name, share)
        self._take_inputs(who.name, share, inputs)
        share.requests += 1
        return who.name

    def give_back(self, name: str | None) -> None:
        """A request of a caller has ended."""
        if name is not None:
            share = self._share(name)
            share.requests -= 1
            self._forget(name, share)

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Take a stream in hand; raises OverloadedError beyond the limits."""
        who, limits = caller.get(), self._limits
        if self._streams >= limits.streams:
            raise _too_many(f"{self._streams} streams are open and this server has", limits.streams)
        share = self._share(who.name)
        if who != ANYONE and share.streams >= limits.streams_per_caller:
            raise _too_many(
                f"{who.name} has {share.streams} streams open and may have",
                limits.streams_per_caller,
            )
        self._streams += 1
        share.streams += 1
        try:
            yield
        finally:
            self._streams -= 1
            share.streams -= 1
            self._forget(who.name, share)

    def _share(self, name: str) -> _Share:
        now = self._clock()
        rate = self._limits.inputs_per_second_per_caller
        share = self._shares.setdefault(name, _Share(inputs=rate, counted=now))
        share.inputs = min(rate, share.inputs + rate * (now - share.counted))
        share.counted = now
        return share

    def _check_requests(self, name: str, share: _Share) -> None:
        most = self._limits.requests_per_caller
        if share.requests >= most:
            raise _too_many(f"{name} has {share.requests} requests under way and may have", most)

    def _take_inputs(self, name: str, share: _Share, inputs: int) -> None:
        rate = self._limits.inputs_per_second_per_caller
        if not rate:
            return
        # Any size passes while something is left, and is paid for afterwards: no request is too
        # large to ever be taken.
        if share.inputs <= 0:
            raise OverloadedError(
                f"{name} may send {rate:g} inputs a second; retry later",
                reason="rate_limit",
                retry_after_s=(1 - share.inputs) / rate,
            )
        share.inputs -= inputs

    def _forget(self, name: str, share: _Share) -> None:
        rate = self._limits.inputs_per_second_per_caller
        if not (share.requests or share.streams) and share.inputs >= rate:
            self._shares.pop(name, None)


@contextmanager
def shared(call: Call, shares: Shares) -> Iterator[None]:
    """Count a call that streams for as long as it lasts."""
    if call.rpc.service in _UNCOUNTED:
        yield
        return
    with shares.stream():
        yield


def _too_many(have: str, most: int) -> OverloadedError:
    return OverloadedError(
        f"{have} at most {most}; retry when one has ended", reason="rate_limit", retry_after_s=0.1
    )
