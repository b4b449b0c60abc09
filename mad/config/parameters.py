"""Settings of a parameter decomposition: which layers are taken apart, and how it is trained."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, final

from pydantic import Field, model_validator

from mad.config.fields import Count, Names, Positive, Section

Weight = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
Threshold = Annotated[float, Field(ge=0, lt=1, strict=True)]


@final
class Parameters(Section):
    """How to take the matrices of some layers apart into subcomponents of rank one.

    ``components`` is how many for each matrix: one number, or one by pattern of layers. ``ties``
    are pairs of layers that hold one parameter.
    """

    layers: Names
    components: Count | Mapping[str, Count] = 100
    ties: tuple[tuple[str, str], ...] = ()
    threshold: Threshold = 0.1
    pooling: Literal["mean", "last"] = "mean"
    masked_output: Annotated[bool, Field(strict=True)] = False
    importance: Literal["scalar", "vector", "shared"] = "scalar"
    hidden: Count = 16
    sparsity: Positive = 1e-3
    penalty: Literal["lp", "smooth_l0"] = "lp"
    p: Positive = 1.0
    p_final: Positive | None = None
    frequency: Weight = 0.0
    stochastic: Weight = 1.0
    layerwise: Weight = 1.0
    subset: Weight = 0.0
    adversarial: Weight = 0.0
    faithfulness: Weight = 0.0
    distance: Literal["mse", "kl"] = "mse"
    steps: Count = 10_000
    batch_size: Count = 4096
    learning_rate: Positive = 1e-3

    @model_validator(mode="after")
    def _some_term_compares_answers(self) -> Self:
        if not any((self.stochastic, self.layerwise, self.subset, self.adversarial)):
            raise ValueError(
                "stochastic, layerwise, subset and adversarial are all 0, so nothing would be "
                "learned from the model's answer: give one of them a weight"
            )
        return self
