"""Another library's TopK trainer, in an environment of its own: steps and figures on request.

Run by ``mad.bench.dictionary_speed`` with that environment's Python. It imports nothing of ours.
Requests and answers are lines of JSON: ``{"do": "train", "steps": 5}`` is answered with the
milliseconds of processor time of each step, ``{"do": "unexplained"}`` with the share of variance
left over on held-out vectors, and ``{"do": "encode", "batch": 16, "rounds": 5}`` with milliseconds.
"""

import contextlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from safetensors.torch import load_file
from torch import Tensor


@final
@dataclass(frozen=True)
class Peer:
    """How to take a training step, encode, and reconstruct for evaluation."""

    step: Callable[[Tensor], object]
    encode: Callable[[Tensor], object]
    explained: Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True)
class Size:
    """Coordinates, latents, active latents, and steps of the whole run."""

    coordinates: int
    width: int
    k: int
    steps: int

    @property
    def warm_up(self) -> int:
        """A tenth of the run, where the libraries' defaults are for runs of many thousands."""
        return max(1, self.steps // 10)


def saelens(size: Size, first: Tensor) -> Peer:
    """SAELens' SAETrainer, learning rate 3e-4; latents are dead after a third of the run."""
    saes = importlib.import_module("sae_lens.saes.topk_sae")
    trainers = importlib.import_module("sae_lens.training.sae_trainer")
    config = importlib.import_module("sae_lens.config").SAETrainerConfig(
        total_training_samples=size.steps * len(first),
        train_batch_size_samples=len(first),
        lr_end=3e-5,
        dead_feature_window=max(1, size.steps // 3),
    )
    sae = saes.TopKTrainingSAE(
        saes.TopKTrainingSAEConfig(d_in=size.coordinates, d_sae=size.width, k=size.k)
    )
    trainer = trainers.SAETrainer(config, sae, data_provider=iter(()))

    def step(batch: Tensor) -> None:
        trainer.step(batch)
        trainer.n_training_steps += 1

    return Peer(step, sae.encode, lambda x: sae.decode(sae.encode(x)))


def dictionary_learning(size: Size, first: Tensor) -> Peer:
    """dictionary_learning's TopKTrainer, learning rate 2e-4 at 16,384 latents."""
    del first
    trainers = importlib.import_module("dictionary_learning.trainers.top_k")
    trainer = trainers.TopKTrainer(
        steps=size.steps,
        activation_dim=size.coordinates,
        dict_size=size.width,
        k=size.k,
        layer=0,
        lm_name="none",
        warmup_steps=size.warm_up,
        seed=0,
        device="cpu",
    )
    done = iter(range(size.steps))
    return Peer(lambda x: trainer.update(next(done), x), trainer.ae.encode, trainer.ae)


def sparsify_signum(size: Size, first: Tensor) -> Peer:
    """Sparsify's default optimiser, learning rate 5e-3 at 16,384 latents."""
    schedule_free = importlib.import_module("schedulefree").ScheduleFreeWrapper
    signs = importlib.import_module("sparsify.sign_sgd").SignSGD
    sae = _sparse_coder(size, first)
    rate = 5e-3 / (size.width / 2**14) ** 0.5
    optimiser = schedule_free(signs(sae.parameters(), lr=rate), momentum=0.95)
    optimiser.train()

    def explained(x: Tensor) -> Tensor:
        optimiser.eval()
        return sae(x).sae_out  # type: ignore[no-any-return]  # the library is not typed here

    return Peer(_sparsify_step(sae, optimiser, None), sae.encode, explained)


def sparsify_adam(size: Size, first: Tensor) -> Peer:
    """Sparsify with Adam, learning rate 2e-4 at 16,384 latents, which falls to zero."""
    schedules = importlib.import_module("transformers")
    sae = _sparse_coder(size, first)
    optimiser = torch.optim.Adam(sae.parameters(), lr=2e-4 / (size.width / 2**14) ** 0.5)
    schedule = schedules.get_linear_schedule_with_warmup(optimiser, size.warm_up, size.steps)
    return Peer(_sparsify_step(sae, optimiser, schedule), sae.encode, lambda x: sae(x).sae_out)


PEERS: Mapping[str, Callable[[Size, Tensor], Peer]] = {
    "saelens": saelens,
    "dictionary_learning": dictionary_learning,
    "sparsify": sparsify_signum,
    "sparsify, Adam": sparsify_adam,
}


def _sparse_coder(size: Size, first: Tensor) -> Any:  # noqa: ANN401  # of the library
    # Its trainer asks for this, and centres the decoder so.
    torch.set_float32_matmul_precision("high")
    library = importlib.import_module("sparsify")
    sae = library.SparseCoder(
        size.coordinates, library.SparseCoderConfig(num_latents=size.width, k=size.k)
    )
    sae.b_dec.data = first.mean(0)
    return sae


def _sparsify_step(sae: Any, optimiser: Any, schedule: Any) -> Callable[[Tensor], None]:  # noqa: ANN401  # of the library
    fired = torch.zeros(sae.num_latents, dtype=torch.bool)
    silent = torch.zeros(sae.num_latents, dtype=torch.int64)

    def step(batch: Tensor) -> None:
        sae.set_decoder_norm_to_unit_norm()
        out = sae(batch, total_variance=(batch - batch.mean(0)).pow(2).sum())
        fired[out.latent_indices.flatten()] = True
        out.fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        if schedule is not None:
            schedule.step()
        silent.add_(len(batch))[fired] = 0
        fired.zero_()

    return step


def serve(name: str, file: str, size: Size) -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vectors = load_file(file)
    batches = vectors["batches"]
    answers = sys.stdout
    # Libraries print; only answers may go where answers are read.
    with contextlib.redirect_stdout(sys.stderr):
        peer = PEERS[name](size, batches[0])
        done = 0
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            match asked["do"]:
                case "train":
                    some = [batches[(done + one) % len(batches)] for one in range(asked["steps"])]
                    done += asked["steps"]
                    answer: object = [milliseconds(partial(peer.step, x)) for x in some]
                case "unexplained":
                    answer = _unexplained(peer, vectors["held"])
                case _:
                    answer = _encoding(peer, vectors["held"][: asked["batch"]], asked["rounds"])
            print(json.dumps(answer), file=answers, flush=True)


def milliseconds(work: Callable[[], object]) -> float:
    """Return the processor time that work takes, of all threads."""
    start = time.process_time()
    work()
    return 1e3 * (time.process_time() - start)


def _unexplained(peer: Peer, held: Tensor) -> float:
    with torch.no_grad():
        missed = sum(float((x - peer.explained(x)).square().sum()) for x in held.split(1_024))
    return missed / float((held - held.mean(dim=0)).square().sum())


def _encoding(peer: Peer, x: Tensor, rounds: int) -> list[float]:
    with torch.no_grad():
        return [milliseconds(partial(peer.encode, x)) for _ in range(rounds)]


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], Size(*map(int, sys.argv[3:7])))
