"""Effects of nodes on a model's answers: estimated by gradients, and measured by running again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from mad.capture.edit import run_edited
from mad.capture.gradients import slopes
from mad.capture.hooks import Outputs
from mad.capture.model import MonitoredModel
from mad.effects.answer import Answer, answered, predicted
from mad.effects.attention import Attention, attended
from mad.effects.base import Changes, Nodes, References
from mad.types import Activations, Inputs, Site, batch_size

Method: TypeAlias = Literal["gradient", "query_key", "drop", "star"]
"""Attribution patching (AtP), with the query-key fix, with GradDrop, and with both: AtP*."""

METHODS: tuple[Method, ...] = ("gradient", "query_key", "drop", "star")


@final
@dataclass(frozen=True)
class Where:
    """What of a model helps estimates, and the number that effects are on.

    ``attentions`` are for the query-key fix. ``branches`` are sites whose outputs are added to a
    residual stream, such as attention layers and perceptrons, for GradDrop.
    """

    attentions: tuple[Attention, ...] = ()
    branches: tuple[Site, ...] = ()
    answer: Answer = "score"


@final
@dataclass(frozen=True)
class Experiment:
    """Some inputs of a model, and changes whose effects on its answers are asked for.

    An effect is the answer with the change less the answer without, of the label that the model
    predicts without (Kramar, Lieberum, Shah and Nanda 2024, arXiv 2403.00745, equation 1).
    """

    model: MonitoredModel
    inputs: Inputs
    changes: tuple[Changes, ...]
    label: Int64[Tensor, " batch"]
    gradients: Activations
    dropped: tuple[Activations, ...]
    where: Where = field(default_factory=Where)

    @staticmethod
    def of(
        model: MonitoredModel,
        nodes: Sequence[Nodes],
        inputs: Inputs,
        *,
        reference: References | None,
        where: Where,
    ) -> "Experiment":
        """Run the model forward once, and backward once and once more a branch.

        The reference is what ``sites_of`` give for what stands in the place of a node; None is
        zero.

        Raises:
            ConfigError: the answer cannot be differentiated, or is no row of numbers an input; or
                nodes or attentions are not what the sites give.
        """
        batch = batch_size(inputs)

        def answer(outputs: Outputs) -> Float[Tensor, " batch"]:
            label = predicted(outputs, batch=batch)
            return answered(outputs, label, answer=where.answer)

        wanted = [site for some in nodes for site in some.differentiated]
        wanted += [attention.slope_site for attention in where.attentions]
        seen = slopes(
            model,
            tuple(dict.fromkeys(wanted)),
            inputs,
            of=answer,
            also_keep=tuple(site for site in sites_of(nodes, where) if site not in wanted),
            branches=where.branches,
        )
        changes = [
            attended(one, where.attentions, seen.activations)
            for some in nodes
            for one in some.changes(seen.activations, reference)
        ]
        label = predicted(seen.outputs, batch=batch)
        return Experiment(model, inputs, tuple(changes), label, seen.gradients, seen.dropped, where)

    def estimates(self, method: Method) -> tuple[Float64[Tensor, " _"], ...]:
        """Estimate the effect of each change of each pair.

        With GradDrop an effect has no sign: it is the mean of absolute estimates over the passes in
        which the answer has a slope at the node. In the pass that drops a node's own branch it has
        none, which is why the paper divides by the number of branches less one.
        """
        fix = method in ("query_key", "star")
        if method in ("gradient", "query_key"):
            return tuple(one.estimates(self.gradients, through_softmax=fix) for one in self.changes)
        return tuple(self._dropped(one, fix=fix) for one in self.changes)

    def ablations(
        self, *, chosen: Sequence[Int64[Tensor, " _"]], at_once: int = 64
    ) -> Iterator[Float64[Tensor, " _"]]:
        """Measure the effects of some pairs of each change: one run of the model each.

        ``at_once`` pairs make the batch of one run.
        """
        with torch.no_grad():
            clean = self._answers(run_edited(self.model, {}, self.inputs), self.label)
        for one, pairs in zip(self.changes, chosen, strict=True):
            found = [torch.zeros(0, dtype=torch.float64)]
            for piece in pairs.split(at_once) if len(pairs) else ():
                rows = one.rows[piece]
                found.append(self._changed(one, piece) - clean[rows])
            yield torch.cat(found)

    def _changed(
        self, change: Changes, pairs: Int64[Tensor, " chosen"]
    ) -> Float64[Tensor, " chosen"]:
        rows = change.rows[pairs]
        with torch.no_grad():
            added = change.added(pairs)
        copies = {name: value[rows] for name, value in self.inputs.items()}
        outputs = run_edited(self.model, {change.site: lambda own: own + added.to(own)}, copies)
        return self._answers(outputs, self.label[rows])

    def _answers(
        self, outputs: Outputs, label: Int64[Tensor, " chosen"]
    ) -> Float64[Tensor, " chosen"]:
        return answered(outputs, label, answer=self.where.answer).double()

    def _dropped(self, change: Changes, *, fix: bool) -> Float64[Tensor, " pair"]:
        passes = self.dropped or (self.gradients,)
        total = torch.zeros(len(change.rows), dtype=torch.float64)
        arrived = torch.zeros(len(change.rows), dtype=torch.float64)
        for gradients in passes:
            total += change.estimates(gradients, through_softmax=fix).abs()
            arrived += _arrives(gradients[change.slope_site])[change.rows]
        return total / arrived.clamp_min(1)


def sites_of(nodes: Sequence[Nodes], where: Where) -> tuple[Site, ...]:
    """Return the sites whose activations some nodes, and the query-key fix, need."""
    of_nodes = [site for some in nodes for site in some.sites]
    of_attentions = [site for attention in where.attentions for site in attention.sites]
    return tuple(dict.fromkeys(of_nodes + of_attentions))


def _arrives(gradient: Float[Tensor, "batch ..."]) -> Bool[Tensor, " batch"]:
    return (gradient.reshape(len(gradient), -1) != 0).any(dim=1)
