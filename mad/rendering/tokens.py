"""Token ids ─▶ text, by a vocabulary file, for the renderer ``mad.rendering:tokens``."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mad.errors import ConfigError
from mad.rendering.base import OneInput, Renderer
from mad.rendering.images import chosen

_SPACES: Final = "Ġ▁"
"""What byte-level and SentencePiece vocabularies write for the space before a word."""
_MARKS: Final = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})


def tokens(*, vocabulary: Path, name: str = "", hidden: Sequence[int] = ()) -> Renderer:
    """Return a renderer of token ids.

    ``vocabulary`` is a JSON list of tokens, a JSON object of ids by token (``vocab.json``), a
    ``tokenizer.json`` of Hugging Face, or text with one token a line (``vocab.txt``). ``name`` is
    the input that holds the ids, which may be left out where there is one input. Ids that are
    ``hidden``, such as that of padding, are left out.

    Raises:
        ConfigError: the vocabulary cannot be read.
    """
    words = _vocabulary(vocabulary)
    is_marked = any(word.startswith(tuple(_SPACES)) for word in words.values())
    left_out = frozenset(hidden)

    def render(inputs: OneInput) -> str:
        ids = chosen(inputs, name).reshape(-1).tolist()
        found = [words.get(int(one), f"[{one}]") for one in ids if one not in left_out]
        if is_marked:
            return "".join(found).translate(_MARKS).strip()
        return " ".join(found).replace(" ##", "")

    return render


def _vocabulary(path: Path) -> Mapping[int, str]:
    try:
        content = path.read_text(encoding="utf-8")
        read = json.loads(content) if path.suffix == ".json" else content.splitlines()
    except (OSError, ValueError) as cause:
        raise ConfigError(f"cannot read the vocabulary {path}: {cause}") from cause
    if isinstance(read, dict) and isinstance(read.get("model"), dict):
        read = read["model"].get("vocab")
    match read:
        case list() if all(isinstance(word, str) for word in read):
            return dict(enumerate(read))
        case dict() if all(type(number) is int for number in read.values()):
            return {number: word for word, number in read.items()}
        case _:
            raise ConfigError(
                f"{path} is no vocabulary; give a list of tokens, an object of ids by token, or "
                "text with one token a line"
            )
