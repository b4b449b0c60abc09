"""What goes together across layers of a decomposition: found, named, and kept in bundles."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mad.alerts.signature import signature
from mad.baseline.format import FORMAT, WITH_PAIRS
from mad.baseline.store import BaselineStore
from mad.capture.model import MonitoredModel
from mad.codes.pairs import Origins
from mad.codes.sets.samples import as_activity, is_active
from mad.codes.statistics import KeptSets
from mad.components.joined import Joined
from mad.errors import BaselineError
from mad.fit import FitPlan, fit
from mad.types import PAIRS, Activity, Alert
from tests.contracts.test_bundles import changed_arrays
from tests.payloads import codes_of
from tests.unit.parameters.test_masked import taken_apart
from tests.worlds import CREATED, Rows, World, quiet, tiny_world

LEFT, RIGHT = 1, 2
"""Features of either half that trusted inputs never have together."""
CULPRITS = {("left", LEFT), ("right", RIGHT)}


class Halves(nn.Module):
    """Reads four features on the left and four on the right, and those on the left once more."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.again, self.right = (nn.Linear(4, 4, bias=False) for _ in range(3))
        for layer in (self.left, self.again, self.right):
            layer.weight.data = torch.eye(4)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[:, :4], x[:, 4:]
        return torch.cat([self.left(left) + self.again(left), self.right(right)], dim=1)


def inputs(count: int, *, seed: int, odd: bool) -> Tensor:
    """Draw features that are on in a third; odd ones have the pair that others never have."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(count, 8, generator=generator) < 1 / 3).float()
    if odd:
        x[:, [LEFT, 4 + RIGHT]] = 1.0
    else:
        x[:, 4 + RIGHT] *= 1 - x[:, LEFT]
    return x


@pytest.fixture(scope="module")
def world() -> World:
    module = Halves().eval()
    model = MonitoredModel.of(module, name="halves", inputs=["x"])
    pieces = taken_apart(module, {"left": None, "again": None, "right": None})
    decomposition, trusted = Joined((pieces,)), Rows(inputs(2_000, seed=1, odd=False))
    plan = FitPlan(name="halves", context="none", alert_on="mechanism", neighbours=0)
    baseline = fit(model, decomposition, trusted, plan, created=CREATED, progress=quiet)
    return World(model, decomposition, trusted, baseline)


def test_components_of_all_views_are_one_set_but_those_left_out() -> None:
    def sets(of: list[list[int]], width: int) -> Activity:
        offsets = torch.tensor([0, *(len(one) for one in of)]).cumsum(dim=0)
        rows = torch.arange(len(of))
        members = torch.tensor([one for row in of for one in row], dtype=torch.int64)
        return as_activity(KeptSets(rows, rows, offsets, members, width))

    origins = Origins(("a", "b"), torch.tensor([0, 1, 1]), torch.tensor([2, 0, 3]))
    known = {"a": sets([[0, 2], [1], [2], []], 3), "b": sets([[3], [0, 1, 3], [2], []], 4)}
    joint = origins.of({"other": known["a"], **known})
    assert joint.offsets.tolist() == [0, 2, 4, 5, 5]
    assert joint.components.tolist() == [0, 2, 1, 2, 0]
    assert is_active(joint).sum().item() == joint.components.numel()
    assert [origins.origin(one) for one in range(3)] == [("a", 2), ("b", 0), ("b", 3)]


def test_what_goes_with_an_earlier_component_is_left_out(world: World) -> None:
    part = world.baseline.parts[-1]
    assert (part.site, part.term) == (PAIRS, "set")
    assert part.origins is not None
    assert [part.origins.origin(one) for one in range(8)] == [
        *(("left", one) for one in range(4)),
        *(("right", one) for one in range(4)),
    ]


def test_a_pair_of_two_layers_that_never_met_is_found_and_named(world: World) -> None:
    judged = world.monitor.judge({"x": inputs(100, seed=2, odd=True)})
    assert len(judged.explanations) >= 95
    for explanation in judged.explanations.values():
        named = {(one.site, one.index) for one in explanation.charges[:2]}
        assert named == CULPRITS


def test_explanations_add_up_and_say_each_component_once(world: World) -> None:
    judged = world.monitor.judge({"x": inputs(20, seed=3, odd=True)})
    for row, explanation in judged.explanations.items():
        total = sum(one.bits for one in explanation.charges) + explanation.rest_bits
        assert total == pytest.approx(judged.verdicts[row].description_bits, rel=1e-9)
        keys = [(one.site, one.term, one.index) for one in explanation.charges]
        assert len(set(keys)) == len(keys)
        assert {one.site for one in explanation.charges} <= {"left", "again", "right"}


def test_the_rarer_of_both_parts_says_how_much_an_alert_is_about_a_component(world: World) -> None:
    x = {"x": inputs(1, seed=4, odd=True)}
    verdict, explanation = world.monitor.explain(x, max_charges=20)
    rarity = {part.site: part.rarity_bits for part in verdict.parts if part.term == "set"}
    assert rarity[PAIRS] > max(rarity["left"], rarity["right"])
    names = ("id", CREATED, "halves", "halves", 1, "", 0, "")
    shares = signature(Alert(*names, verdict, explanation))
    about = sum(share for key, share in shares.items() if (key.site, key.index) in CULPRITS)
    assert about > 0.5


def test_active_sets_found_elsewhere_are_judged_alike(world: World) -> None:
    x = {"x": inputs(20, seed=5, odd=True)}
    sent = replace(codes_of(world, x), contexts=torch.full((20,), -1))
    world.monitor.check_codes(sent)
    theirs, ours = world.monitor.judge_codes(sent), world.monitor.judge(x)
    assert [one.mechanism_bits for one in theirs.verdicts] == pytest.approx(
        [one.mechanism_bits for one in ours.verdicts]
    )


def test_a_bundle_says_where_components_come_from(world: World, tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    store.save(world.baseline)
    again = replace(world, baseline=store.load("halves"))
    x = {"x": inputs(8, seed=6, odd=True)}
    assert again.monitor.judge(x).verdicts == world.monitor.judge(x).verdicts
    assert again.monitor.judge(x).explanations == world.monitor.judge(x).explanations
    store.save(tiny_world().baseline)
    formats = [
        json.loads((tmp_path / name / "1" / "manifest.json").read_text())["format"]
        for name in ("halves", "tiny")
    ]
    # What has no such part can still be read by what came before.
    assert formats == [WITH_PAIRS, FORMAT]


@pytest.mark.parametrize("harm", ["missing", "fewer", "nowhere"])
def test_components_from_nowhere_are_refused(world: World, tmp_path: Path, harm: str) -> None:
    store = BaselineStore(tmp_path)
    store.save(world.baseline)
    number = len(world.baseline.parts) - 1

    def change(arrays: dict[str, Tensor]) -> None:
        for name in (f"part.{number}.origins.view", f"part.{number}.origins.index"):
            array = arrays.pop(name)
            if harm != "missing":
                arrays[name] = array[:-1].clone() if harm == "fewer" else array + 9

    changed_arrays(tmp_path / "halves" / "1", change)
    with pytest.raises(BaselineError, match="does not describe a baseline"):
        store.load("halves")
