"""Training by the answer: what matters to it is kept, and the model is left as it was."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mad.capture.edit import run_edited
from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel, fingerprint
from mad.capture.splice import spliced
from mad.components.base import Decomposition
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.train import train
from mad.errors import ConfigError
from mad.fit.end_to_end import EndToEndPlan, train_end_to_end
from mad.types import Inputs, Site

QUIET, LOUD, LABELS, INPUTS = 8, 24, 4, 2_048
ROWS = torch.arange(INPUTS)
HIDDEN = Look.at("turn", "flatten")
PLAN = DictionaryPlan(width=64, k=6, steps=150, batch_size=256)


class Table:
    """Inputs in memory."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Tensor) -> Inputs:
        return {"x": self.x[rows]}


class Answers(nn.Module):
    """Turns inputs, and answers by the few directions of little variance among many of much."""

    def __init__(self) -> None:
        super().__init__()
        coordinates = QUIET + LOUD
        self.turn = nn.Linear(coordinates, coordinates, bias=False)
        self.within = nn.Linear(coordinates, 32)
        self.act = nn.ReLU(inplace=True)
        self.out = nn.Linear(32, LABELS)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.out(self.act(self.within(self.turn(x))))
        return answer


def trusted() -> Table:
    generator = torch.Generator().manual_seed(0)
    quiet = torch.randn(INPUTS, QUIET, generator=generator)
    return Table(torch.cat([quiet, 5 * torch.randn(INPUTS, LOUD, generator=generator)], dim=1))


TABLE = trusted()


