"""A model of tokens whose layers were taken apart: fitted, judged, explained and edited."""

import torch
from torch import Tensor, nn

from mad.capture.model import MonitoredModel
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.importance import ScalarImportance
from mad.components.parameters.layers import matrix_layer, matrix_of
from mad.components.parameters.subcomponents import Subcomponents
from mad.fit import FitPlan, fit
from mad.monitor import Monitor
from tests.worlds import CREATED, Rows, quiet

TOKENS, PLACES = 9, 4
NEVER = 8
"""The token that trusted inputs never have."""


class Counts(nn.Module):
    """Embeds tokens at four places, and adds up what a layer makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(TOKENS, 6)
        self.mix = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mix(self.embed(x))
        return mixed.relu().sum(dim=1)


def always_needed_where_used(count: int) -> ScalarImportance:
    """Return importance that exceeds 0.1 from an inner activation of about 0.1 on."""
    w_in = torch.tensor([[100.0, -100.0]]).expand(count, 2).clone()
    return ScalarImportance(
        w_in, torch.zeros(count, 2), torch.full((count, 2), 0.01), torch.zeros(count)
    )


def world() -> tuple[MonitoredModel, ParameterDecomposition]:
    """Return the model, taken apart into tokens, and into the singular vectors of the layer."""
    generator = torch.Generator().manual_seed(0)
    module = Counts()
    for weight in module.parameters():
        weight.data = torch.randn(weight.shape, generator=generator)
    model = MonitoredModel.of(module, name="counts", inputs=["x"])
    embed, mix = (matrix_layer(module, name) for name in ("embed", "mix"))
    left, sizes, right = torch.linalg.svd(matrix_of(module, mix), full_matrices=False)
    parts = [
        Subcomponents(
            embed, torch.eye(TOKENS), matrix_of(module, embed), always_needed_where_used(TOKENS)
        ),
        Subcomponents(mix, left, sizes.unsqueeze(1) * right, always_needed_where_used(3)),
    ]
    return model, ParameterDecomposition.of(module, parts)


def test_a_token_never_seen_is_found_and_named() -> None:
    model, decomposition = world()
    generator = torch.Generator().manual_seed(1)
    trusted = Rows(torch.randint(NEVER, (400, PLACES), generator=generator))
    plan = FitPlan(name="counts", false_alarm_rate=0.05)
    baseline = fit(model, decomposition, trusted, plan, created=CREATED, progress=quiet)
    monitor = Monitor.bind(model, decomposition, baseline).steadied(most=8)
    odd = trusted.x[:3].clone()
    odd[:, 1] = NEVER
    judged = monitor.judge({"x": odd})
    assert all(verdict.is_alert for verdict in judged.verdicts)
    verdict, explanation = monitor.explain({"x": odd[:1]}, max_charges=20)
    assert verdict == judged.verdicts[0]
    charges = [one for one in explanation.charges if (one.site, one.term) == ("embed", "set")]
    assert charges[0].index == NEVER
    # A token in one place of four: a quarter of its embedding is missing without it.
    share = float(model.module.get_parameter("embed.weight")[NEVER].detach().norm()) / PLACES
    assert abs(charges[0].magnitude - share) < 1e-5
    found = monitor.counterfactuals({"x": odd[:1]}, explanation)
    removed = {one.site: one.removed for one in found if one.what == "components"}
    assert removed == {"embed": (NEVER,)}


def test_effects_are_of_what_is_written_also_where_tokens_go_in() -> None:
    model, decomposition = world()
    generator = torch.Generator().manual_seed(1)
    trusted = Rows(torch.randint(NEVER, (400, PLACES), generator=generator))
    plan = FitPlan(name="counts", false_alarm_rate=0.05, activity="effect")
    baseline = fit(model, decomposition, trusted, plan, created=CREATED, progress=quiet)
    judged = Monitor.bind(model, decomposition, baseline).judge({"x": trusted.x[:5]})
    assert len(judged.verdicts) == 5
    assert all(verdict.active_components > 0 for verdict in judged.verdicts)
