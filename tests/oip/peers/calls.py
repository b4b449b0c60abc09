"""Make tritonclient's calls to a server, and say as JSON what came of each.

Arguments: address, the model's name, how many calls on the stream.
"""

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as sync
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException

ORDINARY = np.tile(np.array([2, 0, 0, 0, 0, 0, 0, 0], np.float32), (2, 1))
STRANGE = np.full((1, 8), -3, np.float32)
NAMES = ["mad.is_alert", "output"]


def given(values: Any) -> list[Any]:
    tensor = sync.InferInput("x", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values)
    return [tensor]


def requested(*names: str) -> list[Any]:
    return [sync.InferRequestedOutput(name) for name in names]


def told(result: Any) -> dict[str, Any]:
    """Return a result's outputs by name, and its parameters."""
    response = result.get_response()
    return {
        "id": response.id,
        "outputs": {each.name: result.as_numpy(each.name).tolist() for each in response.outputs},
        "parameters": {
            key: getattr(value, value.WhichOneof("parameter_choice"))
            for key, value in response.parameters.items()
        },
    }


def refusal(call: Callable[[], Any]) -> list[str]:
    try:
        call()
    except InferenceServerException as error:
        return [str(error.status()), error.message()]
    return []


def unary(client: Any, model: str) -> dict[str, Any]:
    one_missing = given(ORDINARY)
    one_missing[0].set_shape([2, 9])
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "other_ready": client.is_model_ready("gpt"),
        "extensions": list(client.get_server_metadata().extensions),
        "metadata": client.get_model_metadata(model, as_json=True),
        "index": client.get_model_repository_index(as_json=True),
        "all": told(client.infer(model, given(ORDINARY), request_id="all")),
        "some": told(client.infer(model, given(STRANGE), outputs=requested(*NAMES))),
        "dry": told(client.infer(model, given(STRANGE), parameters={"mad.dry_run": True})),
        "no_model": refusal(lambda: client.infer("gpt", given(ORDINARY))),
        "no_output": refusal(
            lambda: client.infer(model, given(ORDINARY), outputs=requested("nope"))
        ),
        "no_shape": refusal(lambda: client.infer(model, one_missing)),
        "no_baseline": refusal(
            lambda: client.infer(model, given(ORDINARY), parameters={"mad.baseline": "x@9"})
        ),
        "no_method": refusal(lambda: client.get_model_config(model)),
    }


def streamed(client: Any, model: str, count: int) -> dict[str, Any]:
    """Send requests on one stream, one of them wrong, and gather what its callback is given."""
    results: list[Any] = []
    errors: list[str] = []
    arrived = threading.Semaphore(0)

    def callback(result: Any, error: Any) -> None:
        (results if error is None else errors).append(error.message() if error else result)
        arrived.release()

    client.start_stream(callback)
    for index in range(count):
        values = STRANGE if index % 100 == 50 else ORDINARY[:1]
        client.async_stream_infer(model, given(values), request_id=str(index))
        # A caller that waits for nothing is told to come back later.
        if index >= 32:
            assert arrived.acquire(timeout=60)
    client.async_stream_infer(model, given(ORDINARY), outputs=requested("nope"))
    client.stop_stream()
    return {
        "ids": [result.get_response().id for result in results],
        "alerts": [
            result.get_response().id for result in results if result.as_numpy("mad.is_alert")[0]
        ],
        "errors": errors,
    }


async def asynchronous(address: str, model: str) -> dict[str, Any]:
    """Make calls with the asyncio client, several at once, and on its stream."""
    async with aio.InferenceServerClient(address) as client:

        async def requests() -> Any:
            for index in range(20):
                yield {
                    "model_name": model,
                    "inputs": given(ORDINARY[:1]),
                    "request_id": str(index),
                }

        answers = [
            (result.get_response().id, error)
            async for result, error in client.stream_infer(requests())
        ]
        results = await asyncio.gather(
            *(client.infer(model, given(ORDINARY), request_id=str(index)) for index in range(8))
        )
        try:
            await client.infer("gpt", given(ORDINARY))
            refused = ""
        except InferenceServerException as error:
            refused = str(error.status())
        return {
            "live": await client.is_server_live(),
            "infer": [told(result) for result in results],
            "stream": answers,
            "no_model": refused,
        }


def main(address: str, model: str, count: str) -> None:
    with sync.InferenceServerClient(address) as client:
        facts = {
            "unary": unary(client, model),
            "stream": streamed(client, model, int(count)),
            "aio": asyncio.run(asynchronous(address, model)),
        }
    json.dump(facts, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