@pytest.fixture(scope="module")
def model() -> MonitoredModel:
    """Train the model to tell which of four sums of the quiet coordinates is the largest."""
    generator = torch.Generator().manual_seed(1)
    labels = (TABLE.x[:, :QUIET] @ torch.randn(QUIET, LABELS, generator=generator)).argmax(dim=1)
    torch.manual_seed(0)
    module = Answers()
    nn.init.orthogonal_(module.turn.weight)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(300):
        rows = torch.randint(INPUTS, (256,), generator=generator)
        loss = functional.cross_entropy(module(TABLE.x[rows]), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    assert (module(TABLE.x).argmax(dim=1) == labels).float().mean() > 0.9
    return MonitoredModel.of(module, name="m", inputs=["x"])


def silent(stage: str, *, done: int, total: int, note: str = "") -> None:
    """Report nothing."""


def end_to_end(model: MonitoredModel, plan: EndToEndPlan, look: Look = HIDDEN) -> Dictionary:
    return train_end_to_end(model, look, TABLE, plan, rows=ROWS, progress=silent)


def local(model: MonitoredModel, plan: DictionaryPlan = PLAN) -> Dictionary:
    vectors = capture(model, ["turn"], TABLE.take(ROWS)).activations["turn"]
    return train(HIDDEN, Examples.own(vectors), plan, step_done=lambda *_: None)


@pytest.fixture(scope="module")
def by_answer(model: MonitoredModel) -> Dictionary:
    return end_to_end(model, EndToEndPlan(dictionary=PLAN))


@pytest.fixture(scope="module")
def by_vectors(model: MonitoredModel) -> Dictionary:
    return local(model)


def divergence(model: MonitoredModel, decomposition: Decomposition) -> float:
    """Return what the answer loses, by a run of the model without the residual."""
    inputs = TABLE.take(ROWS)
    run = capture(model, decomposition.sites, inputs)
    activity = decomposition.activity(run.activations)
    edits = {
        decomposition.views[view]: lambda given, own=own: given - own.residual
        for view, own in activity.items()
    }
    after = run_edited(model, edits, inputs)["output"].log_softmax(dim=1)
    before = run.outputs["output"].log_softmax(dim=1)
    return float((before.exp() * (before - after)).sum(dim=1).mean())


def missed(model: MonitoredModel, dictionary: Dictionary, sites: Sequence[Site]) -> float:
    """Return the share of variance that later sites lose without the residual."""
    inputs = TABLE.take(ROWS)
    before = capture(model, ["turn", *sites], inputs).activations
    residual = dictionary.activity(before)["turn"].residual
    after: dict[Site, Tensor] = {}
    keep = {site: lambda given, site=site: after.setdefault(site, given.clone()) for site in sites}
    run_edited(model, {"turn": lambda given: given - residual, **keep}, inputs)
    shares = [
        (after[site] - before[site]).square().sum()
        / (before[site] - before[site].mean(dim=0)).square().sum()
        for site in sites
    ]
    return float(torch.stack(shares).mean())


def test_the_answer_survives_better_than_with_a_local_training_of_as_many_steps(
    model: MonitoredModel, by_answer: Dictionary, by_vectors: Dictionary
) -> None:
    assert divergence(model, by_answer) < 0.5 * divergence(model, by_vectors)


def test_another_kind_learns_from_the_answer_too(model: MonitoredModel) -> None:
    plan = DictionaryPlan(kind="gated", width=64, k=6, steps=150, batch_size=256)
    found = divergence(model, end_to_end(model, EndToEndPlan(dictionary=plan)))
    assert found < 0.7 * divergence(model, local(model, plan))


def test_the_model_is_left_as_it_was(model: MonitoredModel) -> None:
    before = fingerprint(model.module)
    few = DictionaryPlan(width=16, k=2, steps=5, batch_size=64, skip=True)
    end_to_end(model, EndToEndPlan(dictionary=few, downstream=("within", "out"), local_weight=0.1))
    assert fingerprint(model.module) == before
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    parts = list(model.module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in parts)
    assert torch.is_grad_enabled()


def test_the_gradient_is_that_of_the_model_behind_the_splice(model: MonitoredModel) -> None:
    """A step of the splice's own answer changes as a finite difference says."""
    stood_in = torch.zeros(3, QUIET + LOUD, requires_grad=True)
    inputs = TABLE.take(ROWS[:3])
    seen = spliced(model, {"turn": lambda given: 0 * given + stood_in}, inputs, sites=["within"])
    total = seen.outputs["output"].sum() + seen.activations["within"].square().sum()
    (slope,) = torch.autograd.grad(total, stood_in)
    module = model.module
    assert isinstance(module, Answers)
    hidden = stood_in @ module.within.weight.T + module.within.bias
    expected = torch.autograd.grad(
        (hidden.relu() @ module.out.weight.T).sum() + hidden.square().sum(), stood_in
    )[0]
    torch.testing.assert_close(slope, expected)


def test_downstream_reconstruction_keeps_more_of_later_sites(
    model: MonitoredModel, by_answer: Dictionary
) -> None:
    both = end_to_end(
        model, EndToEndPlan(dictionary=PLAN, downstream=("within",), downstream_weight=5.0)
    )
    assert missed(model, both, ["within"]) < missed(model, by_answer, ["within"])


def test_the_local_share_trains_on_the_activation_alone(
    model: MonitoredModel, by_vectors: Dictionary
) -> None:
    wholly = end_to_end(model, EndToEndPlan(dictionary=PLAN, local_share=1.0))
    assert divergence(model, wholly) == pytest.approx(divergence(model, by_vectors), rel=0.25)


def test_numbers_are_compared_by_their_squared_error(
    model: MonitoredModel, by_vectors: Dictionary
) -> None:
    found = end_to_end(model, EndToEndPlan(dictionary=PLAN, answer="numbers"))
    assert missed(model, found, ["out"]) < 0.5 * missed(model, by_vectors, ["out"])


def test_a_transcoder_is_trained_by_the_answer_with_a_skip(
    model: MonitoredModel, by_vectors: Dictionary
) -> None:
    """It reads what goes in, and stands in for what comes out; the layer is linear."""
    look = Look(("turn<",), ("turn",), "flatten")
    plan = DictionaryPlan(width=64, k=2, steps=150, batch_size=256, skip=True, learning_rate=1e-2)
    passed_on = end_to_end(model, EndToEndPlan(dictionary=plan), look)
    assert passed_on.sites == ("turn", "turn<")
    assert divergence(model, passed_on) < 0.5 * divergence(model, by_vectors)


def test_the_same_plan_gives_the_same_dictionary(model: MonitoredModel) -> None:
    plan = EndToEndPlan(dictionary=DictionaryPlan(width=16, k=2, steps=5, batch_size=64))
    assert end_to_end(model, plan).fingerprint == end_to_end(model, plan).fingerprint


def test_each_step_is_reported_with_what_was_lost(model: MonitoredModel) -> None:
    notes: list[str] = []

    def heard(stage: str, *, done: int, total: int, note: str = "") -> None:
        if stage == "training turn end to end":
            assert (done, total) == (len(notes) + 1, 5)
            notes.append(note)

    plan = EndToEndPlan(dictionary=DictionaryPlan(width=16, k=2, steps=5, batch_size=64))
    train_end_to_end(model, HIDDEN, TABLE, plan, rows=ROWS, progress=heard)
    assert len(notes) == 5
    assert all(note.startswith("answer lost ") for note in notes)


def test_a_site_that_the_answer_does_not_depend_on_is_refused() -> None:
    class Ignores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = nn.Linear(QUIET + LOUD, 4)
            self.used = nn.Linear(QUIET + LOUD, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.seen(x)
            used: Tensor = self.used(x)
            return used

    ignoring = MonitoredModel.of(Ignores(), name="m", inputs=["x"])
    plan = EndToEndPlan(dictionary=DictionaryPlan(width=8, k=2, steps=2))
    with pytest.raises(ConfigError, match="does not change when 'seen' is held at its mean"):
        end_to_end(ignoring, plan, Look.at("seen", "flatten"))


def test_an_answer_that_is_no_row_of_numbers_is_refused() -> None:
    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = nn.Linear(QUIET + LOUD, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.seen(x).sum()  # type: ignore[no-any-return]  # torch has no type for it

    plan = EndToEndPlan(dictionary=DictionaryPlan(width=8, k=2, steps=2))
    with pytest.raises(ConfigError, match="no row of numbers an input"):
        end_to_end(
            MonitoredModel.of(Nothing(), name="m", inputs=["x"]), plan, Look.at("seen", "flatten")
        )


def test_a_site_is_not_downstream_of_itself(model: MonitoredModel) -> None:
    with pytest.raises(ConfigError, match="site 'turn' is explained itself"):
        end_to_end(model, EndToEndPlan(dictionary=PLAN, downstream=("turn",)))
