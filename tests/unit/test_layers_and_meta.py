"""Attention blocks, bilinear layers and meta-dictionaries, trained beside other dictionaries."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mad.capture.hooks import capture
from mad.capture.model import MonitoredModel
from mad.components.dictionaries.attention.block import AttentionBlock
from mad.components.dictionaries.attention.training import AttentionPlan
from mad.components.dictionaries.bilinear import BilinearPlan
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.look import Look
from mad.components.dictionaries.meta import meta_dictionary
from mad.components.dictionaries.plan import DictionaryPlan
from mad.errors import ConfigError
from mad.fit import FileSource, ModelSource, Room, Trained, Wanted, train_together
from mad.fit.attention import train_attention
from mad.fit.reading import row_digests
from mad.fit.training.shards import write_activations
from tests.unit.test_training_resumed import KilledError, Steps, always, same
from tests.worlds import Rows, layered_module, ordinary, quiet

PLAN = DictionaryPlan(width=16, k=2, steps=20, batch_size=32, search=False)
COUNT = 600
ROWS = torch.arange(COUNT)
SMALL = Room(vectors=128, read=32)
HEADS = AttentionPlan(heads=6, steps=60, batch_size=32)
ATTENTION = Wanted(
    plan=PLAN, sites=("attention",), sources=("attention<",), form="transcoder", layer=HEADS
)
BILINEAR = Wanted(
    plan=PLAN,
    sites=("bilinear",),
    sources=("bilinear<",),
    form="transcoder",
    layer=BilinearPlan(left="one", right="two", out="last", k=1_000),
)
BESIDE = Wanted(plan=replace(PLAN, pooling="last"), sites=("embed",))
META = Wanted(plan=replace(PLAN, meta_width=6, meta_k=2, meta_weight=0.0), sites=("head",))


def model() -> MonitoredModel:
    return MonitoredModel.of(layered_module(), name="layers", inputs=["x"])


def data() -> Rows:
    return Rows(ordinary(COUNT, seed=1))


def trained(*wanted: Wanted, room: Room = SMALL) -> Trained:
    sites = tuple(site for one in wanted for site in one.all_sites)
    source = ModelSource.of(model(), sites, data(), ROWS)
    return train_together(source, wanted, seed=0, progress=quiet, room=room)


def test_an_attention_block_is_what_it_would_be_alone_and_is_measured_on_sequences() -> None:
    both = trained(BESIDE, ATTENTION)
    look = Look(("attention<",), ("attention",), "last")
    alone = train_attention(model(), look, data(), HEADS, rows=ROWS, progress=quiet)
    beside, block = both.dictionaries
    assert isinstance(block, AttentionBlock)
    assert block.fingerprint == alone.fingerprint
    assert beside.fingerprint == trained(BESIDE).dictionaries[0].fingerprint
    activations = capture(model(), look.sites, {"x": data().x}).activations
    found = alone.activity(activations)["attention"]
    last = activations["attention"][:, -1]
    figures = both.figures[1]
    missed = found.residual.square().sum() / (last - last.mean(dim=0)).square().sum()
    assert figures.unexplained_variance == pytest.approx(float(missed), rel=1e-4)
    assert figures.active_latents == pytest.approx(len(found.components) / COUNT)
    assert figures.dead_share == pytest.approx(1 - len(found.components.unique()) / 6)
    assert torch.equal(both.seen, row_digests({"x": data().x}))


def test_an_attention_block_needs_no_other_dictionary_beside_it() -> None:
    alone = trained(ATTENTION)
    assert [one.view for one in alone.figures] == ["attention"]
    assert len(alone.seen) == COUNT


def test_a_bilinear_layer_with_every_component_is_explained_whole() -> None:
    """A sum of squares of projections, without any training (Pearce et al. 2024)."""
    (found,) = trained(BILINEAR).figures
    assert found.unexplained_variance < 1e-8
    # Six outputs are forms in six coordinates and a constant, of seven eigenvalues each.
    assert found.active_latents <= 6 * 7


def test_sequences_are_looked_at_once_by_what_takes_a_layer_apart() -> None:
    assert BILINEAR.plan.pooling == ATTENTION.plan.pooling == "auto"
    views = [one.view for one in trained(ATTENTION, BILINEAR).figures]
    assert views == ["attention", "bilinear"]


@pytest.mark.parametrize("wanted", [ATTENTION, BILINEAR])
def test_layers_are_not_taken_apart_by_files(tmp_path: Path, wanted: Wanted) -> None:
    sites = wanted.all_sites
    write_activations(model(), sites, data(), rows=ROWS, directory=tmp_path, progress=quiet)
    source = FileSource.open([tmp_path], sites, model())
    with pytest.raises(ConfigError, match=r"is of a layer of the model, .*activations out"):
        train_together(source, [wanted], seed=0, progress=quiet)


def test_what_is_no_sequence_is_no_attention_layer() -> None:
    wanted = replace(ATTENTION, sites=("head",), sources=("attention<",))
    with pytest.raises(ConfigError, match=r"'head' gives .*, 3\).*name what goes into"):
        trained(wanted)


def test_a_meta_dictionary_is_trained_afterwards_and_leaves_its_base_as_it_is() -> None:
    base, meta = trained(META).dictionaries
    assert isinstance(base, Dictionary)
    (plain,) = trained(replace(META, plan=PLAN)).dictionaries
    assert base.fingerprint == plain.fingerprint
    plan = replace(PLAN, width=6, k=2)
    alone = meta_dictionary(base, plan, step_done=lambda *_: None)
    assert (meta.view, meta.width) == ("head:meta", 6)
    assert meta.fingerprint == alone.fingerprint


def test_a_meta_dictionary_trained_jointly_changes_its_base() -> None:
    joint = replace(META, plan=replace(META.plan, meta_weight=1.0))
    base, meta = trained(joint).dictionaries
    assert (meta.view, meta.width) == ("head:meta", 6)
    assert base.fingerprint != trained(META).dictionaries[0].fingerprint


def test_every_pooling_has_a_meta_dictionary_of_its_own() -> None:
    wanted = replace(META, sites=("embed",), suffix="wide")
    views = [one.view for one in trained(wanted).figures]
    assert views == ["embed:wide", "embed:wide_meta", "embed:max:wide", "embed:max:wide_meta"]


def test_a_meta_dictionary_and_another_of_its_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two dictionaries would be called 'head:meta'"):
        trained(META, replace(META, plan=PLAN, suffix="meta"))


@pytest.mark.parametrize(
    ("wanted", "stage"),
    [
        (ATTENTION, "training attention attention"),
        (META, "training meta-dictionary of head"),
        (
            Wanted(plan=PLAN, sites=("head", "head<"), form="crosscoder", objective="end_to_end"),
            "training head end to end",
        ),
        (
            Wanted(
                plan=replace(PLAN, skip=True, pooling="last"),
                sites=("bilinear",),
                sources=("bilinear<",),
                form="transcoder",
                objective="end_to_end",
            ),
            "training bilinear end to end",
        ),
        (BILINEAR, ""),
    ],
)
def test_what_was_finished_before_a_kill_is_kept(
    tmp_path: Path, wanted: Wanted, stage: str
) -> None:
    """An attention block that comes last is where the kill falls."""
    last = replace(ATTENTION, suffix="last", layer=replace(HEADS, steps=5))
    sites = tuple(dict.fromkeys(wanted.all_sites + last.all_sites))
    source = ModelSource.of(model(), sites, data(), ROWS)

    def run(heard: Steps) -> Trained:
        place = always(tmp_path)
        return train_together(source, [wanted, last], seed=0, progress=heard, unfinished=place)

    killed, again = Steps(("training attention attention:last", 2)), Steps()
    with pytest.raises(KilledError):
        run(killed)
    found = run(again)
    assert same(found, train_together(source, [wanted, last], seed=0, progress=quiet))
    assert (stage in killed.counted) == bool(stage)
    assert stage not in again.counted
    assert "training attention attention:last" in again.counted
