"""Checkpoints made by the libraries themselves give the latents that those compute."""

from pathlib import Path

import pytest
import torch

from mad.components import formats
from mad.components.dictionaries.dictionary import Dictionary
from tests.formats.cases import GOLDEN, NEAR, Case, cases, computed, distance, layouts_for, shares

CASES = [pytest.param(case, id=case.name) for case in cases(GOLDEN)]

# What can be written where: a layout that held a dictionary can hold it again, and often others.
WRITABLE = {
    "saelens_standard": {"saelens", "dictionary_learning", "openai"},
    "saelens_topk": {"saelens", "dictionary_learning", "sparsify"},
    "saelens_jumprelu": {"saelens", "dictionary_learning"},
    "saelens_gated": {"saelens", "dictionary_learning"},
    "saelens_layer_norm": {"saelens", "openai"},
    "saelens_constant_norm": {"saelens"},
    "saelens_transcoder": {"saelens"},
    "saelens_jumprelu_skip_transcoder": {"saelens"},
    "sparsify_expanded/h.0": {"sparsify"},
    "sparsify_transcoder/h.1.mlp": {"sparsify"},
    "openai_topk": {"saelens", "openai"},
    "openai_tied": {"saelens", "dictionary_learning", "openai"},
}


@pytest.mark.parametrize("case", CASES)
def test_latents_and_reconstruction_are_those_of_the_library(case: Case) -> None:
    assert distance(computed(case.read(), case.vectors), case.expected) < NEAR


@pytest.mark.parametrize("case", CASES)
def test_the_checkpoint_says_where_it_belongs(case: Case) -> None:
    look = case.read().look
    assert (look.writes, look.reads) == ((case.site,), (case.reads or case.site,))


@pytest.mark.parametrize("case", CASES)
def test_without_one_component_so_much_of_the_reconstruction_is_missing(case: Case) -> None:
    dictionary, vectors = case.read(), case.vectors
    explained = case.expected["reconstruction"]
    bare = computed(_silenced(dictionary), vectors)["reconstruction"]
    assert torch.allclose(bare + shares(dictionary, vectors), explained, atol=NEAR)


@pytest.mark.parametrize("case", CASES)
def test_a_dictionary_that_was_read_survives_our_own_directory(case: Case, tmp_path: Path) -> None:
    dictionary = case.read()
    formats.write(dictionary, tmp_path, "mad")
    again = formats.read(tmp_path, "mad")
    assert again.fingerprint == dictionary.fingerprint
    assert distance(computed(again, case.vectors), computed(dictionary, case.vectors)) == 0


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_reads_back_as_the_same_function(case: Case, tmp_path: Path) -> None:
    dictionary = case.read()
    written = layouts_for(dictionary, tmp_path)
    assert WRITABLE.get(case.name, set()) <= written.keys()
    for name, path in written.items():
        site, reads = dictionary.look.writes[0], dictionary.look.reads[0]
        again = formats.read(path, name, site=site, reads=reads, pickles=True)
        assert distance(computed(again, case.vectors), case.expected) < NEAR, name


@pytest.mark.parametrize("name", WRITABLE)
def test_a_layout_is_offered_exactly_what_it_can_hold(name: str, tmp_path: Path) -> None:
    (case,) = (one for one in cases(GOLDEN) if one.name == name)
    assert layouts_for(case.read(), tmp_path).keys() == WRITABLE[name]


def _silenced(dictionary: Dictionary) -> Dictionary:
    """Return the dictionary with directions of length zero: nothing but biases and skip."""
    return Dictionary(
        look=dictionary.look,
        encoder=dictionary.encoder,
        decoder=torch.zeros_like(dictionary.decoder),
        source=dictionary.source,
        target=dictionary.target,
        widths=dictionary.widths,
        skip=dictionary.skip,
    )
