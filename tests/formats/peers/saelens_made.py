"""Checkpoints of SAELens: every architecture, normalisation and version that mad reads."""

import json
from collections.abc import Iterator
from typing import Any

from sae_lens import saes
from sae_lens.saes import transcoder
from sae_lens.saes.sae import SAEMetadata, TrainStepInput
from sae_lens.training.activation_scaler import ActivationScaler

from tests.formats.peers.activations import (
    BLOCK_IN,
    HEADS_OUT,
    MLP_IN,
    MLP_OUT,
    MLP_POST,
    RESIDUAL,
)
from tests.formats.peers.maker import Case, Maker


def saelens(maker: Maker) -> Iterator[Case]:
    """Make those of SAELens."""
    hook = "blocks.0.hook_resid_post"
    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "standard": (saes.StandardSAE, saes.StandardSAEConfig, {}),
        "unsubtracted": (
            saes.StandardSAE,
            saes.StandardSAEConfig,
            {"apply_b_dec_to_input": False},
        ),
        "jumprelu": (saes.JumpReLUSAE, saes.JumpReLUSAEConfig, {}),
        "gated": (saes.GatedSAE, saes.GatedSAEConfig, {}),
        "topk": (saes.TopKSAE, saes.TopKSAEConfig, {"k": maker.k}),
        "rescaled": (
            saes.TopKSAE,
            saes.TopKSAEConfig,
            {"k": maker.k, "rescale_acts_by_decoder_norm": True},
        ),
        "layer_norm": (
            saes.TopKSAE,
            saes.TopKSAEConfig,
            {"k": maker.k, "normalize_activations": "layer_norm"},
        ),
        "constant_norm": (
            saes.StandardSAE,
            saes.StandardSAEConfig,
            {"normalize_activations": "constant_norm_rescale"},
        ),
    }
    for name, (sae, settings, options) in kinds.items():
        config = settings(
            d_in=maker.width, d_sae=maker.latents, metadata=_metadata(hook), **options
        )
        maker.polished(sae(config)).save_model(maker.root / f"saelens_{name}")
        yield Case(f"saelens_{name}", "saelens")
    yield from _saelens_scaled(maker)
    yield from _saelens_heads(maker)
    yield from _saelens_old(maker)
    yield from _saelens_batch(maker)
    yield from _saelens_transcoders(maker)


def _saelens_scaled(maker: Maker) -> Iterator[Case]:
    path = maker.root / "saelens_scaled"
    config = saes.GatedSAEConfig(
        d_in=maker.width,
        d_sae=maker.latents,
        normalize_activations="expected_average_only_in",
        metadata=_metadata("blocks.0.hook_resid_post"),
    )
    maker.polished(saes.GatedSAE(config)).save_model(path)
    scale = maker.width**0.5 / float(maker.vectors[RESIDUAL].norm(dim=1).mean())
    ActivationScaler(scaling_factor=scale).save(str(path / "activation_scaler.json"))
    yield Case("saelens_scaled", "saelens")


def _saelens_heads(maker: Maker) -> Iterator[Case]:
    path, reads = maker.root / "saelens_hook_z", maker.vectors[HEADS_OUT]
    config = saes.StandardSAEConfig(
        d_in=maker.width,
        d_sae=maker.latents,
        metadata=_metadata("blocks.1.attn.hook_z"),
    )
    sae = maker.polished(saes.StandardSAE(config), HEADS_OUT)
    sae.cfg.reshape_activations = "hook_z"
    sae.save_model(path)
    assert reads.shape[1] == maker.width
    yield Case("saelens_hook_z", "saelens", HEADS_OUT)


def _saelens_old(maker: Maker) -> Iterator[Case]:
    """Write settings as version 3 did: the library still reads them."""
    path = maker.root / "saelens_version3"
    config = saes.TopKSAEConfig(d_in=maker.width, d_sae=maker.latents, k=maker.k)
    maker.polished(saes.TopKSAE(config)).save_model(path)
    old = {
        "architecture": "standard",
        "d_in": maker.width,
        "d_sae": maker.latents,
        "dtype": "float32",
        "device": "cpu",
        "model_name": "gpt2-small",
        "hook_point": "blocks.1.hook_resid_pre",
        "hook_point_layer": 1,
        "hook_point_head_index": None,
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": maker.k},
        "apply_b_dec_to_input": True,
        "normalize_activations": False,
        "sae_lens_training_version": "3.9.0",
    }
    (path / "cfg.json").write_text(json.dumps(old))
    yield Case("saelens_version3", "saelens", BLOCK_IN)


def _saelens_batch(maker: Maker) -> Iterator[Case]:
    common = {
        "d_in": maker.width,
        "d_sae": maker.latents,
        "k": float(maker.k),
        "metadata": _metadata("blocks.0.hook_resid_post"),
    }
    matryoshka = saes.MatryoshkaBatchTopKTrainingSAEConfig(
        matryoshka_widths=[maker.latents // 2, maker.latents], **common
    )
    for name, sae in (
        (
            "batchtopk",
            saes.BatchTopKTrainingSAE(saes.BatchTopKTrainingSAEConfig(**common)),
        ),
        ("matryoshka", saes.MatryoshkaBatchTopKTrainingSAE(matryoshka)),
    ):
        maker.polished(sae)
        step = TrainStepInput(maker.vectors[RESIDUAL], {}, None, 0, False)
        for _ in range(100):
            sae.training_forward_pass(step)
        sae.save_inference_model(maker.root / f"saelens_{name}")
        yield Case(f"saelens_{name}", "saelens")
        if name == "batchtopk":
            sae.save_model(maker.root / "saelens_unfinished")
            yield Case("saelens_unfinished", "saelens")


def _saelens_transcoders(maker: Maker) -> Iterator[Case]:
    kinds: dict[str, tuple[Any, Any, str, str]] = {
        "transcoder": (
            transcoder.Transcoder,
            transcoder.TranscoderConfig,
            MLP_POST,
            "mlp.hook_post",
        ),
        "skip_transcoder": (
            transcoder.SkipTranscoder,
            transcoder.SkipTranscoderConfig,
            MLP_OUT,
            "hook_mlp_out",
        ),
        "jumprelu_transcoder": (
            transcoder.JumpReLUTranscoder,
            transcoder.JumpReLUTranscoderConfig,
            MLP_OUT,
            "hook_mlp_out",
        ),
        "jumprelu_skip_transcoder": (
            transcoder.JumpReLUSkipTranscoder,
            transcoder.JumpReLUSkipTranscoderConfig,
            MLP_POST,
            "mlp.hook_post",
        ),
    }
    for name, (sae, settings, site, hook) in kinds.items():
        config = settings(
            d_in=maker.width,
            d_sae=maker.latents,
            d_out=maker.vectors[site].shape[1],
            apply_b_dec_to_input=False,
            metadata=_metadata("blocks.1.mlp.hook_in", f"blocks.1.{hook}"),
        )
        maker.polished(sae(config), MLP_IN, site).save_model(maker.root / f"saelens_{name}")
        yield Case(f"saelens_{name}", "saelens", site, MLP_IN)


def _metadata(hook: str, out: str = "") -> Any:  # noqa: ANN401  # a class of SAELens
    named = {"hook_name_out": out} if out else {}
    return SAEMetadata(model_name="gpt2-small", hook_name=hook, **named)
