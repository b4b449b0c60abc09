"""Laws of every decomposition; a new one joins by adding one line to a table."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mad.components.base import Decomposition
from mad.components.dictionaries.attention.block import AttentionBlock
from mad.components.dictionaries.attention.heads import Heads
from mad.components.dictionaries.bilinear import BilinearWeights, bilinear_dictionary
from mad.components.dictionaries.dictionary import Dictionary
from mad.components.dictionaries.frame import Frame
from mad.components.dictionaries.kinds.switch import SwitchEncoder
from mad.components.dictionaries.kinds.topk import TopKEncoder
from mad.components.dictionaries.look import Look
from mad.components.dictionaries.meta import through
from mad.components.dictionaries.topk import topk_dictionary
from mad.components.joined import Joined
from mad.components.parameters.apd.components import Factors
from mad.components.parameters.apd.readout import ApdDecomposition
from mad.components.parameters.apd.rules import Above, Largest, Rule
from mad.components.parameters.decomposition import ParameterDecomposition, PositionPooling
from mad.components.parameters.importance import (
    ImportanceFunction,
    ScalarImportance,
    SharedImportance,
    VectorImportance,
)
from mad.components.parameters.layers import matrix_layer, matrix_of
from mad.components.parameters.masked import with_masked_output
from mad.components.parameters.subcomponents import Subcomponents
from mad.components.parameters.training.plan import Distance
from mad.components.pooling import Pooling
from mad.components.unexplained import Unexplained
from mad.errors import ConfigError
from mad.types import Activations, Activity
from tests.dictionaries import looking

GENERATOR = torch.Generator().manual_seed(0)
WEIGHTS = torch.Generator().manual_seed(0)


def dictionary(site: str, coordinates: int, *, k: int = 3) -> Dictionary:
    decoder = torch.nn.functional.normalize(
        torch.randn(24, coordinates, generator=GENERATOR), dim=1
    )
    bias = torch.full((24,), -0.5)
    centre = torch.randn(coordinates, generator=GENERATOR)
    return topk_dictionary(
        site=site,
        pooling="auto",
        k=k,
        encoder=decoder.T,
        bias=bias,
        decoder=decoder,
        centre=centre,
        scale=torch.tensor(2.0),
    )


def switch(site: str, coordinates: int) -> Dictionary:
    """Return the same with a router before it, of two experts and one that is always on."""
    plain = dictionary(site, coordinates)
    assert isinstance(plain.encoder, TopKEncoder)
    routed = SwitchEncoder(
        plain.encoder.weight,
        plain.encoder.bias,
        router=torch.randn(coordinates, 2, generator=GENERATOR),
        router_bias=torch.zeros(2),
        k=3,
        experts=3,
        active_experts=1,
        always_on=True,
    )
    return replace(plain, encoder=routed)


def meta(base: Dictionary) -> Dictionary:
    """Return a dictionary seen through its first five directions."""
    found = through(base, TopKEncoder(base.decoder[:5].T, torch.zeros(5), 2), base.decoder[:5])
    return replace(found, look=base.look)


def bilinear() -> Dictionary:
    """Return a layer from the one site to the last position of the other, in closed form."""
    shapes = ((8, 6), (8, 6), (8,), (8,), (3, 8), (3,))
    weights = (0.2 * torch.randn(*shape, generator=GENERATOR) for shape in shapes)
    look = Look(("flat",), ("sequence",), "last")
    return bilinear_dictionary(BilinearWeights(*weights), look=look, k=9)


ACTIVATIONS: Activations = {
    "flat": torch.randn(40, 6, generator=GENERATOR),
    "map": torch.randn(40, 4, 5, 5, generator=GENERATOR),
    "sequence": torch.randn(40, 7, 3, generator=GENERATOR),
    "written": torch.randn(40, 7, 4, generator=GENERATOR),
    "linear<": torch.randn(40, 6, generator=WEIGHTS),
    "linear": torch.randn(40, 5, generator=WEIGHTS),
    "each<": torch.randn(40, 2, 3, 3, generator=WEIGHTS),
    "each": torch.randn(40, 2, 3, 4, generator=WEIGHTS),
    "filters<": torch.randn(40, 4, 5, 5, generator=WEIGHTS),
    "filters": torch.randn(40, 3, 3, 3, generator=WEIGHTS),
    "tokens<": torch.randint(7, (40, 5), generator=WEIGHTS).double(),
    "tokens": torch.randn(40, 5, 6, generator=WEIGHTS),
    "<": torch.randn(40, 6, generator=WEIGHTS),
    "first<": torch.randn(40, 6, generator=WEIGHTS),
    "first": torch.randn(40, 5, generator=WEIGHTS),
    "second<": torch.randn(40, 2, 5, generator=WEIGHTS),
    "second": torch.randn(40, 2, 4, generator=WEIGHTS),
    "@output": torch.randn(40, 4, generator=WEIGHTS),
}


def between(
    read: str, written: str, *, coordinates: tuple[int, int], skip: bool = False
) -> Dictionary:
    """Read one site and explain another."""
    source, target = coordinates
    reading, writing = dictionary(read, source), dictionary(written, target)
    matrix = torch.randn(source, target, generator=GENERATOR) if skip else None
    return replace(
        writing,
        look=Look((read,), (written,), "auto"),
        encoder=reading.encoder,
        source=reading.source,
        skip=matrix,
    )


def crosscoder() -> Dictionary:
    """Explain two sites of 6 and 8 coordinates at once, each with a scale of its own."""
    whole = dictionary("flat", 14)
    frame = replace(whole.source, scale=torch.tensor([2.0] * 6 + [3.0] * 8))
    sites = ("flat", "map")
    return replace(
        whole, look=Look(sites, sites, "auto"), source=frame, target=frame, widths=(6, 8)
    )


def attention_block(pooling: Pooling) -> AttentionBlock:
    """Read a sequence and explain another of as many positions."""
    shapes = {
        "query": (5, 3, 2),
        "query_bias": (5, 2),
        "key": (5, 3, 2),
        "key_bias": (5, 2),
        **dict.fromkeys(("gate_query", "gate_key", "value"), (5, 3)),
        **dict.fromkeys(("gate_query_bias", "gate_key_bias", "value_bias", "floor"), (5,)),
        "output": (5, 4),
    }
    heads = Heads(**{n: torch.randn(shape, generator=GENERATOR) for n, shape in shapes.items()})
    source, target = (Frame(torch.randn(n, generator=GENERATOR), torch.tensor(2.0)) for n in (3, 4))
    look = Look(("sequence",), ("written",), pooling)
    return AttentionBlock(look, heads, source, target, is_causal=True)


def parameters(pooling: PositionPooling) -> ParameterDecomposition:
    """Take layers apart that are given vectors, sequences, patches of maps, and tokens."""
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(6, 5),
            "each": nn.Linear(3, 4),
            "filters": nn.Conv2d(4, 3, 2, stride=2, padding=1),
            "tokens": nn.Embedding(7, 6),
        }
    )
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=WEIGHTS)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=WEIGHTS)

    c, hidden = 9, 4
    scalar = ScalarImportance(drawn(c, hidden), drawn(c, hidden), drawn(c, hidden), drawn(c))
    made: dict[str, ImportanceFunction] = {
        "linear": scalar,
        "each": SharedImportance(drawn(3, hidden), drawn(hidden), drawn(hidden, c), drawn(c)),
        "filters": VectorImportance(
            drawn(c, 16, hidden), drawn(c, hidden), drawn(c, hidden), drawn(c)
        ),
        "tokens": scalar,
    }
    layers = [matrix_layer(model, name) for name in made]
    parts = [
        Subcomponents(one, drawn(one.source, c), 0.2 * drawn(c, one.target), made[one.name])
        for one in layers
    ]
    return ParameterDecomposition.of(model, parts, pooling=pooling)


def two_layers() -> nn.Module:
    """Draw a network of two layers."""
    model = nn.Sequential()
    model.add_module("first", nn.Linear(6, 5))
    model.add_module("between", nn.Tanh())
    model.add_module("second", nn.Linear(5, 4))
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=WEIGHTS)
    return model


def by_attribution(rule: Rule) -> ApdDecomposition:
    """Take both layers of a network into nine components of rank two."""
    model = two_layers()
    layers = [matrix_layer(model, name) for name in ("first", "second")]
    found = {}
    for one in layers:
        left, values, right = torch.linalg.svd(matrix_of(model, one), full_matrices=False)
        a = 0.1 * torch.randn(9, one.source, 2, generator=WEIGHTS)
        b = 0.1 * torch.randn(9, 2, one.target, generator=WEIGHTS)
        a[0], b[0] = left[:, :2] * values[:2], right[:2]
        found[one.name] = Factors(one, a, b)
    return ApdDecomposition.of(model, found, rule)


def masked(distance: Distance) -> Decomposition:
    """Take the first of two layers apart, and look at what the pieces alone would answer."""
    model = two_layers()
    layer, c, hidden = matrix_layer(model, "first"), 9, 4
    w_in, b_in, w_out = (torch.randn(c, hidden, generator=WEIGHTS) for _ in range(3))
    scalar = ScalarImportance(w_in, b_in, w_out, torch.randn(c, generator=WEIGHTS))
    v, u = (torch.randn(*shape, generator=WEIGHTS) for shape in ((6, c), (c, 5)))
    pieces = ParameterDecomposition.of(model, [Subcomponents(layer, v, 0.2 * u, scalar)])
    return with_masked_output(pieces, model, distance)


DECOMPOSITIONS: dict[str, Decomposition] = {
    "topk": dictionary("flat", 6),
    "topk of a map": dictionary("map", 8),
    "switch": switch("flat", 6),
    "meta": meta(dictionary("flat", 6)),
    "bilinear": bilinear(),
    "unexplained": Unexplained("sequence"),
    "topk of another view": looking(dictionary("sequence", 3), pooling="max", suffix="max"),
    "joined": Joined((dictionary("flat", 6), Unexplained("map"), dictionary("sequence", 3))),
    "transcoder": between("flat", "map", coordinates=(6, 8)),
    "skip transcoder": between("flat", "map", coordinates=(6, 8), skip=True),
    "crosscoder": crosscoder(),
    "attention block": attention_block("last"),
    "attention block of the mean": attention_block("mean"),
    "two views of one site": Joined(
        (
            Unexplained("sequence"),
            dictionary("flat", 6),
            looking(dictionary("sequence", 3), pooling="max", suffix="max"),
        )
    ),
    "parameters": parameters("mean"),
    "parameters at the last position": parameters("last"),
    "attribution above thresholds": by_attribution(Above(torch.full((9,), 1e-3))),
    "largest attributions": by_attribution(Largest(2)),
    "masked": masked("mse"),
    "masked with labels": masked("kl"),
}


@pytest.fixture(params=DECOMPOSITIONS)
def decomposition(request: pytest.FixtureRequest) -> Decomposition:
    return DECOMPOSITIONS[request.param]


def entries(activity: Activity, row: int) -> Tensor:
    return activity.row(row).components


def test_every_view_has_one_activity_a_batch(decomposition: Decomposition) -> None:
    activity = decomposition.activity(ACTIVATIONS)
    assert tuple(activity) == tuple(decomposition.views)
    assert {len(of_view) for of_view in activity.values()} == {40}


def test_views_are_of_the_sites_and_bear_their_names(decomposition: Decomposition) -> None:
    # A site may also be read without being explained.
    viewed = tuple(dict.fromkeys(decomposition.views.values()))
    assert decomposition.sites[: len(viewed)] == viewed
    for view, site in decomposition.views.items():
        assert view.partition(":")[0] == site


def test_only_the_sites_are_read(decomposition: Decomposition) -> None:
    alone = {site: ACTIVATIONS[site] for site in decomposition.sites}
    for view, activity in decomposition.activity(alone).items():
        expected = decomposition.activity(ACTIVATIONS)[view].residual
        assert torch.equal(activity.residual, expected)


def test_components_are_ascending_distinct_and_active(decomposition: Decomposition) -> None:
    for activity in decomposition.activity(ACTIVATIONS).values():
        assert (activity.magnitudes != 0).all()
        for row in range(len(activity)):
            components = entries(activity, row)
            assert (components.diff() > 0).all()
            assert ((components >= 0) & (components < activity.num_components)).all()


def test_an_input_has_the_same_activity_alone_and_in_a_batch(decomposition: Decomposition) -> None:
    together = decomposition.activity(ACTIVATIONS)
    for row in range(40):
        alone = decomposition.activity({s: a[row : row + 1] for s, a in ACTIVATIONS.items()})
        for view, activity in alone.items():
            assert torch.equal(activity.components, entries(together[view], row))
            torch.testing.assert_close(activity.magnitudes, together[view].row(row).magnitudes)
            torch.testing.assert_close(activity.residual, together[view].row(row).residual)


def test_the_fingerprint_is_stable_and_its_own(decomposition: Decomposition) -> None:
    assert decomposition.fingerprint == decomposition.fingerprint
    prints = {one.fingerprint for one in DECOMPOSITIONS.values()}
    assert len(prints) == len(DECOMPOSITIONS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_activations_of_another_precision_are_read(
    decomposition: Decomposition, dtype: torch.dtype
) -> None:
    activity = decomposition.activity({site: a.to(dtype) for site, a in ACTIVATIONS.items()})
    for view, expected in decomposition.activity(ACTIVATIONS).items():
        found = activity[view].residual.float()
        torch.testing.assert_close(found.mean(), expected.residual.mean(), rtol=0, atol=0.01)


def passed_on(decomposition: Decomposition, *, like: Tensor) -> Tensor:
    """Return what a skip makes of what is read."""
    if not isinstance(decomposition, Dictionary) or decomposition.skip is None:
        return torch.zeros_like(like)
    read = decomposition.source.normalised(decomposition.look.examples(ACTIVATIONS).source)
    return decomposition.target.scale * (read @ decomposition.skip)


def test_directions_and_residual_say_where_the_whole_activation_comes_from(
    decomposition: Decomposition,
) -> None:
    """Two inputs with the same part that is nobody's differ by their shares and residuals.

    Of a crosscoder the first view bears the components of all; what a skip passes on is nobody's.
    """
    found = decomposition.activity(ACTIVATIONS)
    for view, activity in found.items():
        explained = passed_on(decomposition, like=activity.activation)
        bearing = found[decomposition.view] if isinstance(decomposition, Dictionary) else activity
        if len(bearing.components):
            directions = decomposition.directions(view, bearing.components)
            shares = bearing.magnitudes.unsqueeze(1) * directions
            explained = explained.index_add(0, bearing.rows, shares)
        left = activity.activation - explained - activity.residual
        torch.testing.assert_close(left, left[:1].expand_as(left), rtol=0, atol=1e-5)


def test_a_change_that_is_spread_is_the_change_of_the_pooled_vector(
    decomposition: Decomposition,
) -> None:
    for view, activity in decomposition.activity(ACTIVATIONS).items():
        change = activity.activation.roll(1, dims=0) - activity.activation
        site = decomposition.views[view]
        added = decomposition.spread(view, change, ACTIVATIONS[site])
        assert added.shape == ACTIVATIONS[site].shape
        moved = decomposition.activity({**ACTIVATIONS, site: ACTIVATIONS[site] + added})[view]
        torch.testing.assert_close(moved.activation, activity.activation + change)


def test_topk_keeps_the_k_largest_positive_latents_and_leaves_the_rest() -> None:
    identity = torch.eye(4)
    plain = topk_dictionary(
        site="flat",
        pooling="auto",
        k=2,
        encoder=identity,
        bias=torch.zeros(4),
        decoder=identity,
        centre=torch.zeros(4),
        scale=torch.tensor(1.0),
    )
    x = torch.tensor([[3.0, -9.0, 1.0, 2.0], [-1.0, -2.0, 5.0, -3.0]])
    activity = plain.activity({"flat": x})["flat"]
    assert activity.offsets.tolist() == [0, 2, 3]
    assert activity.components.tolist() == [0, 3, 2]
    assert activity.magnitudes.tolist() == [3.0, 2.0, 5.0]
    assert activity.residual.tolist() == [[0.0, -9.0, 1.0, 0.0], [-1.0, -2.0, 0.0, -3.0]]


def test_reconstruction_and_residual_add_up_to_the_activation() -> None:
    one = dictionary("flat", 6)
    activity = one.activity(ACTIVATIONS)["flat"]
    latents = torch.zeros(40, 24)
    latents[activity.rows, activity.components] = activity.magnitudes
    rebuilt = one.target.restored(latents @ one.decoder) + activity.residual
    torch.testing.assert_close(rebuilt, ACTIVATIONS["flat"])


def test_a_dictionary_refuses_activations_of_another_width() -> None:
    with pytest.raises(ConfigError, match=r"7 coordinates .* trained on 6"):
        dictionary("flat", 6).activity({"flat": torch.ones(2, 7)})


def test_a_view_cannot_be_decomposed_twice() -> None:
    with pytest.raises(ConfigError, match=r"each view needs .* \('flat', 'flat'\)"):
        Joined((Unexplained("flat"), dictionary("flat", 6)))


def test_two_views_of_a_site_have_components_of_their_own() -> None:
    last = looking(dictionary("sequence", 3), pooling="last")
    highest = looking(dictionary("sequence", 3), pooling="max", suffix="max")
    joined = Joined((last, highest))
    assert joined.sites == ("sequence",)
    assert joined.views == {"sequence": "sequence", "sequence:max": "sequence"}
    activity = joined.activity(ACTIVATIONS)
    assert torch.equal(activity["sequence"].activation, ACTIVATIONS["sequence"][:, -1])
    assert torch.equal(activity["sequence:max"].activation, ACTIVATIONS["sequence"].amax(dim=1))
    wanted = torch.tensor([4])
    for view, own in (("sequence", last), ("sequence:max", highest)):
        assert torch.equal(joined.directions(view, wanted), own.directions(view, wanted))


def test_the_fingerprint_knows_the_view() -> None:
    one = dictionary("flat", 6)
    assert looking(one, suffix="again").fingerprint != one.fingerprint
