"""OpenAI's sparse_autoencoder: one ``.pt``, a pickle of the state and the activation's name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from mad import tensors
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.kinds.relu import ReLUEncoder
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.formats.base import Place
from mad.components.formats.checkpoint import Weights, writing
from mad.components.formats.pickles import pickled, tensors_of, unpickled
from mad.components.formats.unframed import Unframed
from mad.errors import ConfigError


@final
@dataclass(frozen=True)
class OpenAI:
    """TopK autoencoders of layer-normed vectors, and ReLU ones of vectors as they are.

    The library knows by the name ``TopK`` alone that vectors are layer-normed.
    """

    def read(self, path: Path, place: Place) -> Dictionary:
        """Read one file; it does not say where it belongs."""
        state = unpickled(path, allowed=place.pickles)
        weights = Weights(path, tensors_of(path, state))
        encoder = weights.matrix("encoder.weight")
        width, read = encoder.shape
        encoder = encoder.T.contiguous()
        bias, before = weights.take("latent_bias", width), weights.take("pre_bias", read)
        k = _k(path, state, width)
        is_topk = k is not None
        return Unframed(
            encoder=ReLUEncoder(encoder, bias) if k is None else TopKEncoder(encoder, bias, k),
            before=before,
            decoder=_decoder(weights, width, read),
            bias=before,
            rows="layer_norm" if is_topk else "none",
            restored=is_topk,
        ).dictionary(place.look(path, "", ""))

    def write(self, dictionary: Dictionary, path: Path) -> None:
        """Write one file."""
        unframed = Unframed.of(dictionary)
        unframed.refuse_unless(rows=True, skip=False, name="openai")
        activation = _activation(dictionary, unframed)
        unframed = unframed.rebased(unframed.bias)
        encoder = unframed.encoder
        assert isinstance(encoder, TopKEncoder | ReLUEncoder)
        width = encoder.width
        state: dict[str, object] = {
            "pre_bias": unframed.bias,
            "latent_bias": encoder.bias,
            "encoder.weight": encoder.weight.T.contiguous(),
            "decoder.weight": unframed.decoder.T.contiguous(),
            "stats_last_nonzero": torch.zeros(width, dtype=torch.int64),
            "latents_activation_frequency": torch.ones(width),
            "latents_mean_square": torch.zeros(width),
        }
        with writing(path.parent):
            tensors.write_durably(path, pickled({**state, **activation}))


def _k(path: Path, state: Mapping[str, Any], width: int) -> int | None:
    """Return how many latents are active, None where all above zero are."""
    name = state.get("activation", "ReLU")
    if name == "ReLU":
        return None
    rule = state.get("activation_state_dict")
    rule = rule if isinstance(rule, dict) else {}
    k, after = rule.get("k"), rule.get("postact_fn")
    if name == "TopK" and isinstance(k, int) and 1 <= k <= width and after == "ReLU":
        return k
    raise ConfigError(
        f"{path}: activation {name!r} with k {k!r} and {after!r} after it is not supported, only "
        "ReLU and TopK of rectified latents; download it again or train another"
    )


def _decoder(weights: Weights, width: int, read: int) -> Tensor:
    if "decoder.weight" in weights:
        return weights.take("decoder.weight", read, width).T.contiguous()
    # Tied: the decoder is the encoder turned round.
    return weights.take("encoder.weight", width, read)


def _activation(dictionary: Dictionary, unframed: Unframed) -> Mapping[str, object]:
    if not dictionary.look.is_own:
        raise ConfigError("openai knows no transcoders; write it as saelens or sparsify")
    match unframed.encoder, unframed.rows, unframed.restored:
        case TopKEncoder(k=k), "layer_norm", True:
            rule = {"k": k, "postact_fn": "ReLU"}
            return {"activation": "TopK", "activation_state_dict": rule}
        case ReLUEncoder(), "none", False:
            return {"activation": "ReLU", "activation_state_dict": {}}
        case encoder, rows, _:
            raise ConfigError(
                "openai knows TopK of layer-normed vectors and ReLU of others, and this is "
                f"{encoder.kind} of vectors normalised by {rows!r}; write it as saelens"
            )
