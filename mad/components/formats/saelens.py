"""SAELens: ``cfg.json`` and ``sae_weights.safetensors`` in a directory, of version 6 or earlier."""

from dataclasses import dataclass, replace
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
from mad.components.formats.hooks import hook_of
from mad.components.formats.saelens_settings import (
    ROWS,
    current,
    factor_of,
    hooks_of,
    is_transcoder,
    rows_of,
)
from mad.components.formats.unframed import Linear, Unframed, jumprelu
from mad.errors import ConfigError

_SETTINGS, _WEIGHTS = "cfg.json", "sae_weights.safetensors"
_WRITTEN: Final = "6.0.0"
"""The version whose layout is written; SAELens mends the settings of earlier ones."""

_BATCH: Final = ("batchtopk", "matryoshka_batchtopk")
"""Kinds that exist in training only; finished ones are saved as ``jumprelu``."""
_TRANSCODERS: Final = ("transcoder", "skip_transcoder")
_JUMPING: Final = ("jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder", *_BATCH)
_KINDS: Final = ("standard", "topk", "gated", *_JUMPING, *_TRANSCODERS)


@final
@dataclass(frozen=True)
class SAELens:
    """Standard, TopK, JumpReLU and gated autoencoders, and transcoders with a skip or without."""

    def read(self, path: Path, place: Place) -> Dictionary:
        """Read a directory, or the one of a named file in it."""
        directory = path.parent if path.is_file() else path
        settings = current(Settings.read(directory / _SETTINGS))
        weights = Weights.read(directory / _WEIGHTS)
        read = _unframed(settings, weights)
        hook, reads = hooks_of(settings, place)
        model = settings.inner("metadata").text("model_name", "")
        look = place.look(settings.path, hook, model, reads=reads)
        return read.scaled(factor_of(settings)).dictionary(look)

    def write(self, dictionary: Dictionary, path: Path) -> None:
        """Write a directory."""
        unframed = Unframed.of(dictionary)
        transcodes = (
            not dictionary.look.is_own
            or unframed.skip is not None
            or (unframed.rows != "none" and not unframed.restored)
        )
        if transcodes:
            unframed = unframed.unshifted()
        subtracts = not transcodes and torch.equal(unframed.before, unframed.bias)
        if not subtracts:
            unframed = unframed.unshifted()
        if unframed.skip is not None and unframed.rows != "none":
            raise ConfigError(
                "SAELens passes a vector on by the skip matrix as it is, and this dictionary as "
                f"its rule {unframed.rows} makes it; keep it in our own format"
            )
        settings = _settings(unframed, dictionary, transcodes=transcodes, subtracts=subtracts)
        with writing(path):
            tensors.write_durably(path / _WEIGHTS, tensors.serialise(_weights(unframed)))
            write_json(path / _SETTINGS, settings)


def _unframed(settings: Settings, weights: Weights) -> Unframed:
    architecture = settings.text("architecture", "standard")
    if architecture not in _KINDS:
        raise ConfigError(
            f"{settings.path}: architecture {architecture!r} is none of {', '.join(_KINDS)}"
        )
    _refuse_scaling_factor(weights)
    encoder = weights.matrix("W_enc")
    read, width = encoder.shape
    transcodes = is_transcoder(settings)
    explained = weights.matrix("W_dec").shape[1] if transcodes else read
    decoder = weights.take("W_dec", width, explained)
    bias = weights.take("b_dec", explained)
    for key, size in (("d_in", read), ("d_sae", width)):
        if settings.count(key, size) != size:
            raise ConfigError(
                f"{settings.path}: {key!r} is {settings.values[key]}, and by W_enc of "
                f"{weights.path} it is {size}; the two files do not belong together"
            )
    subtracts = not transcodes and settings.flag("apply_b_dec_to_input", default=True)
    rows = rows_of(settings)
    skip = weights.take("W_skip", explained, read).T if "W_skip" in weights else None
    if skip is not None and rows != "none":
        raise ConfigError(
            f"{settings.path}: a skip matrix beside normalize_activations {rows!r} is not "
            "supported; fold the normalisation in with SAELens"
        )
    before = bias if subtracts else torch.zeros(read)
    unframed = Unframed(
        encoder=_encoder(architecture, settings, weights),
        before=before,
        decoder=decoder,
        bias=bias,
        skip=None if skip is None else skip.contiguous(),
        rows=rows,
        restored=rows != "none" and not transcodes,
    )
    if settings.flag("rescale_acts_by_decoder_norm", default=False):
        return _normalised(unframed)
    return unframed


