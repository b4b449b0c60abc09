"""Messages and values say the same, for every element type."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import numpy as np
import pytest
import torch

from mad import client
from mad.baseline.store import Entry
from mad.errors import InputError
from mad.service import convert
from mad.types import MEASURES, Charge, Explanation, Measure, Part, SetNeighbour, Term, Verdict
from mad.v1 import tensor_pb2, verdict_pb2
from tests.worlds import World

DTYPES = [
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_tensor_survives_the_wire(dtype: torch.dtype) -> None:
    value = torch.tensor([[0, 1, 2], [3, 1, 0]]).to(dtype)
    (message,) = convert.tensors({"x": value})
    back = convert.tensor(tensor_pb2.Tensor.FromString(message.SerializeToString()))
    assert back.dtype is dtype
    assert torch.equal(back, value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_empty_tensor_survives_the_wire(dtype: torch.dtype) -> None:
    (message,) = convert.tensors({"x": torch.empty(0, 4, dtype=dtype)})
    assert convert.tensor(message).shape == (0, 4)


def test_elements_are_row_major_and_little_endian() -> None:
    value = torch.arange(6, dtype=torch.int32).reshape(2, 3).T
    (message,) = convert.tensors({"x": value})
    assert np.frombuffer(message.data, "<i4").tolist() == [0, 3, 1, 4, 2, 5]


def test_a_read_tensor_can_be_written_to_and_leaves_the_message_alone() -> None:
    (message,) = convert.tensors({"x": torch.ones(2)})
    convert.tensor(message).zero_()
    assert convert.tensor(message).tolist() == [1, 1]


def test_a_boolean_is_zero_or_one() -> None:
    message = tensor_pb2.Tensor(
        name="mask", data_type=tensor_pb2.DATA_TYPE_BOOL, shape=[2], data=b"\x01\x02"
    )
    with pytest.raises(InputError, match="'mask' is BOOL with a byte of 2; write 0 or 1"):
        convert.tensor(message)


def test_an_output_type_the_wire_lacks_is_refused() -> None:
    with pytest.raises(InputError, match=r"'out' is torch.complex64, .* leave include_outputs off"):
        convert.tensors({"out": torch.zeros(1, dtype=torch.complex64)})


def test_a_verdict_keeps_its_numbers_apart() -> None:
    written = convert.verdict(
        Verdict(
            surprise_bits=7.5,
            mechanism_bits=2.25,
            novelty_bits=8.5,
            description_bits=math.inf,
            p_value=0.004,
            is_alert=True,
            parts=(),
            context=3,
            active_components=16,
        )
    )
    back = verdict_pb2.Verdict.FromString(written.SerializeToString())
    assert (back.surprise_bits, back.mechanism_bits, back.novelty_bits) == (7.5, 2.25, 8.5)
    assert back.description_bits == math.inf
    assert (back.p_value, back.is_alert, back.context, back.active_components) == (
        0.004,
        True,
        3,
        16,
    )


def test_a_part_without_components_has_none_that_are_rare() -> None:
    parts = (Part("1", "set", 20.0, 6.5, 0.0), Part("1:max", "residual", 90.0, 1.5))
    written = convert.verdict(Verdict(6.0, 6.0, 1.0, 110.0, 0.01, True, parts, 0, 4))
    chosen, residual = written.parts
    assert (chosen.site, chosen.bits, chosen.rarity_bits) == ("1", 20.0, 6.5)
    assert (residual.site, residual.bits, residual.rarity_bits) == ("1:max", 90.0, 1.5)
    assert (chosen.HasField("rare_components_bits"), chosen.rare_components_bits) == (True, 0.0)
    assert not residual.HasField("rare_components_bits")


@pytest.mark.parametrize("term", get_args(Term))
def test_every_term_has_its_name_on_the_wire(term: Term) -> None:
    written = convert.verdict(
        Verdict(1.0, 1.0, 1.0, 1.0, 0.5, False, (Part("1", term, 1.0, 1.0),), 0, 4)
    )
    assert verdict_pb2.Term.Name(written.parts[0].term) == f"TERM_{term.upper()}"
    assert client.term(written.parts[0]) == term


@pytest.mark.parametrize("measure", MEASURES)
def test_a_baseline_says_what_its_alerts_go_by(measure: Measure, world: World) -> None:
    manifest = replace(world.baseline.manifest, alert_on=measure, by_context=True)
    written = convert.baseline(Entry(manifest, "c0ffee", ("active",)), is_loaded=True)
    assert verdict_pb2.Measure.Name(written.alert_on) == f"MEASURE_{measure.upper()}"
    assert written.weighing_inputs == manifest.weighing_inputs == 90
    assert written.by_context


def test_a_charge_of_the_residual_has_no_trusted_rate() -> None:
    written = convert.explanation(
        Explanation(
            (
                Charge("1", "set", 3, 5.0, 0.25, 0.0, 0.0),
                Charge("1", "residual", 4, 2.0, 1.0, -1.5, None),
            ),
            rest_bits=0.5,
        )
    )
    component, coordinate = written.charges
    assert (component.term, component.HasField("trusted_rate")) == (verdict_pb2.TERM_SET, True)
    assert (coordinate.term, coordinate.HasField("trusted_rate")) == (
        verdict_pb2.TERM_RESIDUAL,
        False,
    )


def test_the_most_similar_trusted_sets_are_written_by_site() -> None:
    nearest = {"act1": SetNeighbour(17, 0.25, (1, 5), (2,), ())}
    (written,) = convert.explanation(Explanation((), 0.5, nearest)).nearest
    assert (written.site, written.row, written.distance) == ("act1", 17, 0.25)
    assert (list(written.shared), list(written.missing), list(written.extra)) == ([1, 5], [2], [])


def test_a_time_keeps_its_microseconds() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert convert.timestamp(time).ToDatetime(tzinfo=UTC) == time
