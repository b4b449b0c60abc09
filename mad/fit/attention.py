"""Train a gated attention block of one layer of the model, on activations as they are computed.

A model, a look and trusted inputs in, a block out. The look reads what goes into the layer
(``attention<``) and explains what comes out (``attention``).
"""

import torch
from jaxtyping import Int64

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.attention.block import AttentionBlock
from mad.components.dictionaries.attention.training import (
    CALIBRATED,
    AttentionPlan,
    AttentionTraining,
    SequencePairs,
)
from mad.components.dictionaries.look import Look
from mad.errors import ConfigError
from mad.fit.reading import batches, try_out
from mad.types import Dataset, Inputs, Progress


def train_attention(
    model: MonitoredModel,
    look: Look,
    data: Dataset,
    plan: AttentionPlan,
    *,
    rows: Int64[torch.Tensor, " fitting"],
    progress: Progress,
) -> AttentionBlock:
    """Train one block on some rows of trusted data, running the model once a step.

    The same plan and rows give the same block; no more than a batch of sequences, and a sample of
    1,024, is in memory.

    Raises:
        ConfigError: the model fails on the data, or a site cannot be read, is no sequence, or
            teaches nothing.
    """
    try_out(model, look.sites, data)
    generator = torch.Generator().manual_seed(plan.seed)
    few = rows[torch.randperm(len(rows), generator=generator)[:CALIBRATED]].sort().values
    parts = [
        _pairs(model, look, inputs)
        for _, inputs in batches(data, few, plan.batch_size, "capturing activations", progress)
    ]
    sample = SequencePairs(
        torch.cat([part.source for part in parts]), torch.cat([part.target for part in parts])
    )
    training = AttentionTraining.begin(look, sample, plan)
    for step in range(1, plan.steps + 1):
        drawn = torch.randperm(len(rows), generator=generator)[: plan.batch_size]
        found = training.step(_pairs(model, look, data.take(rows[drawn].sort().values)))
        note = f"unexplained variance {found.unexplained:.3f}, {found.active:.2f} heads a position"
        progress(f"training attention {look.view}", done=step, total=plan.steps, note=note)
    return training.finish(sample)


def _pairs(model: MonitoredModel, look: Look, inputs: Inputs) -> SequencePairs:
    activations = capture(model, look.sites, inputs).activations
    for site in look.sites:
        if activations[site].ndim != 3:  # noqa: PLR2004  # a sequence
            raise ConfigError(
                f"site {site!r} gives {tuple(activations[site].shape)}; an attention block reads "
                "and explains sequences, [batch, position, coordinate]: name what goes into an "
                "attention layer, such as 'attention<', and what comes out, such as 'attention'"
            )
    source, target = activations[look.reads[0]], activations[look.writes[0]]
    return SequencePairs(source.float(), target.float())
