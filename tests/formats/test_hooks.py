"""Hook names of TransformerLens and module paths of Hugging Face name the same vectors."""

import pytest

from mad.components.formats.hooks import hook_of, module_of, whole_path

SAME = [
    ("gpt2-small", "blocks.3.hook_resid_post", "transformer.h.3"),
    ("gpt2-small", "blocks.3.hook_resid_pre", "transformer.h.3<"),
    ("openai-community/gpt2-xl", "blocks.11.hook_mlp_out", "transformer.h.11.mlp"),
    ("gpt2", "blocks.0.hook_attn_out", "transformer.h.0.attn"),
    ("gpt2", "blocks.0.attn.hook_z", "transformer.h.0.attn.c_proj<"),
    ("pythia-70m-deduped", "blocks.4.hook_resid_post", "gpt_neox.layers.4"),
    ("EleutherAI/pythia-160m", "blocks.4.hook_attn_out", "gpt_neox.layers.4.attention"),
    ("meta-llama/Llama-3.1-8B", "blocks.20.hook_mlp_out", "model.layers.20.mlp"),
    ("gemma-2b", "blocks.6.hook_mlp_out", "model.layers.6.mlp"),
    ("google/gemma-2-2b", "blocks.6.hook_mlp_out", "model.layers.6.post_feedforward_layernorm"),
    ("google/gemma-2-2b", "blocks.6.hook_resid_post", "model.layers.6"),
]


@pytest.mark.parametrize(("model", "hook", "site"), SAME)
def test_a_hook_and_a_site_stand_for_each_other(model: str, hook: str, site: str) -> None:
    assert module_of(hook, model) == site
    assert hook_of(site, model) == hook


@pytest.mark.parametrize(
    ("hook", "model"),
    [
        ("blocks.3.hook_resid_post", "my-own-model"),
        ("blocks.3.ln2.hook_normalized", "gpt2"),
        ("blocks.3.hook_resid_mid", "pythia-70m"),
        ("transformer.h.3", "gpt2"),
    ],
)
def test_where_no_module_is_known_to_give_the_vector_there_is_no_answer(
    hook: str, model: str
) -> None:
    assert module_of(hook, model) is None


def test_without_a_model_only_what_all_families_agree_on_is_said() -> None:
    assert hook_of("model.layers.2") == "blocks.2.hook_resid_post"
    assert hook_of("model.layers.2.mlp") is None
    assert hook_of("transformer.h.2.mlp") == "blocks.2.hook_mlp_out"
    assert hook_of("fc1") is None


def test_hook_points_of_a_base_model_get_the_path_of_the_whole() -> None:
    assert whole_path("h.3.mlp", "gpt2") == "transformer.h.3.mlp"
    assert whole_path("layers.5", "EleutherAI/pythia-160m") == "gpt_neox.layers.5"
    assert whole_path("layers.5", "meta-llama/Llama-3.2-1B") == "model.layers.5"
    assert whole_path("encoder.5", "bert") == "encoder.5"
