"""Beside a model that the caller runs: untouched outputs, and the scores of a real server."""

import asyncio
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mad.client import Client, ScoreResponse
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.files import save_dictionaries
from mad.errors import ConfigError, MadError
from mad.sidecar import MOST_WAITING, Sent, Sidecar
from mad.v1 import verdict_pb2
from tests.service.running import Running, anomalies, live
from tests.worlds import World, tiny_module

INPUTS = torch.cat([live(6)["x"], anomalies(2)["x"]])


def beside(
    world: World, client: Client, *, sends: Sent = "codes", fails_open: bool = True
) -> Sidecar:
    return Sidecar(
        tiny_module().eval(), world.decomposition, client, sends=sends, fails_open=fails_open
    )


def scored(address: str, world: World, sends: Sent) -> tuple[Tensor, ScoreResponse]:
    with Client(address) as client, beside(world, client, sends=sends) as sidecar:
        output, scores = sidecar.score(INPUTS)
        return output, scores.result(20)


async def test_activations_of_a_pass_get_the_scores_of_its_inputs(
    service: Running, world: World
) -> None:
    output, found = await asyncio.to_thread(scored, service.address, world, "activations")
    expected = await service.client.score({"x": INPUTS})
    assert [one.verdict for one in found.scores] == [one.verdict for one in expected.scores]
    assert torch.equal(output, tiny_module()(INPUTS))


async def test_codes_of_a_pass_get_the_mechanism_of_its_inputs(
    service: Running, world: World
) -> None:
    _, found = await asyncio.to_thread(scored, service.address, world, "codes")
    expected = await service.client.score({"x": INPUTS})
    assert {one.measure for one in found.scores} == {verdict_pb2.MEASURE_MECHANISM}
    assert [one.verdict.mechanism_bits for one in found.scores] == pytest.approx(
        [one.verdict.mechanism_bits for one in expected.scores]
    )


async def test_a_model_that_breaks_down_is_told_by_its_activations(
    service: Running, world: World
) -> None:
    def ask() -> ScoreResponse:
        broken = tiny_module().eval()
        with Client(service.address) as client:
            sidecar = Sidecar(broken, world.decomposition, client)
            broken.register_forward_pre_hook(lambda _, args: (args[0] * torch.inf,))
            with sidecar:
                return sidecar.score(INPUTS)[1].result(20)

    found = await asyncio.to_thread(ask)
    assert all(one.verdict.description_bits == torch.inf for one in found.scores)
    assert all(one.verdict.is_alert for one in found.scores)


async def test_every_pass_inside_is_looked_at_and_leaves_no_trace(
    service: Running, world: World
) -> None:
    def ask() -> list[int]:
        module = tiny_module().eval()
        with (
            Client(service.address) as client,
            Sidecar(module, world.decomposition, client) as sidecar,
        ):
            with sidecar.watching() as passes:
                for count in (1, 3, 2):
                    output = module(INPUTS[:count])
                    assert output.requires_grad
                    output.sum().backward()
                    output.data.zero_()  # what is the caller's may change at once
            module(INPUTS)
            answers = [len(one.result(20).scores) for one in passes]
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
        return answers

    assert await asyncio.to_thread(ask) == [1, 3, 2]


async def test_threads_are_told_apart(service: Running, world: World) -> None:
    def ask() -> list[list[int]]:
        module = tiny_module().eval()
        found: list[list[int]] = [[], []]
        together = threading.Barrier(2)

        def passes_of(number: int, sidecar: Sidecar) -> None:
            with sidecar.watching() as passes:
                for _ in range(5):
                    together.wait(10)
                    module(INPUTS[: number + 1])
                together.wait(10)
            found[number] = [len(one.result(20).scores) for one in passes]

        with (
            Client(service.address) as client,
            Sidecar(module, world.decomposition, client) as sidecar,
        ):
            threads = [threading.Thread(target=passes_of, args=(n, sidecar)) for n in (0, 1)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        return found

    assert await asyncio.to_thread(ask) == [[1] * 5, [2] * 5]


def test_a_server_that_never_answers_holds_no_pass_up(world: World) -> None:
    module = tiny_module().eval()
    # Nothing listens there, and whoever asks long enough is told so.
    with Client("127.0.0.1:1", timeout_s=0.2) as client:
        sidecar = Sidecar(module, world.decomposition, client)
        waiting: list[Future[ScoreResponse]] = []
        for _ in range(MOST_WAITING + 20):
            output, scores = sidecar.score(INPUTS[:1])
            assert torch.equal(output, module(INPUTS[:1]))
            waiting.append(scores)
        sidecar.close()
    assert all(one.exception(20) is not None for one in waiting)


def test_what_goes_wrong_reaches_the_caller_by_the_scores_alone(world: World) -> None:
    module = tiny_module()  # in training mode, in which it is not looked at
    with Client("127.0.0.1:1", timeout_s=0.2) as client:
        with beside(world, client) as sidecar:
            sidecar._module.train()
            output, scores = sidecar.score(INPUTS)
            assert torch.equal(output, module(INPUTS))
            with pytest.raises(ConfigError, match="call eval"):
                scores.result(0)
        with beside(world, client, fails_open=False) as sidecar:
            sidecar._module.train()
            with pytest.raises(MadError, match="training mode"):
                sidecar.score(INPUTS)


def test_errors_of_the_model_itself_are_the_callers(world: World) -> None:
    with (
        Client("127.0.0.1:1", timeout_s=0.2) as client,
        beside(world, client) as sidecar,
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
    ):
        sidecar.score(torch.ones(1, 9))


async def test_dictionaries_are_those_of_a_deployment(
    service: Running, world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "dictionaries"
    stored = [part for part in world.decomposition.parts if isinstance(part, Dictionary)]
    save_dictionaries(folder, stored, seen=torch.zeros(0, dtype=torch.int64))

    def ask() -> ScoreResponse:
        module: nn.Module = tiny_module().eval()
        with Client(service.address) as client, Sidecar.beside(module, folder, client) as sidecar:
            return sidecar.score(INPUTS)[1].result(20)

    assert len((await asyncio.to_thread(ask)).scores) == 8
