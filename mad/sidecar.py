"""Beside a model that the caller runs: what its sites give, or which components, to a server.

The caller's passes are looked at, not run: the output is the object the model returned. Everything
after the pass is done in a thread of its own, and so no server can slow the model down.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, final

import torch
from torch import nn

from mad.capture.hooks import Outputs, Run
from mad.capture.model import fingerprint
from mad.capture.passes import each_pass
from mad.client import Client, Scored, ScoreResponse, activations, codes, request
from mad.components.base import Decomposition
from mad.components.on_disk import load_decomposition
from mad.errors import ConfigError, MadError, OverloadedError
from mad.scoring import context_of
from mad.types import Activity, View

Sent: TypeAlias = Literal["activations", "codes"]
"""All that the sites give, or the active sets alone, which are judged by the mechanism."""

Scores: TypeAlias = Future[ScoreResponse]

MOST_WAITING: Final = 64
"""Passes whose scores are not known yet; further ones wait, or go unscored."""


@final
@dataclass(frozen=True)
class _Pass:
    run: Run
    answer: Scores


@final
class Sidecar:
    """Sends what a module's forward passes compute to a server, and gives back its scores.

    The module must be the model that the server's baseline was fitted on, and dictionaries those
    of the baseline. Passes of several threads are told apart.

    With ``fails_open`` the model never waits for a server, and nothing that goes wrong here reaches
    the caller but by the scores: a pass that cannot be sent, as when too many wait already, is
    left unscored. Without it a pass waits while too many others do, and errors are raised.
    """

    def __init__(
        self,
        module: nn.Module,
        decomposition: Decomposition,
        client: Client,
        *,
        sends: Sent = "codes",
        baseline: str = "",
        fails_open: bool = True,
    ) -> None:
        self._module = module
        self._decomposition = decomposition
        self._stream = client.open_stream(in_flight=MOST_WAITING)
        self._sends = sends
        self._baseline = baseline
        self._fails_open = fails_open
        self._fingerprint = fingerprint(module)
        self._room = threading.Semaphore(MOST_WAITING)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sidecar")

    @staticmethod
    def beside(
        module: nn.Module,
        dictionaries: Path,
        client: Client,
        *,
        sends: Sent = "codes",
        fails_open: bool = True,
    ) -> "Sidecar":
        """Read the dictionaries of a deployment; ConfigError if they cannot be read."""
        read = load_decomposition(dictionaries, module)
        return Sidecar(module, read, client, sends=sends, fails_open=fails_open)

    def __enter__(self) -> "Sidecar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Send what waits, and wait for its scores, as long as one request may take."""
        self._thread.shutdown()
        self._stream.close()

    def score(self, *inputs: object, **named: object) -> tuple[Any, Scores]:
        """Run the module once; return the object it returned, and what will hold its scores."""
        with self.watching() as passes:
            output = self._module(*inputs, **named)
        if passes:
            return output, passes[0]
        unseen: Scores = Future()
        unseen.set_exception(ConfigError("the module cannot be looked at: call eval() on it"))
        return output, unseen

    @contextmanager
    def watching(self) -> Iterator[Sequence[Scores]]:
        """Look at every pass of this thread; the scores of each, in order, once they are known."""
        passes: list[Scores] = []
        looking = each_pass(
            self._module, self._decomposition.sites, lambda run: passes.append(self._taken(run))
        )
        try:
            looking.__enter__()
        except MadError:
            if not self._fails_open:
                raise
            yield passes
            return
        try:
            yield passes
        finally:
            looking.__exit__(None, None, None)

    def _taken(self, run: Callable[[], Run]) -> Scores:
        """Take what a pass computed, and have it sent."""
        answer: Scores = Future()
        answer.set_running_or_notify_cancel()
        if not self._room.acquire(blocking=not self._fails_open):
            answer.set_exception(
                OverloadedError(f"{MOST_WAITING} passes wait for their scores; this one has none")
            )
            return answer
        answer.add_done_callback(lambda _: self._room.release())
        try:
            seen = run()
            # The caller may change its output, and does not wait for us.
            outputs = {name: tensor.clone() for name, tensor in list(seen.outputs.items())[:1]}
            self._thread.submit(self._send, _Pass(Run(outputs, seen.activations), answer))
        except Exception as error:
            answer.set_exception(error)
            if not self._fails_open:
                raise
        return answer

    def _send(self, one: _Pass) -> None:
        try:
            asked = self._stream.submit(request(self._message(one.run), baseline=self._baseline))
        except Exception as error:  # noqa: BLE001  # who waits for the scores is told
            one.answer.set_exception(error)
            return
        asked.add_done_callback(lambda done: _pass_on(done, one.answer))

    @torch.no_grad()
    def _message(self, run: Run) -> Scored:
        seen = {site: tensor.cpu().contiguous() for site, tensor in run.activations.items()}
        outputs = {name: tensor.cpu().contiguous() for name, tensor in run.outputs.items()}
        broke_down = not all(bool(torch.isfinite(tensor).all()) for tensor in seen.values())
        # No active set tells of a model that broke down; what it computed does.
        if self._sends == "activations" or broke_down:
            return activations(seen, outputs=outputs, model_fingerprint=self._fingerprint)
        found = self._decomposition.activity(seen)
        return codes(
            _active(found),
            contexts=_labels(outputs, batch=len(next(iter(seen.values())))),
            model_fingerprint=self._fingerprint,
            decomposition_fingerprint=self._decomposition.fingerprint,
        )


def _active(
    found: Mapping[View, Activity],
) -> dict[View, tuple[list[int], list[int], list[float]]]:
    return {
        view: (one.counts.tolist(), one.components.tolist(), one.magnitudes.tolist())
        for view, one in found.items()
        if one.num_components
    }


def _labels(outputs: Outputs, *, batch: int) -> list[int]:
    """Return the label predicted for each input; none where the output predicts none."""
    return [label for label in context_of(outputs, "predicted", batch=batch).tolist() if label >= 0]


def _pass_on(done: Scores, answer: Scores) -> None:
    error = done.exception()
    if error is None:
        answer.set_result(done.result())
    else:
        answer.set_exception(error)
