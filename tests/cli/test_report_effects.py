"""``mad report effects``: from a settings file to a verdict, tables, a file and a page."""

import json
from pathlib import Path

import pytest
from torch import nn

from mad.capture.model import MonitoredModel
from mad.config import Effects
from mad.effects import LinearAttention, MultiheadAttention
from mad.errors import ConfigError
from mad.recipes import where
from tests.attending import ATTENTIONS, BRANCHES, Transformer
from tests.cli.conftest import Mad, write_deployment
from tests.markup import Markup


def test_effects_are_compared_told_and_written(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    out, html = tmp_path / "e.json", tmp_path / "e.html"
    done = mad(
        *("report", "effects", "--config", fitted, "--inputs", 20, "--site", "2"),
        *("--out", out, "--html", html),
    )
    assert done.code == 0, done.err
    told = json.loads(out.read_text())
    assert set(told["nodes"]) == {"1", "3", "2", "all"}
    assert told["inputs"] == 20
    # Four components of each dictionary are active; the last layer, which follows "3", is linear.
    assert [told["nodes"][name]["pairs"] for name in ("1", "3", "2", "all")] == [80, 80, 20, 180]
    assert told["nodes"]["3"]["rank_correlation"]["gradient"] > 0.999
    assert told["verdict"] in done.out
    assert "Rank correlation with running again" in done.out
    # Without attentions and branches there is one method, and no other to tell of.
    assert "GradDrop" not in done.out
    page = Markup(html.read_text())
    assert page.tags.count("polyline") == 1
    assert told["verdict"] in [word.strip() for word in page.words]


def test_coordinates_and_bits_may_be_asked_for(tmp_path: Path, mad: Mad, fitted: Path) -> None:
    out, html = tmp_path / "e.json", tmp_path / "e.html"
    done = mad(
        *("report", "effects", "--config", fitted, "--inputs", 3, "--site", "2", "--by-coordinate"),
        *("--answer", "loss", "--reference", "mean", "--out", out, "--html", html),
    )
    assert done.code == 0, done.err
    # The layer has sixteen coordinates.
    assert json.loads(out.read_text())["nodes"]["2"]["pairs"] == 3 * 16
    assert "what the code length of the predicted label, in bits, gains" in html.read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--reference", "noise"], "--reference 'noise' is none of other, mean, zero"),
        (["--answer", "label"], "--answer 'label' is none of score, loss"),
        (["--site", "nowhere"], "no module of the model matches site 'nowhere'"),
        (["--html", "nowhere/e.html"], "there is no directory"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(
    mad: Mad, fitted: Path, arguments: list[str], told: str
) -> None:
    done = mad("report", "effects", "--config", fitted, *arguments)
    assert done.code == 2
    assert told in done.err


def test_without_dictionaries_the_remedy_is_told(tmp_path: Path, mad: Mad) -> None:
    done = mad("report", "effects", "--config", write_deployment(tmp_path))
    assert done.code == 2
    assert "run `mad train dictionary` or `mad fit`" in done.err


LAYERS = {
    **{role: f"blocks.*.attention.{role[0]}" for role in ("query", "key", "value", "out")},
    "heads": 4,
    "causal": True,
}


def monitored(module: nn.Module) -> MonitoredModel:
    return MonitoredModel.of(module, name="m", inputs=["x"])


def test_patterns_name_every_attention_layer_and_branch() -> None:
    settings = {"branches": ["blocks.?.attention", "blocks.?.mlp"], "attention": [LAYERS]}
    found = where(monitored(Transformer()), Effects.model_validate(settings))
    assert found.attentions == ATTENTIONS
    assert found.branches == BRANCHES
    assert all(isinstance(one, LinearAttention) for one in found.attentions)


def test_torchs_own_attention_is_named_by_its_module() -> None:
    module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    settings = Effects.model_validate({"attention": [{"module": "self_attn"}]})
    (found,) = where(monitored(module), settings).attentions
    assert isinstance(found, MultiheadAttention)
    assert (found.name, found.heads, found.is_causal) == ("self_attn", 2, False)


def test_patterns_that_do_not_match_are_told_apart() -> None:
    settings = Effects.model_validate({"attention": [{**LAYERS, "key": "blocks.0.attention.k"}]})
    with pytest.raises(ConfigError, match=r"2 by .*, 1 by 'blocks.0.attention.k'.*must match"):
        where(monitored(Transformer()), settings)


@pytest.mark.parametrize("layers", [{"query": "q"}, {"module": "a", "heads": 2}, {}])
def test_attention_is_named_in_one_way(tmp_path: Path, mad: Mad, layers: dict[str, object]) -> None:
    config = write_deployment(tmp_path)
    lines = [f"{key} = {value!r}" for key, value in layers.items()]
    config.write_text("\n".join([config.read_text(), "[[effects.attention]]", *lines]))
    done = mad("report", "effects", "--config", config)
    assert done.code == 2
    assert "by query, key, value, out and heads, all five" in done.err
