"""Activations stream through a buffer, from the model or from files, into several dictionaries."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from jaxtyping import Int64
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mad.capture.model import MonitoredModel
from mad.components.dictionaries.look import Examples, Look
from mad.components.dictionaries.plan import DictionaryPlan
from mad.components.dictionaries.train import train
from mad.errors import ConfigError
from mad.fit import (
    FileSource,
    ModelSource,
    Room,
    Trained,
    Wanted,
    train_dictionaries,
    train_together,
    write_activations,
)
from mad.fit.reading import row_digests
from mad.fit.training.buffer import Buffer, Extent
from mad.fit.training.order import Order
from mad.fit.training.wanted import Job, Slot
from mad.types import Activations
from tests.worlds import Rows, ordinary, quiet, tiny_module

PLAN = DictionaryPlan(width=16, k=2, steps=12, batch_size=32, search=False)
SITES = ("1", "3")
COUNT = 600
SMALL = Room(vectors=128, read=32)


def model() -> MonitoredModel:
    return MonitoredModel.of(tiny_module(), name="tiny", inputs=["x"])


def data() -> Rows:
    return Rows(ordinary(COUNT, seed=1))


def first_layers(count: int, x: Tensor) -> Tensor:
    """Return what some layers of the model make of inputs."""
    with torch.no_grad():
        for layer in list(tiny_module().children())[:count]:
            x = layer(x)
    return x


def source() -> ModelSource:
    return ModelSource.of(model(), SITES, data(), torch.arange(COUNT))


def fingerprints(trained: Trained) -> dict[str, str]:
    return {one.view: one.fingerprint for one in trained.dictionaries}


@dataclass
class Numbers:
    """A source whose activations are the numbers of its inputs, and which counts what is read."""

    count: int
    read_so_far: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    @property
    def identity(self) -> Mapping[str, str]:
        return {}

    def read(self, numbers: Int64[Tensor, " batch"]) -> tuple[Activations, Int64[Tensor, " batch"]]:
        self.read_so_far += numbers.tolist()
        return {"s": numbers.float().unsqueeze(1)}, -numbers

    def digests(self, numbers: Int64[Tensor, " some"]) -> Int64[Tensor, " some"]:
        return -numbers


JOB = Job(Look.at("s", "flatten"), PLAN)
SLOT = Slot("s", "flatten", "pooled")


def buffer_of(count: int, capacity: int) -> Buffer:
    order = Order.within(count, capacity, seed=3, size=8)
    return Buffer.of(Numbers(count), order, {SLOT: Extent(1, 1)})


def held(buffer: Buffer) -> list[int]:
    return buffer.first(JOB, buffer.count(JOB)).source.flatten().int().tolist()


def test_what_finds_room_is_held_whole_in_the_order_of_the_data() -> None:
    buffer = buffer_of(100, 100)
    for turn in range(3):
        buffer.turn_to(turn, progress=quiet, of=3)
        assert held(buffer) == list(range(100))
    assert isinstance(buffer.source, Numbers)
    assert buffer.source.read_so_far == list(range(100))


def test_a_buffer_never_holds_more_than_it_may() -> None:
    buffer = buffer_of(1_000, 64)
    for turn in range(5):
        buffer.turn_to(turn, progress=quiet, of=5)
        assert len(held(buffer)) == 64
        assert len(set(held(buffer))) == 64


@pytest.mark.parametrize("capacity", [2, 5, 15, 64, 999])
def test_pieces_are_cut_shorter_where_a_buffer_of_long_ones_would_hold_too_much(
    capacity: int,
) -> None:
    order = Order.within(1_000, capacity, seed=3, size=256)
    assert 2 * sum(map(len, order.half(0))) == order.held
    assert capacity / 2 < order.held <= capacity


def test_each_turn_replaces_the_older_half_and_keeps_the_other() -> None:
    buffer = buffer_of(1_000, 64)
    buffer.turn_to(0, progress=quiet, of=3)
    before = held(buffer)
    buffer.turn_to(1, progress=quiet, of=3)
    assert held(buffer)[32:] == before[32:]
    assert not set(held(buffer)[:32]) & set(before)
    assert isinstance(buffer.source, Numbers)
    assert len(buffer.source.read_so_far) == 96


def test_each_time_round_reads_every_input_once_but_for_what_fills_no_piece() -> None:
    """1003 inputs are 125 pieces of 8; the three that are left out change from round to round."""
    order = Order(1_003, 125, seed=3, size=8)
    rounds = [torch.cat(order.half(number)) for number in range(3)]
    for numbers in rounds:
        assert len(set(numbers.tolist())) == len(numbers) == 1_000
    left = [set(range(1_003)) - set(numbers.tolist()) for numbers in rounds]
    assert left[0] != left[1]
    assert rounds[0].tolist() != rounds[1].tolist()
    assert rounds[0].tolist() != sorted(rounds[0].tolist())


def test_pieces_are_ascending_so_that_files_are_read_forwards() -> None:
    order = Order(1_003, 5, seed=3, size=8)
    pieces = [piece for number in range(30) for piece in order.half(number)]
    assert all(bool((piece.diff() > 0).all()) for piece in pieces)


def test_what_is_read_when_does_not_depend_on_where_one_begins() -> None:
    throughout, late = buffer_of(1_000, 64), buffer_of(1_000, 64)
    for turn in range(8):
        throughout.turn_to(turn, progress=quiet, of=8)
    late.turn_to(7, progress=quiet, of=8)
    assert held(throughout) == held(late)
    # Digests of what the one never read are looked up.
    seen = [one.seen(8, everything=False) for one in (throughout, late)]
    assert seen[0].tolist() == seen[1].tolist()
    assert seen[0].sort().values.tolist() == sorted(
        {-number for half in range(9) for number in torch.cat(late.order.half(half)).tolist()}
    )


def test_dictionaries_that_find_room_are_what_they_would_be_alone() -> None:
    together = train_together(
        source(),
        [Wanted(plan=PLAN, sites=SITES), Wanted(plan=replace(PLAN, k=4), sites=SITES, suffix="k4")],
        seed=0,
        progress=quiet,
    )
    hidden = first_layers(2, data().x)
    for view, plan in (("1", PLAN), ("1:k4", replace(PLAN, k=4))):
        look = Look.at("1", "flatten", view.partition(":")[2])
        alone = train(look, Examples.own(hidden), plan, step_done=lambda *_: None)
        assert fingerprints(together)[view] == alone.fingerprint
    assert list(fingerprints(together)) == ["1", "3", "1:k4", "3:k4"]
    assert [one.view for one in together.figures] == ["1", "3", "1:k4", "3:k4"]


def test_the_model_runs_once_for_all_dictionaries() -> None:
    runs: list[int] = []
    watched = model()
    watched.module.register_forward_hook(lambda _module, given, _out: runs.append(len(given[0])))
    wanted = [Wanted(plan=replace(PLAN, k=k), sites=SITES, suffix=f"k{k}") for k in (1, 2, 3)]
    train_together(
        ModelSource.of(watched, SITES, data(), torch.arange(COUNT)),
        wanted,
        seed=0,
        progress=quiet,
    )
    # One input to try the model out, one to see shapes, and every input once.
    assert sum(runs) == COUNT + 2


@pytest.mark.slow
def test_a_stream_trains_as_well_as_memory() -> None:
    plan = replace(PLAN, steps=400, k=4, width=32)
    whole, streamed = (
        train_dictionaries(
            model(), ["3"], data(), plan, rows=torch.arange(COUNT), progress=quiet, room=room
        )
        for room in (Room(), SMALL)
    )
    assert fingerprints(whole) != fingerprints(streamed)
    assert streamed.figures[0].unexplained_variance < 1.2 * whole.figures[0].unexplained_variance


def test_only_what_was_read_counts_as_seen() -> None:
    """Twelve steps of 32 turn a buffer of 128 six times: seven halves of 64 inputs are read."""
    trained = train_dictionaries(
        model(), SITES, data(), PLAN, rows=torch.arange(COUNT), progress=quiet, room=SMALL
    )
    everything = row_digests({"x": data().x})
    assert len(trained.seen) == len(trained.seen.unique()) == 7 * 64
    assert torch.isin(trained.seen, everything).all()


class Sequences(nn.Module):
    """Hands on a sequence, and one twice as long."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.twice = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.tokens(x)
        twice: Tensor = self.twice(torch.cat([tokens, tokens], dim=1))
        return twice.sum(dim=(1, 2)).unsqueeze(1)


