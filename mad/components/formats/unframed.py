"""A dictionary without frames: the form in which other libraries keep theirs."""

from dataclasses import dataclass, replace
from typing import TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame, RowNorm
from mad.components.dictionaries.kinds.gated import GatedEncoder
from mad.components.dictionaries.kinds.jumprelu import JumpReLUEncoder
from mad.components.dictionaries.kinds.relu import ReLUEncoder
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.dictionaries.look import Look
from mad.errors import ConfigError

Linear: TypeAlias = TopKEncoder | ReLUEncoder | JumpReLUEncoder | GatedEncoder
"""Encoders that begin with one matrix: those that several libraries know."""


@final
@dataclass(frozen=True)
class Unframed:
    """``y = latents @ decoder + bias + r @ skip``; ``latents`` are of ``r - before``.

    ``r`` is what the rule ``rows`` makes of the vector; where the result is ``restored``, ``y`` is
    times the vector's factor, plus what the rule took away.
    """

    encoder: Linear
    before: Float[Tensor, " source"]
    decoder: Float[Tensor, "component target"]
    bias: Float[Tensor, " target"]
    skip: Float[Tensor, "source target"] | None = None
    rows: RowNorm = "none"
    restored: bool = False

    @staticmethod
    def of(dictionary: Dictionary) -> "Unframed":
        """Fold the frames into the weights; latents stay the same.

        Raises:
            ConfigError: the dictionary explains several sites, or its encoder is no ``Linear``.
        """
        encoder, source, target = dictionary.encoder, dictionary.source, dictionary.target
        if not isinstance(encoder, Linear):
            raise ConfigError(
                f"a dictionary of kind {encoder.kind!r} cannot be written for other libraries, "
                "which know ReLU, TopK, JumpReLU and gated ones; keep it in our own format"
            )
        if len(dictionary.look.writes) > 1 or len(dictionary.look.reads) > 1:
            raise ConfigError(
                f"a dictionary of several sites ({', '.join(dictionary.sites)}) cannot be written "
                "for other libraries; keep it in our own format"
            )
        skip, bias = None, target.centre
        if dictionary.skip is not None:
            skip = dictionary.skip * (target.scale / source.scale)
            bias = bias - source.centre @ skip
        return Unframed(
            encoder=replace(encoder, weight=encoder.weight / source.scale),
            before=source.centre,
            decoder=dictionary.decoder * target.scale,
            bias=bias,
            skip=skip,
            rows=source.rows,
            restored=target.rows != "none",
        )

    def dictionary(self, look: Look) -> Dictionary:
        """Put frames of scale one around the weights; arithmetic stays what it was."""
        # A scale of its own for each: files keep no tensor twice.
        source = Frame(self.before, torch.ones(()), self.rows)
        shift = self.bias if self.skip is None else self.bias + self.before @ self.skip
        target = Frame(shift, torch.ones(()), self.rows if self.restored else "none")
        is_one = look.is_own and target.rows == source.rows and torch.equal(self.before, shift)
        return Dictionary(
            look=look,
            encoder=self.encoder,
            decoder=self.decoder,
            source=source,
            target=source if is_one else target,
            widths=(self.decoder.shape[1],),
            skip=self.skip,
        )

    def rebased(self, before: Float[Tensor, " source"]) -> "Unframed":
        """Subtract another vector before the encoder; biases make up for it."""
        if torch.equal(before, self.before):
            return self
        gained = (before - self.before) @ self.encoder.weight
        match self.encoder:
            case GatedEncoder():
                encoder: Linear = replace(
                    self.encoder,
                    gate_bias=self.encoder.gate_bias + gained,
                    magnitude_bias=self.encoder.magnitude_bias
                    + gained * self.encoder.log_gain.exp(),
                )
            case _:
                encoder = replace(self.encoder, bias=self.encoder.bias + gained)
        return replace(self, encoder=encoder, before=before)

    def unshifted(self) -> "Unframed":
        """Subtract nothing before the encoder."""
        return self.rebased(torch.zeros_like(self.before))

    def scaled(self, factor: float) -> "Unframed":
        """Take vectors as they are where the weights were trained on ``factor`` times them.

        Law: latents are those of the scaled vectors, the reconstruction is divided by the factor.
        """
        return replace(
            self,
            encoder=replace(self.encoder, weight=self.encoder.weight * factor),
            before=self.before / factor,
            decoder=self.decoder / factor,
            bias=self.bias / factor,
        )

    def refuse_unless(self, *, rows: bool, skip: bool, name: str) -> None:
        """Raise ConfigError where a layout without row rules or skips would lose one."""
        if not rows and self.rows != "none":
            raise ConfigError(
                f"{name} cannot say that each vector is normalised by itself ({self.rows}); write "
                "it as saelens"
            )
        if not skip and self.skip is not None:
            raise ConfigError(
                f"{name} has no place for a skip matrix; write it as saelens or sparsify"
            )


def jumprelu(
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
    threshold: Float[Tensor, " component"],
) -> JumpReLUEncoder:
    """Return the encoder of libraries that rectify before the threshold.

    Below zero their threshold does nothing that rectifying has not done.
    """
    return JumpReLUEncoder(weight, bias, threshold.clamp_min(0.0))
