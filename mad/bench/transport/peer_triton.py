"""An echo model in Triton by PyTriton, on the port given; run with that environment's Python.

It imports nothing of ours. Batching has no delay, as ours has none.
"""

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


@batch  # type: ignore[untyped-decorator]  # PyTriton has no types here
def echo(x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the input as the output."""
    return {"output": x}


def main(port: int, width: int) -> None:
    """Serve until killed."""
    config = TritonConfig(
        grpc_address="127.0.0.1",
        grpc_port=port,
        http_address="127.0.0.1",
        http_port=port + 1,
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="echo",
            infer_func=echo,
            inputs=[Tensor(name="x", dtype=np.float32, shape=(width,))],
            outputs=[Tensor(name="output", dtype=np.float32, shape=(width,))],
            config=ModelConfig(
                max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