def of_sequences(wanted: Wanted) -> Trained:
    x = torch.randn(80, 3, 5, generator=torch.Generator().manual_seed(0))
    sequences = MonitoredModel.of(Sequences(), name="m", inputs=["x"])
    return train_together(
        ModelSource.of(sequences, wanted.all_sites, Rows(x), torch.arange(80)),
        [wanted],
        seed=0,
        progress=quiet,
    )


def test_every_position_trains_where_all_are_asked_for() -> None:
    x = torch.randn(80, 3, 5, generator=torch.Generator().manual_seed(0))
    plan = replace(PLAN, pooling="last")
    of_all = of_sequences(Wanted(plan=plan, sites=("tokens",), positions="all"))
    of_last = of_sequences(Wanted(plan=plan, sites=("tokens",)))
    torch.testing.assert_close(of_all.dictionaries[0].source.centre, x.flatten(0, 1).mean(dim=0))
    torch.testing.assert_close(of_last.dictionaries[0].source.centre, x[:, -1].mean(dim=0))
    # It reads the last position nevertheless.
    activity = of_all.dictionaries[0].activity({"tokens": x})["tokens"]
    assert torch.equal(activity.activation, x[:, -1])


def test_positions_that_have_no_partner_are_refused() -> None:
    wanted = Wanted(
        plan=replace(PLAN, pooling="last"),
        sites=("tokens",),
        sources=("twice",),
        form="transcoder",
        positions="all",
    )
    with pytest.raises(
        ConfigError, match=r"different numbers of positions, .*'twice': 6.*set positions"
    ):
        of_sequences(wanted)


