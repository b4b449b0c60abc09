"""The output through the masked model: what an input's active pieces leave unanswered."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.base import Decomposition
from mad.components.joined import Joined
from mad.components.on_disk import load_decomposition
from mad.components.parameters.decomposition import ParameterDecomposition
from mad.components.parameters.files import INDEX, load_parameters, save_parameters
from mad.components.parameters.importance import ScalarImportance
from mad.components.parameters.layers import matrix_layer, matrix_of
from mad.components.parameters.masked import (
    MASKED,
    MaskedOutput,
    on_model,
    pieces_of,
    with_masked_output,
)
from mad.components.parameters.subcomponents import Subcomponents
from mad.errors import ConfigError
from mad.fit import FitPlan, fit
from mad.monitor import Monitor
from mad.types import PAIRS, Activity, Measure
from tests.payloads import activations_of, codes_of
from tests.pentagon import NEVER, alone, pentagon, usual
from tests.unit.parameters.models import Pictures
from tests.worlds import CREATED, Rows, World, quiet

NEIGHBOUR = math.cos(2 * math.pi / 5)
"""What a feature of the pentagon leaves at the two beside it, and what the bias takes away."""


def needed_where_used(count: int, *, never: int | None = None) -> ScalarImportance:
    """Return importance above 0.1 from an inner activation of about 0.1 on, but for one piece."""
    w_in = torch.tensor([[100.0, -100.0]]).expand(count, 2).clone()
    start = torch.zeros(count)
    if never is not None:
        w_in[never], start[never] = 0.0, -1.0
    return ScalarImportance(w_in, torch.zeros(count, 2), torch.full((count, 2), 0.01), start)


def taken_apart(module: nn.Module, never: dict[str, int | None]) -> ParameterDecomposition:
    """Take each layer into the rows of its matrix, one of which may never be found important."""
    parts = []
    for name, one in never.items():
        layer = matrix_layer(module, name)
        importance = needed_where_used(layer.source, never=one)
        matrix = matrix_of(module, layer)
        parts.append(Subcomponents(layer, torch.eye(layer.source), matrix, importance))
    return ParameterDecomposition.of(module, parts)


def missed(module: nn.Module, decomposition: Decomposition, x: Tensor) -> Activity:
    model = MonitoredModel.of(module, name="any", inputs=["x"])
    run = capture(model, decomposition.sites, {"x": x})
    return decomposition.activity(run.activations)[MASKED]


def test_what_a_piece_too_few_leaves_unanswered_is_known_in_closed_form() -> None:
    """Without its piece, feature 4 writes nothing, and only the bias is read, which is negative.

    Alone it is answered with 0.8 less the bias; beside its neighbour 0, what each leaves there is.
    """
    module = pentagon()
    pieces = taken_apart(module, {"write": NEVER, "read": None})
    x = torch.zeros(3, 5)
    x[0, NEVER], x[1, 1] = 0.8, 0.8
    x[2, NEVER], x[2, 0] = 0.8, 0.6
    found = missed(module, MaskedOutput.of(module, pieces, distance="mse"), x)
    expected = torch.zeros(3, 5)
    expected[0, NEVER] = 0.8 - NEIGHBOUR
    # The masked model answers 0.6 less the bias at 0, and nothing at 4.
    expected[2, NEVER], expected[2, 0] = 0.8 + 0.6 * NEIGHBOUR - NEIGHBOUR, 0.8 * NEIGHBOUR
    torch.testing.assert_close(found.residual, expected, rtol=0, atol=1e-6)
    assert torch.equal(found.activation, found.residual)
    assert (found.num_components, found.offsets.tolist()) == (0, [0, 0, 0, 0])


class Tokens(nn.Module):
    """Says of each token which of two labels it speaks for: log odds of 9 to 1, and 1 to 9."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(2, 2)
        self.embed.weight.data = 2 * math.log(3) * torch.eye(2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.embed(x)
        return logits


def test_logits_differ_beyond_what_all_labels_share_at_pooled_positions() -> None:
    module = Tokens().eval()
    pieces = taken_apart(module, {"embed": 1})
    x = torch.tensor([[0, 1], [0, 0]])
    found = missed(module, MaskedOutput.of(module, pieces, distance="kl"), x)
    # Of both tokens logits are ln 3 each; without the second, ln 3 and 0.
    expected = torch.tensor([[-math.log(3) / 2, math.log(3) / 2], [0.0, 0.0]])
    torch.testing.assert_close(found.residual, expected)
    last = MaskedOutput.of(module, replace(pieces, pooling="last"), distance="mse")
    torch.testing.assert_close(
        missed(module, last, x).residual, torch.tensor([[0.0, 2 * math.log(3)], [0.0, 0.0]])
    )


def test_nothing_is_missed_where_all_pieces_are_active() -> None:
    module = Pictures().eval()
    pieces = replace(taken_apart(module, {"seen": None, "read": None}), threshold=0.0)
    whole = tuple(
        replace(
            one,
            parts=replace(
                one.parts,
                importance=replace(
                    needed_where_used(one.parts.width), b_out=torch.ones(one.parts.width)
                ),
            ),
        )
        for one in pieces.layers
    )
    x = torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    masked = MaskedOutput.of(module, replace(pieces, layers=whole), distance="mse")
    found = missed(module, masked, x)
    torch.testing.assert_close(found.residual, torch.zeros(6, 4), rtol=0, atol=1e-5)


def watched(*, alert_on: Measure = "surprise", with_view: bool = True) -> World:
    """Watch the pentagon, of which one feature is in no trusted input, and in no piece in use."""
    module = pentagon()
    model = MonitoredModel.of(module, name="pentagon", inputs=["x"])
    pieces = taken_apart(module, {"write": NEVER})
    masked = MaskedOutput.of(module, pieces, distance="mse")
    decomposition = Joined((pieces, masked) if with_view else (pieces,))
    trusted = Rows(usual(1_500, seed=1))
    plan = FitPlan(name="pentagon", false_alarm_rate=0.02, context="none", alert_on=alert_on)
    baseline = fit(model, decomposition, trusted, plan, created=CREATED, progress=quiet)
    return World(model, decomposition, trusted, baseline)


@pytest.fixture(scope="module")
def world() -> World:
    return watched()


def test_a_mechanism_that_no_piece_stands_for_shows_in_the_answer_and_not_in_the_set(
    world: World,
) -> None:
    odd, like = ({"x": alone(40, feature=one, seed=2)} for one in (NEVER, 1))
    found = {
        name: [
            {(part.site, part.term): part.bits for part in verdict.parts}
            for verdict in world.monitor.judge(inputs).verdicts
        ]
        for name, inputs in (("odd", odd), ("like", like))
    }
    assert set(found["odd"][0]) == {
        *(("write", term) for term in ("set", "residual", "neighbours")),
        (MASKED, "residual"),
        (PAIRS, "set"),
    }
    # No piece is active, as in 0.8 ** 4 of trusted inputs.
    assert max(one["write", "set"] for one in found["odd"]) < 2.5
    answered = odd["x"][:, NEVER] > NEIGHBOUR + 0.01
    least = min(
        one[MASKED, "residual"] for one, is_ in zip(found["odd"], answered, strict=True) if is_
    )
    assert least > max(one[MASKED, "residual"] for one in found["like"]) + 10


def test_alerts_name_what_the_masked_model_gets_wrong(world: World) -> None:
    x = torch.zeros(1, 5)
    x[0, NEVER] = 0.9
    verdict, explanation = world.monitor.explain({"x": x}, max_charges=20)
    assert verdict.is_alert
    (first, *_) = [one for one in explanation.charges if one.site == MASKED]
    assert (first.term, first.index, first.trusted_rate) == ("residual", NEVER, None)
    assert first.magnitude == pytest.approx(0.9 - NEIGHBOUR, abs=1e-6)
    found = world.monitor.counterfactuals({"x": x}, explanation)
    (of_output,) = [one for one in found if one.site == MASKED]
    # Without what is missed the model answers nothing at all, as the masked one does.
    assert of_output.what == "residual"
    assert of_output.output_change == pytest.approx(1.0)


def test_components_come_first_where_alerts_go_by_them() -> None:
    world = watched(alert_on="mechanism")
    x = torch.zeros(1, 5)
    x[0] = 0.9
    _, explanation = world.monitor.explain({"x": x}, max_charges=20)
    charges = explanation.charges
    telling = [one for one in charges if one.term == "set" and one.bits > one.typical_bits]
    assert telling
    assert list(charges[: len(telling)]) == telling
    assert MASKED in {one.site for one in charges[len(telling) :]}


def test_an_input_gets_the_same_bits_alone_in_a_batch_and_run_elsewhere(world: World) -> None:
    inputs = {"x": torch.cat([usual(9, seed=5), alone(4, feature=NEVER, seed=6)])}
    monitor = world.monitor.steadied(most=16)
    expected = monitor.judge(inputs)
    alone_each = [monitor.judge({"x": one}).verdicts[0] for one in inputs["x"].split(1)]
    assert tuple(alone_each) == expected.verdicts
    batch = activations_of(world, inputs)
    assert set(batch.activations) == {"write", "write<", "<", "@output"}
    monitor.check_activations(batch)
    judged = monitor.judge_activations(batch)
    assert judged.verdicts == expected.verdicts
    assert judged.explanations == expected.explanations
    codes = codes_of(world, inputs)
    monitor.check_codes(codes)
    for verdict, whole in zip(monitor.judge_codes(codes).verdicts, expected.verdicts, strict=True):
        assert verdict.mechanism_bits == pytest.approx(whole.mechanism_bits, rel=1e-12)
        assert math.isnan(verdict.surprise_bits)


def test_what_does_not_ask_for_it_is_as_it_was(world: World) -> None:
    without = watched(with_view=False)
    inputs = {"x": usual(9, seed=5)}
    for one, other in zip(
        without.monitor.judge(inputs).verdicts, world.monitor.judge(inputs).verdicts, strict=True
    ):
        bits = {(part.site, part.term): part.bits for part in other.parts if part.site != MASKED}
        assert bits == {(part.site, part.term): part.bits for part in one.parts}


def test_another_checkpoint_is_run_with_the_same_pieces() -> None:
    """Of one that answers twice as much behind the pieces, nothing is missed; by the first, all."""

    def scaled(by: float) -> nn.Module:
        module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        for layer, matrix in zip(module, (torch.eye(2), by * torch.eye(2)), strict=True):
            layer.load_state_dict({"weight": matrix})
        return module

    one, other = scaled(1.0), scaled(2.0)
    decomposition = with_masked_output(taken_apart(one, {"0": None}), one, "mse")
    x = torch.tensor([[1.0, 0.0], [0.5, 2.0]])
    torch.testing.assert_close(missed(other, decomposition, x).residual, x)
    moved = on_model(decomposition, other)
    torch.testing.assert_close(missed(other, moved, x).residual, torch.zeros(2, 2))
    assert moved.fingerprint == decomposition.fingerprint


def test_activity_by_effect_has_the_view_too() -> None:
    module = pentagon()
    model = MonitoredModel.of(module, name="pentagon", inputs=["x"])
    decomposition = with_masked_output(taken_apart(module, {"write": NEVER}), module, "mse")
    plan = FitPlan(name="effect", false_alarm_rate=0.05, activity="effect")
    trusted = Rows(usual(400, seed=1))
    baseline = fit(model, decomposition, trusted, plan, created=CREATED, progress=quiet)
    judged = Monitor.bind(model, decomposition, baseline).judge({"x": alone(3, feature=1, seed=2)})
    assert all((MASKED, "residual") in {p[:2] for p in one.parts} for one in judged.verdicts)


def test_a_directory_tells_how_it_was_read_out(tmp_path: Path) -> None:
    module = pentagon()
    pieces = taken_apart(module, {"write": None})
    nothing = torch.zeros(0, dtype=torch.int64)
    save_parameters(tmp_path, pieces, seen=nothing)
    plain = load_decomposition(tmp_path, module)
    assert plain.fingerprint == pieces.fingerprint
    save_parameters(tmp_path, pieces, seen=nothing, masked_output="kl")
    read = load_decomposition(tmp_path, module)
    assert read.fingerprint == with_masked_output(pieces, module, "kl").fingerprint
    assert read.fingerprint not in {
        plain.fingerprint,
        with_masked_output(pieces, module, "mse").fingerprint,
    }
    assert tuple(read.views) == ("write", MASKED)
    own = pieces_of(read)
    assert own is not None
    assert own.fingerprint == load_parameters(tmp_path).fingerprint
    index = tmp_path / INDEX
    told = index.read_text()
    # A directory of before there was such a view.
    index.write_text(told.replace('"masked_output": "kl",', ""))
    assert load_decomposition(tmp_path, module).fingerprint == plain.fingerprint
    index.write_text(told.replace('"kl"', '"cosine"'))
    with pytest.raises(ConfigError, match="masked_output 'cosine' is none of mse, kl"):
        load_decomposition(tmp_path, module)


def test_one_number_is_no_logits_of_labels() -> None:
    module = nn.Sequential(nn.Linear(3, 1)).eval()
    masked = MaskedOutput.of(module, taken_apart(module, {"0": None}), distance="kl")
    with pytest.raises(ConfigError, match=r"answers one number.*set distance = 'mse'"):
        missed(module, masked, torch.ones(2, 3))


class Counted(nn.Module):
    """Takes whole numbers, and looks none of them up."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.read(nn.functional.one_hot(x, 4).float())
        return found


def test_a_model_that_cannot_be_run_again_is_refused() -> None:
    module = Counted().eval()
    masked = MaskedOutput.of(module, taken_apart(module, {"read": None}), distance="mse")
    with pytest.raises(ConfigError, match=r"cannot be run again .*masked_output = false"):
        missed(module, masked, torch.tensor([1, 3]))
