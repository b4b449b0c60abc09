"""A dictionary over the decoder directions of another: what its latents have in common.

A latent for "Einstein" may be a sum of those for science, German and fame (Bussmann, Pearce and
Leask 2024): where a wide dictionary has split features, sets of meta-latents say again what is
shared. Trained afterwards (``meta_dictionary``), or jointly (``meta_of`` a ``MetaLearner``).
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mad.components.dictionaries.base import Encoder
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.initial import initial
from mad.components.dictionaries.kinds.meta import MetaEncoder, MetaLearner, normalised_directions
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.dictionaries.latents import Latents
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.train import CALIBRATED, StepDone, train

_PIECE = 1_024


def meta_dictionary(base: Dictionary, plan: DictionaryPlan, *, step_done: StepDone) -> Dictionary:
    """Train a dictionary of the plan's kind on the directions of another, and look through both.

    It reads and explains what the base does, as a view whose suffix ends in ``meta``; the base's
    own linear ``skip`` stays. Directions have unit length in training. Of a plan, ``width`` and
    ``k`` count meta-latents, and of one direction.

    Raises:
        ConfigError: when the plan cannot be trained.
    """
    directions = Examples.own(normalised_directions(base.decoder))
    coordinates = base.decoder.shape[1]
    # From a start with this frame: a centre would be a part of every direction, yet no latent.
    frame = Frame.identity(coordinates)
    look = Look.at("directions", "flatten")
    first = initial(directions, plan)
    start = Dictionary(
        look=look,
        encoder=TopKEncoder(first.encoder, first.bias, min(plan.k, plan.width)),
        decoder=first.decoder,
        source=frame,
        target=frame,
        widths=(coordinates,),
    )
    own = replace(plan, skip=False)
    found = train(look, directions, own, step_done=step_done, start=start)
    return through(base, found.encoder, found.decoder)


def meta_of(learner: MetaLearner, base: Dictionary) -> Dictionary:
    """Return the meta-dictionary that was trained jointly with a base."""
    directions = Examples.own(normalised_directions(base.decoder))
    learned = learner.meta.finish(directions.first(CALIBRATED))
    return through(base, learned.encoder, learned.decoder)


def through(
    base: Dictionary, encoder: Encoder, decoder: Float[Tensor, "meta target"]
) -> Dictionary:
    """Return the base looked at through a dictionary of its ``normalised_directions``.

    Law: what a vector's base latents add up to differs from what its meta-latents add up to by what
    the meta-dictionary misses of the directions.
    """
    lengths = base.decoder.norm(dim=1) / base.decoder.shape[1] ** 0.5
    pieces = [encoder.encode(piece) for piece in normalised_directions(base.decoder).split(_PIECE)]
    counts = torch.cat([piece.offsets.diff() for piece in pieces])
    components = torch.cat([piece.components for piece in pieces])
    shares = torch.cat([piece.values for piece in pieces]) * lengths.repeat_interleave(counts)
    codes = MetaEncoder(
        base.encoder,
        torch.cat([counts.new_zeros(1), counts.cumsum(dim=0)]),
        components,
        shares,
        meta_width=decoder.shape[0],
    )
    return replace(base, look=meta_look(base.look), encoder=codes, decoder=decoder)


def meta_look(look: Look) -> Look:
    """Return the look of the meta-dictionary beside a base of this look."""
    return replace(look, suffix=f"{look.suffix}_meta".removeprefix("_"))


def undecomposed(base: Dictionary, meta: Dictionary) -> float:
    """Return the share of the squares of the base's unit directions that a meta one misses."""
    codes = meta.encoder
    assert isinstance(codes, MetaEncoder), f"{codes.kind} is no dictionary over another"
    rebuilt = Latents(codes.offsets, codes.components, codes.shares).explained(meta.decoder)
    lengths = base.decoder.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rebuilt.dtype).tiny)
    return float(((base.decoder - rebuilt) / lengths).square().sum(dim=1).mean())