def _encoder(architecture: str, settings: Settings, weights: Weights) -> Linear:
    weight = weights.matrix("W_enc")
    width = weight.shape[1]
    if architecture == "gated":
        biases = (weights.take(key, width) for key in ("b_gate", "r_mag", "b_mag"))
        return GatedEncoder(weight, *biases)
    bias = weights.take("b_enc", width)
    if architecture == "topk":
        k = settings.count("k")
        if not 1 <= k <= width:
            raise ConfigError(f"{settings.path}: k is {k}, of {width} latents; mend it")
        return TopKEncoder(weight, bias, k)
    if architecture in _JUMPING:
        return jumprelu(weight, bias, _threshold(weights, width))
    return ReLUEncoder(weight, bias)


def _threshold(weights: Weights, width: int) -> Tensor:
    if "topk_threshold" in weights:
        return weights.take("topk_threshold").expand(width).clone()
    if "log_threshold" in weights:
        return weights.take("log_threshold", width).exp()
    return weights.take("threshold", width)


def _normalised(unframed: Unframed) -> Unframed:
    """Fold the norms by which latents are ranked into the encoder, and out of the decoder.

    A threshold is already in those units.
    """
    norms = unframed.decoder.norm(dim=1)
    encoder = unframed.encoder
    assert isinstance(encoder, TopKEncoder | JumpReLUEncoder)
    return replace(
        unframed,
        encoder=replace(encoder, weight=encoder.weight * norms, bias=encoder.bias * norms),
        # A direction of length zero explains nothing, however long it is made.
        decoder=unframed.decoder / norms.clamp_min(torch.finfo(norms.dtype).tiny)[:, None],
    )


def _refuse_scaling_factor(weights: Weights) -> None:
    # Early versions saved it, unused, as ones.
    if "scaling_factor" in weights and not (weights.any("scaling_factor") == 1).all():
        raise ConfigError(
            f"{weights.path}: a scaling_factor other than one, from fine-tuning, is not "
            "supported; load it with SAELens and save it again"
        )


def _settings(
    unframed: Unframed, dictionary: Dictionary, *, transcodes: bool, subtracts: bool
) -> dict[str, Any]:
    encoder, look = unframed.encoder, dictionary.look
    target = unframed.decoder.shape[1]
    norm = next(name for name, rows in ROWS.items() if rows == unframed.rows)
    hook_in, hook_out = (hook_of(one[0]) or one[0] for one in (look.reads, look.writes))
    metadata = {"sae_lens_version": _WRITTEN, "hook_name": hook_in}
    own: dict[str, Any] = {"architecture": _architecture(unframed, transcodes=transcodes)}
    if transcodes:
        own["d_out"], metadata["hook_name_out"] = target, hook_out
    if isinstance(encoder, TopKEncoder):
        own |= {"k": encoder.k, "rescale_acts_by_decoder_norm": False}
    return own | {
        "d_in": unframed.before.numel(),
        "d_sae": encoder.width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": subtracts,
        "normalize_activations": norm,
        "reshape_activations": "none",
        "metadata": metadata,
    }


def _architecture(unframed: Unframed, *, transcodes: bool) -> str:
    skip = "skip_" if unframed.skip is not None else ""
    match unframed.encoder, transcodes:
        case ReLUEncoder(), _:
            return f"{skip}transcoder" if transcodes else "standard"
        case JumpReLUEncoder(), _:
            return f"jumprelu_{skip}transcoder" if transcodes else "jumprelu"
        case TopKEncoder(), False:
            return "topk"
        case GatedEncoder(), False:
            return "gated"
        case encoder, _:
            raise ConfigError(
                f"SAELens has no {encoder.kind} transcoder; write it as sparsify if it is TopK, or "
                "keep it in our own format"
            )


def _weights(unframed: Unframed) -> dict[str, Tensor]:
    encoder = unframed.encoder
    found = {"W_enc": encoder.weight, "W_dec": unframed.decoder, "b_dec": unframed.bias}
    if unframed.skip is not None:
        found["W_skip"] = unframed.skip.T
    match encoder:
        case GatedEncoder():
            return found | {
                "b_gate": encoder.gate_bias,
                "r_mag": encoder.log_gain,
                "b_mag": encoder.magnitude_bias,
            }
        case JumpReLUEncoder():
            return found | {"b_enc": encoder.bias, "threshold": encoder.threshold}
        case _:
            return found | {"b_enc": encoder.bias}
