"""Settings of a decomposition by attribution: how components of the whole model are found."""

from typing import Annotated, Literal, Self, final

from pydantic import Field, model_validator

from mad.config.fields import Count, Names, Positive, Section
from mad.config.parameters import Weight


@final
class Attributions(Section):
    """How to take a model apart into components that span its layers.

    ``active`` is how many of ``components`` an input uses: on average, or where ``selection`` or
    ``thresholds`` look at each input by itself, exactly. ``ties`` are pairs of layers that hold one
    parameter.
    """

    layers: Names
    components: Count = 20
    active: Positive = 1.0
    thresholds: Literal["one", "each", "none"] = "one"
    ties: tuple[tuple[str, str], ...] = ()
    rank: Count | None = None
    selection: Literal["batch", "input"] = "batch"
    attributed: Literal["model", "components"] = "model"
    faithfulness: Weight = 1.0
    minimality: Weight = 1.0
    simplicity: Weight = 0.7
    p: Positive = 1.0
    hidden: Weight = 0.0
    hidden_layers: tuple[str, ...] = ()
    hidden_relu: Annotated[bool, Field(strict=True)] = True
    unit_norm: Annotated[bool, Field(strict=True)] = False
    learning_rate: Positive = 3e-2
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.05
    steps: Count = 20_000
    batch_size: Count = 2048
    starts: Count = 4

    @model_validator(mode="after")
    def _active_is_a_number_of_components(self) -> Self:
        if self.active > self.components:
            raise ValueError(
                f"active = {self.active:g} must be at most components = {self.components}"
            )
        each = [
            f"{key} = {value!r}"
            for key, value in (("selection", self.selection), ("thresholds", self.thresholds))
            if value in ("input", "none")
        ]
        if each and self.active != int(self.active):
            raise ValueError(
                f"active = {self.active:g} with {each[0]}, which gives each input as many "
                "components: set active to a whole number"
            )
        return self

    @model_validator(mode="after")
    def _what_is_faithful_and_minimal_is_priced(self) -> Self:
        for key in ("faithfulness", "minimality"):
            if not getattr(self, key):
                raise ValueError(
                    f"{key} = 0, so nothing ties components to the model's "
                    f"{'weights' if key == 'faithfulness' else 'answer'}: give it a weight"
                )
        if self.hidden_layers and not self.hidden:
            raise ValueError(
                f"hidden_layers = {list(self.hidden_layers)} with hidden = 0, so nothing is "
                "compared there: give hidden a weight, or leave hidden_layers out"
            )
        return self
