"""What every kind of dictionary promises: an encoder to use, and a learner to train it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, final, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor

from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples


@runtime_checkable
class Encoder(Protocol):
    """From normalised vectors to sparse latents.

    A frozen dataclass whose fields are tensors, plain numbers, strings, or other encoders: files
    and fingerprints are made of its fields. Law: the latents of a vector do not depend on its
    companions in the batch.
    """

    kind: ClassVar[str]

    @property
    def width(self) -> int:
        """The number of latents."""
        ...

    def encode(self, source: Float[Tensor, "batch coordinate"]) -> Latents:
        """Say which latents each normalised vector activates, and how strongly."""
        ...


@final
@dataclass(frozen=True)
class Forward:
    """What a learner makes of a batch, with gradients.

    ``explained`` is the reconstruction of the normalised target, ``latents`` are those that it is
    the sum of; their values may be detached. ``before`` are the values of all latents before any
    rule, and ``rates`` the share of the batch that activates each latent, with gradients, for kinds
    whose penalty needs them again.
    """

    explained: Float[Tensor, "batch coordinate"]
    latents: Latents
    gates: Latents | None = None
    rates: Float[Tensor, " component"] | None = None


@final
@dataclass(frozen=True)
class Step:
    """Where training is: the share of steps done, and the latents that have died."""

    progress: float
    dead: Int64[Tensor, " dead"]


@final
@dataclass(frozen=True)
class Learned:
    """What training comes to, for normalised vectors."""

    encoder: Encoder
    decoder: Float[Tensor, "component target"]


@runtime_checkable
class Learner(Protocol):
    """The weights of one dictionary while they are trained; they are changed in place.

    The loss of a batch is the share of the target's squares that ``explained`` misses, plus the
    ``penalty``. Vectors are normalised. Nothing is drawn but from the generators given.
    """

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """What gradients change: leaves that require them, by name.

        Latents are the last axis of those called ``encoder...``, and the first of those called
        ``decoder...``.
        """
        ...

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """What else changes from step to step, by name; checkpoints keep both."""
        ...

    @property
    def width(self) -> int:
        """The number of latents."""
        ...

    def forward(self, source: Float[Tensor, "batch source"]) -> Forward:
        """Reconstruct a batch."""
        ...

    def penalty(self, forward: Forward, batch: Examples, step: Step) -> Float[Tensor, ""]:
        """Return what the kind asks for besides: sparsity, revival of the dead, parts."""
        ...

    def stepped(self, forward: Forward) -> None:
        """Mend the weights after a step: unit directions, running thresholds."""
        ...

    def finish(self, sample: Examples) -> Learned:
        """Return the result, calibrated on a sample where the kind needs it."""
        ...
