"""dictionary_learning: ``ae.pt``, a pickle, and ``config.json`` in the directory of one trainer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from mad import tensors
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.kinds.gated import GatedEncoder
from mad.components.dictionaries.kinds.jumprelu import JumpReLUEncoder
from mad.components.dictionaries.kinds.relu import ReLUEncoder
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.formats.base import Place
from mad.components.formats.checkpoint import Settings, Weights, write_json, writing
from mad.components.formats.pickles import pickled, tensors_of, unpickled
from mad.components.formats.unframed import Linear, Unframed, jumprelu
from mad.errors import ConfigError

_SETTINGS, _WEIGHTS = "config.json", "ae.pt"
_HOOKS: Final = {"resid": "hook_resid_post", "attention": "hook_attn_out", "mlp": "hook_mlp_out"}


@final
@dataclass(frozen=True)
class DictionaryLearning:
    """The ReLU, TopK, BatchTopK, Matryoshka, JumpReLU and gated autoencoders of the library."""

    def read(self, path: Path, place: Place) -> Dictionary:
        """Read the directory of one trainer, or a checkpoint beside its settings."""
        file = path if path.is_file() else path / _WEIGHTS
        state = unpickled(file, allowed=place.pickles)
        # A checkpoint to resume from holds the optimiser too.
        weights = Weights(file, tensors_of(file, state.get("ae", state)))
        trainer = _settings_of(file).inner("trainer")
        hook = place.site or _hook(trainer)
        look = place.look(trainer.path, hook, trainer.text("lm_name", ""))
        return _READERS[_class_of(trainer)](weights).dictionary(look)

    def write(self, dictionary: Dictionary, path: Path) -> None:
        """Write the directory of one trainer."""
        if not dictionary.look.is_own:
            raise ConfigError(
                "dictionary_learning knows no transcoders; write it as saelens or sparsify"
            )
        unframed = Unframed.of(dictionary)
        unframed.refuse_unless(rows=False, skip=False, name="dictionary_learning")
        name, state, k = _state(unframed)
        width, read = unframed.decoder.shape
        site = dictionary.look.writes[0]
        trainer = {"dict_class": name, "activation_dim": read, "dict_size": width, **k}
        trainer |= {"layer": None, "lm_name": "", "submodule_name": site}
        with writing(path):
            tensors.write_durably(path / _WEIGHTS, pickled(state))
            write_json(path / _SETTINGS, {"trainer": trainer})


def _settings_of(file: Path) -> Settings:
    """Read the settings of a run, which lie beside its last weights and above its checkpoints."""
    beside = file.parent / _SETTINGS
    above = file.parent.parent / _SETTINGS
    return Settings.read(above if above.is_file() and not beside.is_file() else beside)


def _class_of(trainer: Settings) -> str:
    name = trainer.text("dict_class")
    if name not in _READERS:
        raise ConfigError(f"{trainer.path}: dict_class {name!r} is none of {', '.join(_READERS)}")
    return name


def _hook(trainer: Settings) -> str:
    """Return the hook of a submodule such as ``mlp_out_layer_3``; by default the residual.

    Without a layer the submodule is a module's own name.
    """
    if trainer.values.get("layer") is None:
        return trainer.text("submodule_name", "")
    layer, name = trainer.count("layer"), trainer.text("submodule_name", "resid_post_layer")
    for start, hook in _HOOKS.items():
        if name.startswith(start):
            return f"blocks.{layer}.{hook}"
    raise ConfigError(f"{trainer.path}: submodule {name!r} is not known; name the site with --site")


def _linear(weights: Weights) -> tuple[Tensor, Tensor]:
    """Return the encoder and decoder of classes that keep them as linear modules."""
    encoder = weights.matrix("encoder.weight")
    width, read = encoder.shape
    decoder = weights.take("decoder.weight", read, width)
    return encoder.T.contiguous(), decoder.T.contiguous()


def _relu(weights: Weights) -> Unframed:
    encoder, decoder = _linear(weights)
    bias = weights.take("bias", encoder.shape[0])
    encoder_bias = weights.take("encoder.bias", encoder.shape[1])
    norms = decoder.norm(dim=1)
    # The library brings directions to unit length when it loads them, unless they are close to it.
    if not torch.allclose(norms, torch.ones_like(norms)):
        encoder, encoder_bias, decoder = encoder * norms, encoder_bias * norms, decoder.T / norms
        decoder = decoder.T.contiguous()
    return Unframed(ReLUEncoder(encoder, encoder_bias), bias, decoder, bias)


def _relu_new(weights: Weights) -> Unframed:
    encoder, decoder = _linear(weights)
    read, width = encoder.shape
    bias = weights.take("decoder.bias", read)
    relu = ReLUEncoder(encoder, weights.take("encoder.bias", width))
    return Unframed(relu, torch.zeros(read), decoder, bias)


def _topk(weights: Weights) -> Unframed:
    encoder, decoder = _linear(weights)
    read, width = encoder.shape
    bias, k = weights.take("b_dec", read), int(weights.take("k"))
    if not 1 <= k <= width:
        raise ConfigError(f"{weights.path}: k is {k}, of {width} latents; download it again")
    return Unframed(
        TopKEncoder(encoder, weights.take("encoder.bias", width), k), bias, decoder, bias
    )


def _batch_topk(weights: Weights) -> Unframed:
    encoder, decoder = _linear(weights)
    read, width = encoder.shape
    bias = weights.take("b_dec", read)
    jump = jumprelu(encoder, weights.take("encoder.bias", width), _one_threshold(weights, width))
    return Unframed(jump, bias, decoder, bias)


def _matryoshka(weights: Weights) -> Unframed:
    encoder = weights.matrix("W_enc")
    read, width = encoder.shape
    bias = weights.take("b_dec", read)
    jump = jumprelu(encoder, weights.take("b_enc", width), _one_threshold(weights, width))
    return Unframed(jump, bias, weights.take("W_dec", width, read), bias)


def _jumprelu(weights: Weights) -> Unframed:
    encoder = weights.matrix("W_enc")
    read, width = encoder.shape
    jump = jumprelu(encoder, weights.take("b_enc", width), weights.take("threshold", width))
    decoder, bias = weights.take("W_dec", width, read), weights.take("b_dec", read)
    return Unframed(jump, torch.zeros(read), decoder, bias)


def _gated(weights: Weights) -> Unframed:
    encoder, decoder = _linear(weights)
    read, width = encoder.shape
    bias = weights.take("decoder_bias", read)
    parts = (weights.take(key, width) for key in ("gate_bias", "r_mag", "mag_bias"))
    return Unframed(GatedEncoder(encoder, *parts), bias, decoder, bias)


def _one_threshold(weights: Weights, width: int) -> Tensor:
    return weights.take("threshold").expand(width).clone()


_READERS: Final = {
    "AutoEncoder": _relu,
    "AutoEncoderNew": _relu_new,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "JumpReluAutoEncoder": _jumprelu,
    "GatedAutoEncoder": _gated,
}


def _state(unframed: Unframed) -> tuple[str, Mapping[str, Tensor], Mapping[str, Any]]:
    """Return the class, its state, and what else its settings need."""
    # Classes that subtract a bias subtract the one that they add.
    same, none = unframed.rebased(unframed.bias), unframed.unshifted()
    match unframed.encoder:
        case TopKEncoder(k=k):
            kept = {"k": torch.tensor(k, dtype=torch.int32), "threshold": torch.tensor(-1.0)}
            own = {"b_dec": same.bias, "encoder.bias": _bias(same.encoder)} | kept
            return "AutoEncoderTopK", _linear_state(same) | own, {"k": k}
        case ReLUEncoder():
            # The other class of ReLU changes magnitudes when it is loaded.
            own = {"decoder.bias": none.bias, "encoder.bias": _bias(none.encoder)}
            return "AutoEncoderNew", _linear_state(none) | own, {}
        case JumpReLUEncoder(threshold=threshold):
            own = {
                "W_enc": none.encoder.weight.contiguous(),
                "b_enc": _bias(none.encoder),
                "W_dec": none.decoder,
                "b_dec": none.bias,
                "threshold": threshold,
            }
            return "JumpReluAutoEncoder", own, {}
        case GatedEncoder():
            gated = same.encoder
            assert isinstance(gated, GatedEncoder)
            own = {
                "decoder_bias": same.bias,
                "gate_bias": gated.gate_bias,
                "r_mag": gated.log_gain,
                "mag_bias": gated.magnitude_bias,
            }
            return "GatedAutoEncoder", _linear_state(same) | own, {}


def _linear_state(unframed: Unframed) -> dict[str, Tensor]:
    return {
        "encoder.weight": unframed.encoder.weight.T.contiguous(),
        "decoder.weight": unframed.decoder.T.contiguous(),
    }


def _bias(encoder: Linear) -> Tensor:
    assert not isinstance(encoder, GatedEncoder)
    return encoder.bias
