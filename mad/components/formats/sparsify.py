"""Sparsify: ``cfg.json`` and ``sae.safetensors`` in a directory named after the hook point."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from mad import tensors
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.formats.base import Place
from mad.components.formats.checkpoint import Settings, Weights, write_json, writing
from mad.components.formats.hooks import whole_path
from mad.components.formats.unframed import Unframed
from mad.errors import ConfigError

_SETTINGS, _WEIGHTS, _RUN = "cfg.json", "sae.safetensors", "config.json"


@final
@dataclass(frozen=True)
class Sparsify:
    """TopK autoencoders and transcoders, with a skip or without, whose two sites are as wide."""

    def read(self, path: Path, place: Place) -> Dictionary:
        """Read the directory of one hook point."""
        directory = path.parent if path.is_file() else path
        settings = Settings.read(directory / _SETTINGS)
        weights = Weights.read(directory / _WEIGHTS)
        transcodes = settings.flag("transcode", default=False)
        read = _unframed(settings, weights, subtracts=not transcodes)
        run = directory.parent / _RUN
        model = Settings.read(run).text("model", "") if run.is_file() else ""
        hook = whole_path(directory.resolve().name, model)
        # A transcoder explains a module by what goes into it.
        look = place.look(
            directory, hook, "", reads=f"{place.site or hook}<" if transcodes else None
        )
        return read.dictionary(look)

    def write(self, dictionary: Dictionary, path: Path) -> None:
        """Write the directory of one hook point."""
        unframed, transcodes = Unframed.of(dictionary), not dictionary.look.is_own
        unframed.refuse_unless(rows=False, skip=True, name="sparsify")
        encoder = unframed.encoder
        if not isinstance(encoder, TopKEncoder):
            raise ConfigError(
                f"sparsify knows TopK dictionaries, and this one is {encoder.kind}; write it as "
                "saelens or dictionary_learning"
            )
        read, explained = unframed.before.numel(), unframed.bias.numel()
        if read != explained:
            raise ConfigError(
                f"sparsify knows transcoders between sites of one width, and this one reads {read} "
                f"coordinates to explain {explained}; keep it in our own format"
            )
        unframed = unframed.unshifted() if transcodes else unframed.rebased(unframed.bias)
        with writing(path):
            tensors.write_durably(path / _WEIGHTS, tensors.serialise(_weights(unframed)))
            write_json(path / _SETTINGS, _settings(unframed, encoder, transcodes=transcodes))


def _unframed(settings: Settings, weights: Weights, *, subtracts: bool) -> Unframed:
    encoder = _encoder_weight(weights)
    read, width = encoder.shape
    if settings.count("d_in", read) != read:
        raise ConfigError(
            f"{settings.path}: 'd_in' is {settings.values['d_in']}, and by the encoder of "
            f"{weights.path} it is {read}; the two files do not belong together"
        )
    bias = _first(weights, ("b_dec", "decoder.bias"), read)
    skip = weights.take("W_skip", read, read).T.contiguous() if "W_skip" in weights else None
    return Unframed(
        encoder=TopKEncoder(
            encoder, _first(weights, ("encoder.bias", "b_enc"), width), _k(settings, width)
        ),
        before=bias if subtracts else torch.zeros(read),
        decoder=_decoder(weights, width, read),
        bias=bias,
        skip=skip,
    )


def _k(settings: Settings, width: int) -> int:
    activation = settings.text("activation", "topk")
    if activation != "topk" or settings.flag("signed", default=False):
        kind = "signed" if activation == "topk" else activation
        raise ConfigError(
            f"{settings.path}: a {kind} dictionary lets latents be active by another rule than "
            "TopK, which is not supported; train it with activation topk"
        )
    k = settings.count("k")
    if not 1 <= k <= width:
        raise ConfigError(f"{settings.path}: k is {k}, of {width} latents; mend it")
    return k


def _encoder_weight(weights: Weights) -> Tensor:
    if "encoder.weight" in weights:
        return weights.matrix("encoder.weight").T.contiguous()
    return weights.matrix("W_enc")


def _decoder(weights: Weights, width: int, read: int) -> Tensor:
    if "W_dec" in weights:
        return weights.take("W_dec", width, read)
    return weights.take("decoder.weight", read, width).T.contiguous()


def _first(weights: Weights, keys: tuple[str, ...], size: int) -> Tensor:
    """Return the tensor that one of several versions wrote; early ones had no such bias."""
    return next((weights.take(key, size) for key in keys if key in weights), torch.zeros(size))


def _weights(unframed: Unframed) -> dict[str, Tensor]:
    encoder = unframed.encoder
    assert isinstance(encoder, TopKEncoder)
    skip = {} if unframed.skip is None else {"W_skip": unframed.skip.T}
    return skip | {
        "encoder.weight": encoder.weight.T,
        "encoder.bias": encoder.bias,
        "W_dec": unframed.decoder,
        "b_dec": unframed.bias,
    }


def _settings(unframed: Unframed, encoder: TopKEncoder, *, transcodes: bool) -> dict[str, object]:
    return {
        "activation": "topk",
        "expansion_factor": max(1, encoder.width // unframed.bias.numel()),
        "normalize_decoder": False,
        "num_latents": encoder.width,
        "k": encoder.k,
        "multi_topk": False,
        "skip_connection": unframed.skip is not None,
        "transcode": transcodes,
        "d_in": unframed.before.numel(),
    }
