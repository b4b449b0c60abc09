"""The benchmark of transport measures what it says it does, at a size that takes little time."""

import array
import sys
from collections.abc import Iterator

import pytest
from rich.console import Console

from mad.bench.transport.__main__ import (
    CORE,
    ECHO,
    FLOOR,
    FLOOR_STREAM,
    SCORED,
    STREAM,
    THREAD,
    lined_up,
    show,
)
from mad.bench.transport.measure import Case, costs
from mad.bench.transport.processes import free_port, serving
from mad.bench.transport.wire import request
from mad.errors import ConfigError
from mad.service.oip import inference_pb2 as pb


@pytest.fixture(scope="module")
def cases() -> Iterator[list[Case]]:
    with lined_up(16, mlserver_python=None, triton_python=None) as found:
        yield list(found)


def test_the_bytes_are_those_of_the_protocol() -> None:
    content = array.array("f", [0.5] * 300).tobytes()
    read = pb.ModelInferRequest.FromString(request("echo", "x", [1, 300], content, id="one"))
    written = pb.ModelInferRequest(model_name="echo", id="one", raw_input_contents=[content])
    written.inputs.add(name="x", datatype="FP32", shape=[1, 300])
    assert read == written


@pytest.mark.slow
def test_every_case_answers_every_call_and_has_a_row(cases: list[Case]) -> None:
    measured = costs(cases, calls=200, rounds=1)
    assert [(name, one.seen.calls) for name, (one,) in measured.items()] == [
        (ECHO, 200),
        (STREAM, 200),
        (SCORED, 200),
        (FLOOR, 200),
        (FLOOR_STREAM, 200),
        (THREAD, 200),
        (CORE, 200),
    ]
    console = Console(record=True, width=140)
    show(measured, console)
    assert all(name in console.export_text(clear=False) for name in measured)


@pytest.mark.slow
def test_a_server_that_ends_at_once_is_named() -> None:
    port = free_port()
    with (
        serving([sys.executable, "-c", "raise SystemExit(3)"], port) as server,
        pytest.raises(ConfigError, match=rf"127.0.0.1:{port} does not answer: .*exit status 3"),
    ):
        server.await_answer(b"")
