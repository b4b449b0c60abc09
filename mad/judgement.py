"""What a baseline finds of some inputs: outputs, verdicts, explanations, active sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from mad.capture.hooks import Outputs
from mad.types import Explanation, Verdict, View


@final
@dataclass(frozen=True, slots=True)
class Rows:
    """Some consecutive inputs of a run of the model, and the active sets of the whole run by view.

    Nothing is copied, and no more of the activity is held on to.
    """

    sets: Mapping[View, tuple[Int64[Tensor, " offsets"], Int64[Tensor, " entry"]]]
    start: int
    stop: int

    def components(self, view: View) -> Int64[np.ndarray, " entry"]:
        """Return the components they used, input after input."""
        offsets, components = (tensor.numpy() for tensor in self.sets[view])
        return components[offsets[self.start] : offsets[self.stop]]


@final
@dataclass(frozen=True)
class Judgement:
    """The model's own outputs and one verdict for each input.

    ``explanations`` has the inputs that raise an alert, by row. ``stage_seconds`` says how long
    each stage took: forward, components, codes, explanations. ``rows`` are the inputs' active
    sets, in order, from one run of the model or several.
    """

    outputs: Outputs
    verdicts: tuple[Verdict, ...]
    explanations: Mapping[int, Explanation]
    stage_seconds: Mapping[str, float]
    rows: tuple[Rows, ...]
