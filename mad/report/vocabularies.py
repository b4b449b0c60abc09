"""Vocabularies: an activation in, the same activation on a grid out, said in components.

Magnitudes are whole numbers of a pitch and the residual is what they leave of the nearest point
of the grid, so whoever knows the vocabulary can read that very point back.
"""

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional

from mad.types import Activity


@runtime_checkable
class Vocabulary(Protocol):
    """A way to describe points of the grid.

    Law: ``read(say(activity))`` is the point of the grid nearest to the activation.
    """

    @property
    def step(self) -> float:
        """The width of the grid."""
        ...

    @property
    def pitch(self) -> float:
        """What a magnitude of one stands for, as a distance."""
        ...

    @property
    def parameters(self) -> int:
        """How many numbers whoever reads must know."""
        ...

    @property
    def leaves_residual(self) -> bool:
        """Whether there is a residual to describe."""
        ...

    @property
    def components(self) -> int:
        """How many components there are, used or not."""
        ...

    def say(self, activity: Activity) -> Activity:
        """Describe each activation: magnitudes become whole numbers, in float64, none zero."""
        ...

    def read(self, said: Activity) -> Float64[Tensor, "batch coordinate"]:
        """Return the points of the grid that were described."""
        ...

    def using(self, used: Bool[Tensor, " component"]) -> "Vocabulary":
        """Return the vocabulary that says nothing with other components; ``components`` stays."""
        ...


@final
@dataclass(frozen=True)
class Neurons:
    """Each coordinate is a component; those that are zero on the grid are silent."""

    step: float
    components: int

    @property
    def pitch(self) -> float:
        """Magnitudes are coordinates."""
        return self.step

    @property
    def parameters(self) -> int:
        """There is nothing to know."""
        return 0

    @property
    def leaves_residual(self) -> bool:
        """Coordinates say everything."""
        return False

    def say(self, activity: Activity) -> Activity:
        """Round each coordinate to whole steps."""
        steps = (activity.activation.double() / self.step).round()
        active = steps != 0
        point = steps * self.step
        return Activity(
            offsets=functional.pad(active.sum(dim=1).cumsum(dim=0), (1, 0)),
            components=active.nonzero()[:, 1],
            magnitudes=steps[active],
            residual=torch.zeros_like(point),
            activation=point,
            num_components=self.components,
        )

    def read(self, said: Activity) -> Float64[Tensor, "batch coordinate"]:
        """Put each coordinate back in its place."""
        steps = torch.zeros_like(said.activation)
        return steps.index_put((said.rows, said.components), said.magnitudes) * self.step

    def using(self, used: Bool[Tensor, " component"]) -> "Neurons":  # noqa: ARG002  # Vocabulary
        """Keep all coordinates: no residual could say what the others do."""
        return self


@final
@dataclass(frozen=True)
class Directions:
    """A component adds a multiple of its direction to an offset; what is left is residual.

    ``kept`` are the components that are used; row ``i`` of ``unit``, of length one, is the
    direction of ``kept[i]`` and ``length`` what one unit of its magnitude adds. A magnitude is
    said in multiples of ``pitch``, a distance in the activations' space.
    """

    step: float
    pitch: float
    offset: Float64[Tensor, " coordinate"]
    unit: Float64[Tensor, "kept coordinate"]
    length: Float64[Tensor, " kept"]
    kept: Int64[Tensor, " kept"]
    components: int

    @staticmethod
    def of(
        offset: Float[Tensor, " coordinate"],
        directions: Float[Tensor, "component coordinate"],
        *,
        step: float,
        pitch: float,
    ) -> "Directions":
        """Use all directions; one of length zero is never used, for it says nothing."""
        length = directions.double().norm(dim=1)
        kept = length.nonzero()[:, 0]
        unit = directions.double()[kept] / length[kept].unsqueeze(1)
        return Directions(step, pitch, offset.double(), unit, length[kept], kept, len(length))

    @property
    def parameters(self) -> int:
        """Every direction counts, used or not, and the offset where there are any."""
        return (self.components + 1) * self.offset.numel() if self.components else 0

    @property
    def leaves_residual(self) -> bool:
        """Directions rarely say everything."""
        return True

    def say(self, activity: Activity) -> Activity:
        """Round magnitudes to the pitch, those below it up, and leave the rest over.

        Rounded down they would leave the set, and a coarse pitch would describe fewer components
        than were active.
        """
        place = torch.full((activity.num_components,), -1)
        place[self.kept] = torch.arange(len(self.kept))
        components = place[activity.components]
        length = functional.pad(self.length, (0, 1))[components]
        exact = activity.magnitudes.double() * length / self.pitch
        pitches = exact.sign() * exact.abs().round().clamp_min(1)
        is_said = (components >= 0) & (pitches != 0)
        counts = activity.rows[is_said].bincount(minlength=len(activity))
        point = (activity.activation.double() / self.step).round() * self.step
        said = Activity(
            offsets=functional.pad(counts.cumsum(dim=0), (1, 0)),
            components=components[is_said],
            magnitudes=pitches[is_said],
            residual=torch.zeros_like(point),
            activation=point,
            num_components=len(self.kept),
        )
        return Activity(
            said.offsets,
            said.components,
            said.magnitudes,
            point - self.read(said),
            point,
            said.num_components,
        )

    def read(self, said: Activity) -> Float64[Tensor, "batch coordinate"]:
        """Add up what the components say and what they leave over."""
        explained = functional.embedding_bag(
            said.components,
            self.unit,
            said.offsets,
            per_sample_weights=said.magnitudes * self.pitch,
            mode="sum",
            include_last_offset=True,
        )
        return self.offset + explained + said.residual

    def using(self, used: Bool[Tensor, " component"]) -> "Directions":
        """Keep some of the directions that are used now."""
        return Directions(
            self.step,
            self.pitch,
            self.offset,
            self.unit[used],
            self.length[used],
            self.kept[used],
            self.components,
        )


@final
@dataclass(frozen=True)
class Principal:
    """Principal directions as components: all are always active, whatever a decomposition says."""

    words: Directions

    @property
    def step(self) -> float:
        """The width of the grid."""
        return self.words.step

    @property
    def pitch(self) -> float:
        """What a magnitude of one stands for, as a distance."""
        return self.words.pitch

    @property
    def components(self) -> int:
        """How many directions there are."""
        return self.words.components

    @property
    def parameters(self) -> int:
        """An offset and an orthonormal frame, which has fewer free numbers than coordinates."""
        width = self.words.offset.numel()
        return (self.components + 1) * width - self.components * (self.components + 1) // 2

    @property
    def leaves_residual(self) -> bool:
        """What lies in other directions is left."""
        return True

    def say(self, activity: Activity) -> Activity:
        """Project each activation on the directions."""
        along = (activity.activation.double() - self.words.offset) @ self.words.unit.T
        inputs = len(along)
        everything = Activity(
            offsets=torch.arange(inputs + 1) * self.components,
            components=torch.arange(self.components).repeat(inputs),
            magnitudes=along.flatten(),
            residual=activity.activation,
            activation=activity.activation,
            num_components=self.components,
        )
        return self.words.say(everything)

    def read(self, said: Activity) -> Float64[Tensor, "batch coordinate"]:
        """Add up the directions and the rest."""
        return self.words.read(said)

    def using(self, used: Bool[Tensor, " component"]) -> "Principal":  # noqa: ARG002  # Vocabulary
        """Keep all: each is used by every input."""
        return self
