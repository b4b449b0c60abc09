"""Gemma Scope: ``params.npz`` of a JumpReLU autoencoder, in directories named after where it is."""

import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
import torch

from mad import tensors
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.kinds.jumprelu import JumpReLUEncoder
from mad.components.formats.base import Place
from mad.components.formats.checkpoint import Weights, writing
from mad.components.formats.unframed import Unframed, jumprelu
from mad.errors import ConfigError

_WEIGHTS = "params.npz"
_PLACE = re.compile(r"gemma-scope-(\w+)-(?:pt|it)-(res|mlp|att)/layer_(\d+)/")
_HOOKS: Final = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}


@final
@dataclass(frozen=True)
class GemmaScope:
    """JumpReLU autoencoders and, where the operator names a site to read, transcoders."""

    def read(self, path: Path, place: Place) -> Dictionary:
        """Read a directory, or the file in it; where it belongs is in the path, as downloaded."""
        file = path if path.is_file() else path / _WEIGHTS
        weights = _weights(file)
        encoder = weights.matrix("W_enc")
        read, width = encoder.shape
        explained = weights.matrix("W_dec").shape[1] if place.reads else read
        unframed = Unframed(
            encoder=jumprelu(
                encoder, weights.take("b_enc", width), weights.take("threshold", width)
            ),
            before=torch.zeros(read),
            decoder=weights.take("W_dec", width, explained),
            bias=weights.take("b_dec", explained),
        )
        found = _PLACE.search(file.resolve().as_posix())
        hook = f"blocks.{found[3]}.{_HOOKS[found[2]]}" if found else ""
        model = f"gemma-2-{found[1]}" if found else ""
        look = place.look(file, hook, model, reads=place.reads or None)
        return unframed.dictionary(look)

    def write(self, dictionary: Dictionary, path: Path) -> None:
        """Write a directory."""
        unframed = Unframed.of(dictionary).unshifted()
        unframed.refuse_unless(rows=False, skip=False, name="gemma_scope")
        encoder = unframed.encoder
        if not isinstance(encoder, JumpReLUEncoder):
            raise ConfigError(
                f"gemma_scope knows JumpReLU dictionaries, and this one is {encoder.kind}; write "
                "it as saelens"
            )
        content = io.BytesIO()
        np.savez(
            content,
            W_enc=encoder.weight.numpy(),
            b_enc=encoder.bias.numpy(),
            threshold=encoder.threshold.numpy(),
            W_dec=unframed.decoder.numpy(),
            b_dec=unframed.bias.numpy(),
        )
        with writing(path):
            tensors.write_durably(path / _WEIGHTS, content.getvalue())


def _weights(file: Path) -> Weights:
    content = tensors.read_bytes(file)
    try:
        with np.load(io.BytesIO(content)) as arrays:
            found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as cause:
        raise ConfigError(
            f"{file} is not an archive of plain arrays ({cause}); download it again"
        ) from cause
    for name, tensor in found.items():
        if not tensor.isfinite().all():
            raise ConfigError(f"{file}: array {name!r} holds NaN or infinite numbers")
    return Weights(file, found)
