"""The loss that a model recovers with a dictionary, against direct calculation."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mad.arrays import Table
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.look import Look
from mad.errors import ConfigError
from mad.report.dictionary import Asked
from tests.unit.examined import COUNT, LABELS, WIDTH, WORLD, World, dictionary, rotation, silent


def test_the_dictionary_that_says_the_mean_recovers_nothing_of_mean_ablation() -> None:
    fitting = WORLD.x[torch.arange(COUNT) % 3 > 0]
    (one,) = WORLD.report(silent(fitting.mean(dim=0))).dictionaries
    assert one.splice is not None
    assert one.splice.averaged.loss_bits > 0.1
    assert one.splice.recovered_from_mean == pytest.approx(0, abs=1e-5)
    assert one.use.dead_share == 1
    # Of the held-out mean, which is not the fitting one, a little more is left than all.
    assert one.reconstruction.unexplained_variance == pytest.approx(1, abs=0.05)


def test_spliced_losses_are_those_of_direct_calculation() -> None:
    generator = torch.Generator().manual_seed(5)
    truth = torch.randint(LABELS, (COUNT,), generator=generator)
    asked = Asked(labels=Table({"label": truth}))
    (found,) = WORLD.report(dictionary(k=1), asked).dictionaries
    x, hidden = WORLD.held_out, rotation(0)
    strength, chosen = (x @ hidden.T).max(dim=1)
    own = truth[torch.arange(COUNT) % 3 == 0]
    mean = WORLD.x[torch.arange(COUNT) % 3 > 0].mean(dim=0)
    standing = {
        "clean": x,
        "spliced": strength.unsqueeze(1) * hidden[chosen],
        "zero": torch.zeros_like(x),
        "mean": mean.expand_as(x),
    }
    answers = {name: WORLD.answers(one) for name, one in standing.items()}
    bits = {
        name: float(functional.cross_entropy(one, own)) / math.log(2)
        for name, one in answers.items()
    }
    same = (answers["spliced"].argmax(dim=1) == answers["clean"].argmax(dim=1)).double().mean()
    splice = found.splice
    assert splice is not None
    assert splice.loss == "cross-entropy"
    assert splice.clean_bits == pytest.approx(bits["clean"], rel=1e-5)
    assert splice.reconstructed.loss_bits == pytest.approx(bits["spliced"], rel=1e-5)
    assert splice.zeroed.loss_bits == pytest.approx(bits["zero"], rel=1e-5)
    assert splice.averaged.loss_bits == pytest.approx(bits["mean"], rel=1e-5)
    assert splice.reconstructed.agreement == pytest.approx(float(same))


def test_without_labels_the_loss_is_the_divergence_from_the_models_own_answer() -> None:
    (found,) = WORLD.report(dictionary(k=1)).dictionaries
    own = WORLD.answers(WORLD.held_out).log_softmax(dim=1)
    zero = WORLD.answers(torch.zeros_like(WORLD.held_out)).log_softmax(dim=1)
    nats = functional.kl_div(zero, own, log_target=True, reduction="batchmean")
    assert found.splice is not None
    assert found.splice.loss == "divergence"
    assert found.splice.zeroed.loss_bits == pytest.approx(float(nats) / math.log(2), rel=1e-5)


def test_a_transcoder_is_spliced_where_it_writes() -> None:
    with torch.no_grad():
        layer = WORLD.model.module[1]  # type: ignore[index]  # a Sequential
        outcome = rotation(0) @ layer.weight.T
        target = Frame(layer.bias.clone(), torch.tensor(1.0))
    one = replace(dictionary(), look=Look(("0",), ("1",), "auto"), decoder=outcome, target=target)
    (found,) = WORLD.report(one).dictionaries
    assert (found.reads, found.writes) == (("0",), ("1",))
    assert found.reconstruction.unexplained_variance == pytest.approx(0, abs=1e-8)
    assert found.splice is not None
    assert found.splice.recovered_from_zero == pytest.approx(1, abs=1e-4)


def crosscoder(gain: float) -> Dictionary:
    """Return a dictionary of both sites, the second of which sees the edit of the first."""
    hidden, layer = rotation(0), WORLD.model.module[1]  # type: ignore[index]  # a Sequential
    with torch.no_grad():
        decoder = torch.cat([gain * hidden, hidden @ layer.weight.T], dim=1)
        centre = torch.cat([torch.zeros(WIDTH), layer.bias])
    own = dictionary()
    return replace(
        own,
        look=Look(("0",), ("0", "1"), "auto"),
        decoder=decoder,
        target=Frame(centre, torch.tensor(1.0)),
        widths=(WIDTH, WIDTH),
    )


def test_a_crosscoder_is_spliced_at_every_site_it_explains() -> None:
    # At the first site it is wrong; at the second, which all later layers see, it is right.
    (found,) = WORLD.report(crosscoder(0.1)).dictionaries
    assert found.writes == ("0", "1")
    assert found.reconstruction.unexplained_variance > 0.1
    assert found.splice is not None
    assert found.splice.recovered_from_zero == pytest.approx(1, abs=1e-4)
    assert found.length.description_bits is not None


def test_a_model_of_one_score_is_read_as_one_logit() -> None:
    module = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, 1))
    model = MonitoredModel.of(module, name="one score", inputs=["x"])
    truth = (torch.arange(COUNT) % 2).long()
    asked = Asked(labels=Table({"y": truth}))
    (found,) = World(WORLD.x, model).report(dictionary(), asked).dictionaries
    with torch.no_grad():
        logit = module(WORLD.held_out)[:, 0]
    own = truth[torch.arange(COUNT) % 3 == 0].float()
    nats = functional.binary_cross_entropy_with_logits(logit, own)
    assert found.splice is not None
    assert found.splice.clean_bits == pytest.approx(float(nats) / math.log(2), rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(COUNT), "one whole number"),
        (torch.zeros(COUNT, 2, dtype=torch.int64), "one whole number"),
        (torch.full((COUNT,), LABELS), f"label {LABELS} is none of the {LABELS}"),
    ],
)
def test_labels_that_the_model_cannot_answer_are_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WORLD.report(dictionary(), Asked(labels=Table({"label": labels})))


def test_a_model_that_predicts_nothing_has_no_loss_to_recover() -> None:
    class Shapeless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.site = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            whole: Tensor = self.site(x).sum()
            return whole

    model = MonitoredModel.of(Shapeless(), name="sum", inputs=["x"])
    (found,) = World(WORLD.x, model).report(dictionary(site="site")).dictionaries
    assert found.splice is None
