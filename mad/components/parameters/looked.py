"""What a run of a model must be like for its layers to be decomposed."""

from collections.abc import Mapping
from typing import Final

from jaxtyping import Float
from torch import Tensor

from mad.errors import ConfigError
from mad.types import Site

INPUT: Final[Site] = "<"
"""The site of what goes into the model itself."""

OUTPUT: Final[Site] = "@output"
"""The site of what comes out of it, which is one tensor."""


def checked_output(output: object, *, calls: Mapping[str, int]) -> Float[Tensor, "batch ..."]:
    """Return a model's output, given how often it called each layer in the run.

    Raises:
        ConfigError: a layer was not called exactly once, or the output is not a tensor.
    """
    for name, count in calls.items():
        if count != 1:
            raise ConfigError(
                f"layer {name!r} is called {count} times in one run of the model, and only "
                "layers that are called once can be decomposed; name others"
            )
    if not isinstance(output, Tensor):
        raise ConfigError(
            f"the model returns a {type(output).__name__}, and a decomposition is trained on a "
            "tensor; wrap the model so that it returns one"
        )
    return output
