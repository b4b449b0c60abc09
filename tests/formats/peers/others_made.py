"""Checkpoints of dictionary_learning, sparsify and OpenAI's code."""

import json
from collections.abc import Iterator
from typing import Any

import torch
from dictionary_learning import dictionary as plain
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from sparsify import SparseCoder, SparseCoderConfig
from torch import nn

from tests.formats.peers.activations import MLP_IN, MLP_OUT, RESIDUAL
from tests.formats.peers.compute import openai_module
from tests.formats.peers.maker import Case, Maker


def dictionary_learning(maker: Maker) -> Iterator[Case]:
    """Make those of dictionary_learning."""
    size, half = (maker.width, maker.latents), maker.latents // 2
    made: tuple[nn.Module, ...] = (
        plain.AutoEncoder(*size),
        plain.AutoEncoderNew(*size),
        plain.GatedAutoEncoder(*size),
        plain.JumpReluAutoEncoder(*size),
        AutoEncoderTopK(*size, maker.k),
        BatchTopKSAE(*size, maker.k),
        MatryoshkaBatchTopKSAE(*size, maker.k, [half, maker.latents - half]),
    )
    for module in made:
        if "threshold" in dict(module.named_buffers()):
            module.get_buffer("threshold").fill_(0.05)
        name = type(module).__name__
        path = maker.root / f"dictionary_learning_{name}"
        path.mkdir()
        torch.save(maker.polished(module).state_dict(), path / "ae.pt")
        trainer = {
            "dict_class": name,
            "layer": 0,
            "lm_name": "openai-community/gpt2",
            "submodule_name": "resid_post_layer_0",
            "k": maker.k,
        }
        (path / "config.json").write_text(json.dumps({"trainer": trainer}))
        yield Case(path.name, "dictionary_learning")


def sparsify(maker: Maker) -> Iterator[Case]:
    """Make those of sparsify, in directories named after hook points."""
    kinds: dict[str, tuple[dict[str, Any], str, str]] = {
        "latents": ({"num_latents": maker.latents}, RESIDUAL, ""),
        "expanded": ({"expansion_factor": 3, "skip_connection": True}, RESIDUAL, ""),
        "transcoder": ({"num_latents": maker.latents, "transcode": True}, MLP_OUT, MLP_IN),
        "skip_transcoder": (
            {"expansion_factor": 2, "transcode": True, "skip_connection": True},
            MLP_OUT,
            MLP_IN,
        ),
    }
    for name, (options, site, reads) in kinds.items():
        coder = SparseCoder(maker.width, SparseCoderConfig(k=maker.k, **options))
        run = maker.root / f"sparsify_{name}"
        path = f"{run.name}/{site.removeprefix('transformer.')}"
        maker.polished(coder, reads or site, site).save_to_disk(maker.root / path)
        (run / "config.json").write_text(json.dumps({"model": "openai-community/gpt2"}))
        yield Case(path, "sparsify", site, reads)


def openai(maker: Maker) -> Iterator[Case]:
    """Make those of OpenAI's code."""
    module = openai_module()
    topk = module["TopK"](maker.k)
    kinds: dict[str, dict[str, Any]] = {
        "topk": {"activation": topk, "normalize": True},
        "relu": {},
        "tied": {"tied": True},
    }
    for name, options in kinds.items():
        coder = module["Autoencoder"](maker.latents, maker.width, **options)
        path = maker.root / f"openai_{name}"
        path.mkdir()
        torch.save(dict(maker.polished(coder).state_dict()), path / "ae.pt")
        yield Case(path.name, "openai")