def test_transcoders_and_crosscoders_share_the_buffer() -> None:
    trained = train_together(
        source(),
        [
            Wanted(plan=PLAN, sites=("3",), sources=("1",), form="transcoder"),
            Wanted(plan=PLAN, sites=SITES, form="crosscoder", suffix="cross"),
        ],
        seed=0,
        progress=quiet,
    )
    over, across = trained.dictionaries
    assert (over.look.reads, over.look.writes) == (("1",), ("3",))
    assert list(across.views) == ["1:cross", "3:cross"]
    assert across.widths == (16, 16)
    x = data().x
    hidden = {"1": first_layers(2, x), "3": first_layers(4, x)}
    left = over.activity(hidden)["3"].residual.square().sum()
    away = (hidden["3"] - hidden["3"].mean(dim=0)).square().sum()
    assert trained.figures[0].unexplained_variance == pytest.approx(float(left / away), rel=1e-4)


def test_sources_and_sites_must_pair_up() -> None:
    wanted = Wanted(plan=PLAN, sites=("3",), sources=("1", "3"), form="transcoder")
    with pytest.raises(ConfigError, match=r"2 sources \['1', '3'\] for 1 sites \['3'\]"):
        train_together(source(), [wanted], seed=0, progress=quiet)


def test_two_dictionaries_of_one_name_are_refused() -> None:
    wanted = [Wanted(plan=replace(PLAN, k=k), sites=("3",)) for k in (1, 2)]
    with pytest.raises(ConfigError, match=r"two dictionaries would be called '3'; .* suffix"):
        train_together(source(), wanted, seed=0, progress=quiet)


def written(folder: Path, shard_bytes: int = 20_000) -> list[Path]:
    return write_activations(
        model(),
        SITES,
        data(),
        rows=torch.arange(0, COUNT, 2),
        directory=folder,
        progress=quiet,
        shard_bytes=shard_bytes,
    )


def test_files_of_activations_train_what_the_model_would(tmp_path: Path) -> None:
    """Batches of the model fall alike, since what is written is read in pieces of the same size."""
    assert len(written(tmp_path)) == 2
    wanted = [Wanted(plan=PLAN, sites=SITES)]
    rows = torch.arange(0, COUNT, 2)
    from_model, from_files = (
        train_together(source, wanted, seed=0, progress=quiet)
        for source in (
            ModelSource.of(model(), SITES, data(), rows),
            FileSource.open([tmp_path], SITES, model()),
        )
    )
    assert fingerprints(from_files) == fingerprints(from_model)
    assert torch.equal(from_files.seen, from_model.seen)
    assert torch.equal(from_files.seen, row_digests({"x": data().x[rows]}))


