"""Site patterns become modules of the model."""

import pytest
from torch import nn

from mad.capture.sites import Address, resolve
from mad.errors import ConfigError


def module() -> nn.Module:
    return nn.ModuleDict(
        {"stem": nn.Linear(2, 2), "blocks": nn.ModuleList([nn.Linear(2, 2), nn.ReLU()])}
    )


@pytest.mark.parametrize(
    ("patterns", "sites"),
    [
        (["stem"], ("stem",)),
        (["blocks.*", "stem"], ("stem", "blocks.0", "blocks.1")),
        (["blocks.?#2"], ("blocks.0#2", "blocks.1#2")),
        (["stem@1", "stem"], ("stem", "stem@1")),
        (["blocks.*<", "stem#1<mask"], ("stem#1<mask", "blocks.0<", "blocks.1<")),
        (["*"], ("stem", "blocks", "blocks.0", "blocks.1")),
    ],
)
def test_patterns_resolve_in_model_order(patterns: list[str], sites: tuple[str, ...]) -> None:
    assert resolve(module(), patterns) == sites


def test_a_pattern_without_a_match_names_close_ones() -> None:
    with pytest.raises(ConfigError, match=r"'block.0'; there is \['blocks.0'"):
        resolve(module(), ["block.0"])


@pytest.mark.parametrize("site", ["stem#", "stem#0", "stem#x"])
def test_a_call_number_counts_from_one(site: str) -> None:
    with pytest.raises(ConfigError, match="number of the call, from 1"):
        Address.parse(site)


def test_a_colon_is_left_to_the_names_of_views() -> None:
    with pytest.raises(ConfigError, match="site 'stem:max': ':' separates a site from the view"):
        resolve(module(), ["stem:max"])
    with pytest.raises(ConfigError, match=r"'a:b': .* rename the module"):
        resolve(nn.ModuleDict({"a:b": nn.ReLU()}), ["*"])


def test_a_site_name_is_taken_apart() -> None:
    assert Address.parse("a.b#2@key") == Address("a.b", 2, "key")
    assert Address.parse("a.b#2<mask") == Address("a.b", 2, "mask", is_input=True)
    assert Address.parse("a<") == Address("a", 0, "", is_input=True)
