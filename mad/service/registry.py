"""Loaded baselines by name and version; swap them without dropping a request."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from mad.errors import BaselineNotFoundError, ConfigError
from mad.monitor import Monitor


@final
@dataclass(frozen=True)
class _Loaded:
    """One consistent set: swapped whole, so that no request sees half of it."""

    monitors: tuple[Monitor, ...]
    default: Monitor
    shadow: Monitor | None = None


@final
class Registry:
    """The monitors this server answers with."""

    def __init__(self, monitors: Sequence[Monitor], *, default: str) -> None:
        self._loaded = _loaded(monitors, default)

    @property
    def monitors(self) -> tuple[Monitor, ...]:
        """Every loaded monitor."""
        return self._loaded.monitors

    def swap(self, monitors: Sequence[Monitor], *, default: str) -> None:
        """Replace every monitor at once; requests under way end with the one they began with.

        New ones of the same model run it at the heights that were found to agree.
        """
        known = self._loaded.monitors
        self._loaded = _loaded([one.alongside(known) for one in monitors], default)

    def steady(self, monitors: Sequence[Monitor]) -> None:
        """Replace every monitor by itself at heights that agree."""
        self._loaded = _loaded(monitors, self._loaded.default.baseline.revision)

    @property
    def default(self) -> Monitor:
        """What requests that name no baseline are answered with."""
        return self._loaded.default

    @property
    def shadow(self) -> Monitor | None:
        """What scores beside the default and never alerts; None if nothing does."""
        return self._loaded.shadow

    def put(self, monitor: Monitor) -> None:
        """Replace the monitor of the same name; a shadow that is now the default is none."""
        was = self._loaded
        name = monitor.baseline.manifest.name
        monitors = tuple(
            monitor if one.baseline.manifest.name == name else one for one in was.monitors
        )
        default = monitor if was.default.baseline.manifest.name == name else was.default
        self._loaded = _Loaded(monitors, default, _beside(default, was.shadow))

    def put_shadow(self, monitor: Monitor | None) -> None:
        """Score beside the default with a monitor; None ends that, as does the default itself."""
        was = self._loaded
        self._loaded = replace(was, shadow=_beside(was.default, monitor))

    def resolve(self, baseline: str, *, model: str = "") -> Monitor:
        """Return the monitor of ``""`` (the default), ``name`` or ``name@version``.

        A name alone means the first loaded monitor of that name. Raises BaselineNotFoundError,
        with what is loaded, for anything else.
        """
        loaded = self._loaded
        monitor = _find(loaded.monitors, baseline) if baseline else loaded.default
        watched = monitor.baseline.manifest.model_name
        if model not in ("", watched):
            raise BaselineNotFoundError(
                f"model {model!r} is not watched here; leave model empty or name {watched!r}"
            )
        return monitor


def _beside(default: Monitor, shadow: Monitor | None) -> Monitor | None:
    is_same = shadow is None or shadow.baseline.revision == default.baseline.revision
    return None if is_same else shadow


def _loaded(monitors: Sequence[Monitor], default: str) -> _Loaded:
    if not monitors:
        raise ConfigError("no baseline is loaded; fit one with `mad fit` and start again")
    return _Loaded(tuple(monitors), _find(monitors, default))


def _find(monitors: Sequence[Monitor], baseline: str) -> Monitor:
    for monitor in monitors:
        if baseline in (monitor.baseline.manifest.name, monitor.baseline.revision):
            return monitor
    known = ", ".join(monitor.baseline.revision for monitor in monitors)
    raise BaselineNotFoundError(f"baseline {baseline!r} is not loaded here; loaded: {known}")