def test_activations_in_parquet_are_read_too(tmp_path: Path) -> None:
    (path,) = written(tmp_path, shard_bytes=10**9)
    arrays = load_file(path)
    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(array.flatten().numpy()), array.shape[1])
        if array.ndim > 1
        else pa.array(array.numpy())
        for name, array in arrays.items()
    }
    pq.write_table(pa.table(columns), tmp_path / "all.parquet")
    ways = [FileSource.open([one], SITES, model()) for one in (path, tmp_path / "all.parquet")]
    trained = [
        train_together(one, [Wanted(plan=PLAN, sites=SITES)], seed=0, progress=quiet)
        for one in ways
    ]
    assert fingerprints(trained[0]) == fingerprints(trained[1])


def test_activations_that_do_not_say_whose_they_are_are_refused(tmp_path: Path) -> None:
    save_file({"1": torch.randn(9, 4)}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"no array 'mad_input_digest', .*train activations"):
        FileSource.open([tmp_path], ["1"], model())


def test_activations_of_other_sites_are_refused(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(ConfigError, match=r"no activations of 2; it has those of 1, 3: .*again"):
        FileSource.open([tmp_path], ["1", "2"], model())


def test_activations_of_another_model_are_refused(tmp_path: Path) -> None:
    """A model that was trained on, say, has other weights, and so another fingerprint."""
    written(tmp_path)
    other = MonitoredModel.of(tiny_module(seed=1), name="tiny", inputs=["x"])
    with pytest.raises(ConfigError, match=r"300 of 300 rows .* another model than 'tiny' as it is"):
        FileSource.open([tmp_path], SITES, other)


def test_one_file_of_another_model_among_others_is_refused(tmp_path: Path) -> None:
    first, *_ = written(tmp_path)
    arrays = load_file(first)
    count = len(arrays["1"])
    save_file({**arrays, "mad_model_digest": torch.zeros(count, dtype=torch.int64)}, first)
    with pytest.raises(ConfigError, match=rf"{count} of 300 rows .* of another model"):
        FileSource.open([tmp_path], SITES, model())


def test_activations_that_do_not_say_of_which_model_they_are_are_refused(tmp_path: Path) -> None:
    (path,) = written(tmp_path, shard_bytes=10**9)
    arrays = load_file(path)
    del arrays["mad_model_digest"]
    save_file(arrays, path)
    with pytest.raises(ConfigError, match=r"no array 'mad_model_digest', .*train activations"):
        FileSource.open([tmp_path], SITES, model())


def test_a_directory_without_activations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no .safetensors or .parquet file of activations"):
        FileSource.open([tmp_path], SITES, model())


def test_activations_are_not_written_over_others(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(ConfigError, match=r"holds activations-00000.safetensors already"):
        written(tmp_path)


def test_numbers_that_are_not_finite_are_refused_wherever_they_stand() -> None:
    """In the last rows, which no first buffer holds."""
    x = ordinary(COUNT, seed=1)
    x[-40:] = torch.inf
    with pytest.raises(ConfigError, match=r"site '1' gives NaN or infinite numbers"):
        train_dictionaries(
            model(),
            SITES,
            Rows(x),
            replace(PLAN, steps=200),
            rows=torch.arange(COUNT),
            progress=quiet,
            room=SMALL,
        )


def test_training_by_the_answer_needs_the_model(tmp_path: Path) -> None:
    written(tmp_path)
    wanted = [Wanted(plan=PLAN, sites=("3",), objective="end_to_end")]
    with pytest.raises(ConfigError, match=r"'3' is trained end to end, which runs the model"):
        train_together(FileSource.open([tmp_path], ["3"], model()), wanted, seed=0, progress=quiet)
    trained = train_together(source(), wanted, seed=0, progress=quiet)
    assert [one.view for one in trained.dictionaries] == ["3"]
    assert len(trained.seen) == COUNT
