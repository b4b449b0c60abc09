"""The renderer that settings name: built once, from their own arguments and files, or refused."""

from pathlib import Path

import numpy as np
import pytest

from mad.config import Settings
from mad.errors import ConfigError
from mad.renderer import trusted_inputs

SETTINGS = """
[model]
name = "tiny"
factory = "torch.nn:Identity"
weights = "model.safetensors"
inputs = ["ids"]

[decomposition]
sites = ["0"]

[data]
trusted = ["trusted.npz"]
"""


def settings(directory: Path, renderer: str) -> Settings:
    file = directory / "mad.toml"
    file.write_text(f"{SETTINGS}\n[renderer]\n{renderer}")
    return Settings.load(file)


def test_files_of_a_renderer_are_relative_to_the_settings(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("zero\none\ntwo\n")
    np.savez(tmp_path / "trusted.npz", ids=np.array([[2, 1], [0, 0]]))
    shows = trusted_inputs(
        settings(
            tmp_path,
            'factory = "mad.rendering:tokens"\n[renderer.files]\nvocabulary = "words.txt"\n'
            "[renderer.arguments]\nhidden = [0]\n",
        )
    )
    assert shows is not None
    assert shows.try_out() == f"{len('two one')} characters"


def test_a_renderer_of_ones_own_is_a_file_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def build(end):\n    return lambda one: f\"{one['ids']}{end}\""
    )
    np.savez(tmp_path / "trusted.npz", ids=np.array([2, 1]))
    shows = trusted_inputs(
        settings(tmp_path, 'factory = "mine.py:build"\n[renderer.arguments]\nend = "!"\n')
    )
    assert shows is not None
    assert shows.try_out() == f"{len('2!')} characters"


def test_without_a_factory_there_is_none(tmp_path: Path) -> None:
    assert trusted_inputs(settings(tmp_path, "")) is None


@pytest.mark.parametrize(
    ("renderer", "said"),
    [
        ('factory = "mad.rendering:picture"', "has no callable 'picture'"),
        ('factory = "nowhere"', "must be package.module:callable or file.py:callable"),
        ('factory = "mine.py:build"', "no file .*mine.py to take a factory from"),
        ('factory = "mad.rendering:tokens"', "tokens cannot be built of {}"),
        ('factory = "builtins:int"', "returned int; a renderer is a function that takes one input"),
        ("[renderer.arguments]\nshape = [2]", "arguments and files need a factory"),
        (
            'factory = "mad.rendering:tokens"\n[renderer.arguments]\nvocabulary = 1\n'
            '[renderer.files]\nvocabulary = "v.json"',
            "arguments and files both give vocabulary",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(
    tmp_path: Path, renderer: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        trusted_inputs(settings(tmp_path, renderer))
