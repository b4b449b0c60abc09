"""Trainers side by side: ours, other libraries' in an environment of their own, and the limit."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Protocol, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mad import tensors
from mad.bench import dictionary_speed_peer
from mad.bench.dictionary_speed_peer import PEERS, Size, milliseconds
from mad.components.dictionaries import sparse
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan, Initial
from mad.components.dictionaries.train import figures
from mad.components.dictionaries.training import Training

BATCH = 1_024


@final
@dataclass(frozen=True)
class Vectors:
    """Batches to train on, and vectors held out."""

    batches: Float[Tensor, "step batch coordinate"]
    held: Float[Tensor, "held coordinate"]

    @staticmethod
    def superposed(
        size: Size, *, batch: int = BATCH, held: int = 4_096, active: int = 24
    ) -> "Vectors":
        """Add up ``active`` of as many random directions as there are latents, and 2 % noise.

        How often a direction is used falls with the 0.7th power of its rank.
        """
        generator = torch.Generator().manual_seed(20_261)  # no trainer begins with this seed
        directions = torch.randn(size.width, size.coordinates, generator=generator)
        directions = functional.normalize(directions, dim=1)
        rates = torch.arange(1, size.width + 1).pow(-0.7)
        count = size.steps * batch + held
        rows = []
        for some in torch.arange(count).split(batch):
            used = torch.multinomial(rates.expand(len(some), -1), active, generator=generator)
            values = 0.5 + torch.rand(used.shape, generator=generator)
            noise = 0.02 * torch.randn(len(some), size.coordinates, generator=generator)
            summed = functional.embedding_bag(
                used, directions, per_sample_weights=values, mode="sum"
            )
            rows.append(summed + noise)
        joined = torch.cat(rows)
        return Vectors(joined[:-held].reshape(size.steps, batch, size.coordinates), joined[-held:])


class Contender(Protocol):
    """A trainer that takes steps when asked; times are milliseconds of processor time."""

    def train(self, steps: int) -> Sequence[float]:
        """Take steps and return what each took."""
        ...

    def encode(self, batch: int, rounds: int) -> Sequence[float]:
        """Encode held-out vectors several times and return what each took."""
        ...

    def unexplained(self) -> float:
        """Return the share of held-out variance left over."""
        ...


@final
class Ours:
    """The trainer of this package, with its defaults but for where directions start."""

    def __init__(self, size: Size, vectors: Vectors, initial: Initial) -> None:
        plan = DictionaryPlan(
            width=size.width,
            k=size.k,
            steps=size.steps,
            batch_size=vectors.batches.shape[1],
            initial=initial,
        )
        sample = Examples.own(vectors.batches.flatten(0, 1)[:16_384])
        self._sample = sample
        self._training = Training.begin(Look.at("site", "flatten"), sample, plan)
        self._vectors = vectors

    def train(self, steps: int) -> Sequence[float]:
        """Take steps and return what each took."""
        done = self._training.steps_done
        some = self._vectors.batches[done : done + steps]
        return [milliseconds(partial(self._training.step, Examples.own(x))) for x in some]

    def encode(self, batch: int, rounds: int) -> Sequence[float]:
        """Encode held-out vectors several times and return what each took."""
        encode = partial(self._dictionary.latents, {"site": self._vectors.held[:batch]})
        with torch.no_grad():
            return [milliseconds(encode) for _ in range(rounds)]

    def unexplained(self) -> float:
        """Return the share of held-out variance left over."""
        return figures(self._dictionary, self._vectors.held).unexplained_variance

    @cached_property
    def _dictionary(self) -> Dictionary:
        return self._training.finish(self._sample)


@final
class Elsewhere:
    """Another library's trainer, in its own process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, **request: object) -> Any:  # noqa: ANN401  # JSON
        """Return the answer to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if request:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return json.loads(self._process.stdout.readline() or "null")

    def train(self, steps: int) -> Sequence[float]:
        """Take steps and return what each took."""
        return self.ask(do="train", steps=steps)  # type: ignore[no-any-return]  # JSON

    def encode(self, batch: int, rounds: int) -> Sequence[float]:
        """Encode held-out vectors several times and return what each took."""
        return self.ask(do="encode", batch=batch, rounds=rounds)  # type: ignore[no-any-return]  # JSON

    def unexplained(self) -> float:
        """Return the share of held-out variance left over."""
        return self.ask(do="unexplained")  # type: ignore[no-any-return]  # JSON


@final
@dataclass(frozen=True)
class Trained:
    """Median milliseconds of processor time of a step, and held-out variance left over."""

    name: str
    step_ms: float
    unexplained: float


@final
@dataclass(frozen=True)
class Limit:
    """Median milliseconds of what a step cannot do without, in dense single precision.

    ``encode`` is the product of all vectors with all components, ``gradient`` the product that is
    the gradient of its weights, ``decode`` the sum of the active directions.
    """

    encode: float
    gradient: float
    decode: float

    @property
    def step_ms(self) -> float:
        """All three."""
        return self.encode + self.gradient + self.decode


def race(
    contenders: dict[str, Contender], size: Size, *, rounds: int
) -> tuple[list[Trained], Limit]:
    """Let all take the steps of a run in turns, so that a busy machine is as busy for each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    limits = []
    for _ in range(rounds):
        for name, contender in contenders.items():
            times[name] += contender.train(size.steps // rounds)
        limits.append(_limit(size))
    trained = [
        Trained(name, median(times[name]), contender.unexplained())
        for name, contender in contenders.items()
    ]
    return trained, Limit(*(median(part) for part in zip(*limits, strict=True)))


@contextmanager
def lined_up(
    size: Size, vectors: Vectors, peers_python: str | None
) -> Iterator[dict[str, Contender]]:
    """Prepare ours, and of the others those that the given Python can import."""
    with ExitStack() as stack:
        # The first as the others begin, the second as we do unless told otherwise.
        contenders: dict[str, Contender] = {
            "mad": Ours(size, vectors, "random"),
            "mad, data": Ours(size, vectors, "data"),
        }
        if peers_python is not None:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            file = folder / "vectors.safetensors"
            file.write_bytes(tensors.serialise({"batches": vectors.batches, "held": vectors.held}))
            numbers = [str(one) for one in (size.coordinates, size.width, size.k, size.steps)]
            script = dictionary_speed_peer.__file__
            for name in PEERS:
                # -P, or modules beside the script hide those of the same names.
                command = [peers_python, "-P", script, name, str(file), *numbers]
                process = stack.enter_context(
                    subprocess.Popen(  # noqa: S603  # the Python that the caller names
                        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                    )
                )
                peer = Elsewhere(process)
                if peer.ask() is not None:
                    contenders[name] = peer
        yield contenders


def _limit(size: Size) -> tuple[float, float, float]:
    source = torch.randn(BATCH, size.coordinates)
    weight = torch.randn(size.coordinates, size.width)
    gradient = torch.randn(BATCH, size.width)
    components = torch.randint(size.width, (BATCH * size.k,))
    offsets = torch.arange(0, BATCH * size.k + 1, size.k)
    values, directions = torch.rand(BATCH * size.k), weight.T.contiguous()
    return (
        milliseconds(lambda: source @ weight),
        milliseconds(lambda: source.T @ gradient),
        milliseconds(lambda: sparse.added(values, components, offsets, directions)),
    )
