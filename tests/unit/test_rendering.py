"""Inputs as pictures and text: what PIL reads in our PNGs, vocabularies, and what is refused."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mad.errors import ConfigError
from mad.rendering import image, tokens
from mad.rendering.base import MAX_BYTES, MAX_CHARACTERS, SIGNATURE, Picture, Words, read


def pixels(array: Tensor, **arguments: object) -> np.ndarray:
    """Return what PIL finds in the picture of an array."""
    answer = image(**arguments)({"image": array})  # type: ignore[arg-type]  # as from TOML
    assert isinstance(answer, bytes)
    return np.asarray(Image.open(io.BytesIO(answer)))


def test_grey_pictures_are_read_as_they_were_written() -> None:
    grey = torch.arange(28 * 20).reshape(28, 20).remainder(256).to(torch.uint8)
    np.testing.assert_array_equal(pixels(grey), grey.numpy())
    np.testing.assert_array_equal(pixels(grey.unsqueeze(0)), grey.numpy())
    np.testing.assert_array_equal(pixels(grey.reshape(-1), shape=[28, 20]), grey.numpy())


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)], ids=["last", "first"])
def test_colours_may_be_the_first_axis_or_the_last(axes: tuple[int, int, int]) -> None:
    colours = torch.arange(5 * 7 * 3).reshape(5, 7, 3).to(torch.uint8)
    np.testing.assert_array_equal(pixels(colours.permute(axes)), colours.numpy())


def test_floats_are_scaled_between_black_and_white_and_what_lies_beyond_is_cut() -> None:
    array = torch.tensor([[-1.0, 0.0], [0.5, 7.0]])
    assert pixels(array).tolist() == [[0, 0], [128, 255]]
    assert pixels(array, black=-1.0, white=1.0).tolist() == [[0, 128], [191, 255]]


@pytest.mark.parametrize(
    ("array", "arguments", "said"),
    [
        (torch.zeros(28), {}, r"shape \(28,\) is no image"),
        (torch.zeros(4, 4, 4), {}, r"shape \(4, 4, 4\) is no image"),
        (torch.zeros(4, 4), {"name": "picture"}, r"the inputs are \['image'\]"),
        (torch.zeros(4, 4), {"black": 1.0}, "black are both 1"),
    ],
)
def test_what_is_no_picture_is_refused(
    array: Tensor, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        pixels(array, **arguments)


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("vocab.json", json.dumps({"the": 0, "Ġcat": 1, "Ġsat": 2, "Ċ": 3}), "cat sat\n[9]"),
        ("list.json", json.dumps(["[PAD]", "▁cat", "▁sat", "s"]), "cat sats[9]"),
        ("vocab.txt", "[PAD]\ncat\nsat\n##s\n", "cat sats [9]"),
        (
            "tokenizer.json",
            json.dumps({"model": {"vocab": {"a": 0, "cat": 1, "sat": 2, "<b>": 3}}}),
            "cat sat <b> [9]",
        ),
    ],
)
def test_ids_are_words_of_every_kind_of_vocabulary(
    tmp_path: Path, file: str, content: str, text: str
) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    render = tokens(vocabulary=tmp_path / file, hidden=[0])
    assert render({"ids": torch.tensor([1, 2, 3, 9, 0, 0])}) == text


def test_what_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vocab.json"
    with pytest.raises(ConfigError, match="cannot read the vocabulary"):
        tokens(vocabulary=file)
    file.write_text('{"the": "first"}')
    with pytest.raises(ConfigError, match="is no vocabulary; give a list of tokens"):
        tokens(vocabulary=file)


def test_long_text_is_cut() -> None:
    found = read("x" * (MAX_CHARACTERS + 1))
    assert isinstance(found, Words)
    assert len(found.text) == MAX_CHARACTERS + 1
    assert found.text.endswith("x…")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "returned NoneType; return the bytes of a PNG, or text"),
        (b"<svg onload=alert(1)>", "returned no PNG: it begins with b'<svg onl'"),
        (SIGNATURE, "returned no PNG"),
        (SIGNATURE + bytes(MAX_BYTES), f"at most {MAX_BYTES} are shown"),
        (SIGNATURE + bytes(8) + b"\0\0\x40\0\0\0\0\1", "picture of 16384 by 1 pixels"),
    ],
    ids=["nothing", "another format", "cut", "large", "wide"],
)
def test_what_a_page_could_not_bear_is_refused(answer: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(answer)


def test_a_picture_knows_its_size() -> None:
    found = read(image()({"x": torch.zeros(5, 7)}))
    assert isinstance(found, Picture)
    assert (found.width, found.height) == (7, 5)
