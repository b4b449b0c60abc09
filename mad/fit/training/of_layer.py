"""Dictionaries of whole layers: attention blocks, of sequences, and bilinear ones, of weights."""

from typing import assert_never

import torch

from mad.capture.sites import Address
from mad.components.dictionaries.attention.block import AttentionBlock
from mad.components.dictionaries.attention.training import CALIBRATED, AttentionPlan
from mad.components.dictionaries.bilinear import BilinearPlan, bilinear_dictionary, bilinear_of
from mad.components.dictionaries.files import Stored
from mad.components.dictionaries.plan import DictionaryFigures
from mad.errors import ConfigError
from mad.fit.attention import train_attention
from mad.fit.training.order import READ
from mad.fit.training.source import ModelSource, Source
from mad.fit.training.wanted import Job
from mad.types import Progress


def take_apart(job: Job, source: Source, *, progress: Progress) -> Stored:
    """Make the dictionary of one layer of the model.

    Raises:
        ConfigError: activations come from files, beside which there is no model; or the layer
            cannot be taken apart, as ``train_attention`` and ``bilinear_of`` say.
    """
    if not isinstance(source, ModelSource):
        raise ConfigError(
            f"dictionary {job.look.view!r} is of a layer of the model, of which files say too "
            "little: leave decomposition.activations out"
        )
    match job.layer:
        case AttentionPlan() as plan:
            return train_attention(
                source.model, job.look, source.data, plan, rows=source.rows, progress=progress
            )
        case BilinearPlan() as plan:
            module = source.model.module.get_submodule(Address.parse(job.look.writes[0]).module)
            weights = bilinear_of(module, left=plan.left, right=plan.right, out=plan.out)
            return bilinear_dictionary(weights, look=job.look, k=plan.k, rank=plan.rank)
        case None:
            raise AssertionError("a job of no layer")
        case never:
            assert_never(never)


def block_figures(block: AttentionBlock, source: Source) -> DictionaryFigures:
    """Measure an attention block on at most 1,024 inputs, evenly spaced."""
    few = torch.linspace(0, len(source) - 1, CALIBRATED, dtype=torch.float64).long().unique()
    found = [block.activity(source.read(piece)[0])[block.view] for piece in few.split(READ)]
    written = torch.cat([one.activation for one in found]).double()
    left = sum(float(one.residual.double().square().sum()) for one in found)
    active = torch.cat([one.components for one in found])
    return DictionaryFigures(
        view=block.view,
        unexplained_variance=left / float((written - written.mean(dim=0)).square().sum()),
        active_latents=len(active) / len(few),
        dead_share=1 - len(active.unique()) / block.width,
    )
