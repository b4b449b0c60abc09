"""The arithmetic of dictionaries: the same latents as dense tables give, and exact gradients."""

from collections.abc import Callable, Iterator

import pytest
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from mad.components.dictionaries import screen, sparse
from mad.components.dictionaries.kernels import (
    by_component,
    largest,
    largest_among,
    thresholded,
    to_unit_length,
)
from mad.components.dictionaries.screen import Screen, fans_of, is_worthwhile, piece

COORDINATES, WIDTH, ACTIVE = 128, 8_192, 8


def drawn(*sizes: int) -> Float[Tensor, "..."]:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes)))


def weights() -> tuple[Float[Tensor, "source component"], Float[Tensor, " component"]]:
    weight = functional.normalize(drawn(COORDINATES, WIDTH), dim=0)
    return by_component(weight), 0.1 * drawn(WIDTH)


def dense_largest(
    source: Float[Tensor, "batch source"],
    weight: Float[Tensor, "source component"],
    bias: Float[Tensor, " component"],
    k: int,
) -> tuple[Float[Tensor, "batch k"], Int64[Tensor, "batch k"]]:
    values, components = (source.double() @ weight.double() + bias).topk(k, dim=1)
    components, order = components.sort(dim=1)
    return values.gather(1, order).float(), components


def unscreened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processor have no fast products in half precision."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    screen.has_bfloat16.cache_clear()


@pytest.fixture(params=["as the processor can", "unscreened"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "unscreened":
        unscreened(monkeypatch)
    yield
    screen.has_bfloat16.cache_clear()


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("batch", [1, 7, 64, 600])
def test_the_largest_are_those_of_a_dense_table(batch: int) -> None:
    weight, bias = weights()
    source = drawn(batch, COORDINATES)
    values, components = largest(source, weight, bias, ACTIVE)
    expected, dense = dense_largest(source, weight, bias, ACTIVE)
    assert torch.equal(components, dense)
    torch.testing.assert_close(values, expected)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("lie", [by_component, Tensor.contiguous], ids=["rows", "columns"])
def test_those_above_a_threshold_are_those_of_a_dense_table(
    lie: Callable[[Tensor], Tensor],
) -> None:
    weight, bias = weights()
    source = drawn(600, COORDINATES)
    threshold = 2.0 + drawn(WIDTH).abs()
    latents = thresholded(source, lie(weight), bias, threshold)
    dense = source.double() @ weight.double() + bias
    expected = torch.where(dense > threshold, dense, 0.0).float()
    torch.testing.assert_close(latents.dense(WIDTH), expected)
    assert torch.equal(latents.offsets.diff(), (expected != 0).sum(dim=1))


def test_a_threshold_that_nearly_all_exceed_is_answered_exactly_too() -> None:
    weight, bias = weights()
    source = drawn(100, COORDINATES)
    latents = thresholded(source, weight, bias, torch.full((WIDTH,), -1.0))
    dense = source.double() @ weight.double() + bias
    expected = torch.where(dense > -1.0, dense, 0.0).float()
    torch.testing.assert_close(latents.dense(WIDTH), expected)


def test_thresholds_at_infinity_silence() -> None:
    weight, bias = weights()
    latents = thresholded(drawn(100, COORDINATES), weight, bias, torch.full((WIDTH,), torch.inf))
    assert latents.components.numel() == 0
    assert len(latents) == 100


@pytest.mark.usefixtures("route")
def test_values_do_not_depend_on_companions_in_the_last_place() -> None:
    weight, bias = weights()
    source = drawn(100, COORDINATES)
    together, components = largest(source, weight, bias, ACTIVE)
    for row in (0, 50, 99):
        alone, own = largest(source[row : row + 1], weight, bias, ACTIVE)
        assert torch.equal(own, components[row : row + 1])
        assert torch.equal(alone, together[row : row + 1])


def test_equal_components_are_chosen_among_as_often_as_there_is_room() -> None:
    weight, bias = weights()
    # Every component stands four times, so that the last place is always tied.
    weight = by_component(weight[:, : WIDTH // 4].repeat(1, 4))
    bias = bias[: WIDTH // 4].repeat(4)
    source = drawn(100, COORDINATES)
    values, components = largest(source, weight, bias, ACTIVE - 2)
    expected, _ = (source.double() @ weight.double() + bias).topk(ACTIVE - 2, dim=1)
    torch.testing.assert_close(values.sort(dim=1, descending=True).values, expected.float())
    assert (components.diff(dim=1) > 0).all()


def test_of_vectors_of_zeros_some_components_are_chosen() -> None:
    weight, _ = weights()
    values, components = largest(torch.zeros(100, COORDINATES), weight, torch.zeros(WIDTH), ACTIVE)
    assert torch.equal(values, torch.zeros(100, ACTIVE))
    assert (components.diff(dim=1) > 0).all()


def test_all_components_are_chosen_where_k_is_their_number() -> None:
    weight, bias = drawn(5, 12), drawn(12)
    source = drawn(3, 5)
    values, components = largest(source, weight, bias, 12)
    assert torch.equal(components, torch.arange(12).expand(3, 12))
    torch.testing.assert_close(values, source @ weight + bias)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_vector_that_is_no_number_spoils_only_itself(broken: float) -> None:
    weight, bias = weights()
    source = drawn(100, COORDINATES)
    whole, components = largest(source, weight, bias, ACTIVE)
    source = source.clone()
    source[3, 5] = broken
    values, chosen = largest(source, weight, bias, ACTIVE)
    others = torch.arange(100) != 3
    assert torch.equal(values[others], whole[others])
    assert torch.equal(chosen[others], components[others])
    assert not values[3].isfinite().all()


def test_weights_changed_in_place_are_screened_anew() -> None:
    weight, bias = weights()
    source = drawn(100, COORDINATES)
    largest(source, weight, bias, ACTIVE)
    weight.mul_(-1.0)
    assert torch.equal(
        largest(source, weight, bias, ACTIVE)[1], dense_largest(source, weight, bias, ACTIVE)[1]
    )
    bias[17] = 1e3
    assert (largest(source, weight, bias, ACTIVE)[1] == 17).any(dim=1).all()


def test_trained_weights_are_screened_anew_though_their_optimiser_tells_nothing() -> None:
    weight, bias = weights()
    weight.requires_grad_()
    source = drawn(100, COORDINATES)
    optimiser = torch.optim.Adam([weight], lr=0.1, fused=True)
    for _ in range(2):
        values, components = largest(source, weight, bias, ACTIVE)
        expected = dense_largest(source, weight.detach(), bias, ACTIVE)[1]
        assert torch.equal(components, expected)
        values.sum().backward()
        optimiser.step()


def test_no_candidate_is_missed_by_products_in_half_precision() -> None:
    weight, bias = weights()
    source = drawn(300, COORDINATES)
    made = Screen.of(weight, bias, fans=fans_of(WIDTH, ACTIVE))
    dense = dense_largest(source, weight, bias, ACTIVE)[1]
    for number, found in enumerate(made.largest(source, ACTIVE)):
        some = dense[number * piece(WIDTH) :][: piece(WIDTH)]
        marked = torch.zeros(len(some), len(made.rows), dtype=torch.bool)
        marked[found.rows, found.components] = True
        assert marked.gather(1, some)[~found.unsure].all()
        assert len(found.rows) < 0.1 * marked.numel()


@pytest.mark.parametrize("width", [100, 16_384, 131_072, 10_000_000])
def test_tables_of_vectors_by_components_stay_small(width: int) -> None:
    # 64 vectors at least: fewer would read the weights again and again.
    assert piece(width) * width <= max(2**22, 64 * width)


def test_a_long_batch_is_answered_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias = weights()
    heights: list[int] = []
    multiply = torch.addmm

    def watched(bias: Tensor, left: Tensor, right: Tensor) -> Tensor:
        heights.append(len(left))
        return multiply(bias, left, right)

    unscreened(monkeypatch)
    monkeypatch.setattr(torch, "addmm", watched)
    largest(drawn(3_000, COORDINATES), weight, bias, ACTIVE)
    screen.has_bfloat16.cache_clear()
    assert sum(heights) == 3_000
    assert max(heights) <= piece(WIDTH)


def test_small_weights_and_double_precision_are_not_screened() -> None:
    weight, _ = weights()
    assert not is_worthwhile(drawn(100, 4), drawn(4, 64), 4)
    assert not is_worthwhile(drawn(100, COORDINATES).double(), weight.double(), ACTIVE)
    assert not is_worthwhile(drawn(1, COORDINATES), weight, ACTIVE)


def test_gradients_of_the_largest_are_those_of_a_dense_table() -> None:
    weight, bias = weights()
    source = drawn(100, COORDINATES)
    ours = [one.clone().requires_grad_() for one in (source, weight, bias)]
    theirs = [one.clone().requires_grad_() for one in (source, weight, bias)]
    values, _ = largest(ours[0], ours[1], ours[2], ACTIVE)
    values.square().sum().backward()
    table = theirs[0] @ theirs[1] + theirs[2]
    table.topk(ACTIVE, dim=1).values.square().sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_gradients_of_those_above_a_threshold_are_those_of_a_dense_table() -> None:
    weight, bias = weights()
    source, threshold = drawn(100, COORDINATES), torch.full((WIDTH,), 2.5)
    ours = [one.clone().requires_grad_() for one in (source, weight, bias)]
    theirs = [one.clone().requires_grad_() for one in (source, weight, bias)]
    thresholded(ours[0], ours[1], ours[2], threshold).values.square().sum().backward()
    table = theirs[0] @ theirs[1] + theirs[2]
    (table * (table > threshold)).square().sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_the_largest_among_some_are_those_of_their_own_table() -> None:
    weight, bias = weights()
    source, among = drawn(100, COORDINATES), torch.arange(5, WIDTH, 7)
    values, components = largest_among(source, weight, bias, among, ACTIVE)
    expected, chosen = dense_largest(source, weight[:, among], bias[among], ACTIVE)
    components, order = components.sort(dim=1)
    assert torch.equal(components, among[chosen])
    torch.testing.assert_close(values.gather(1, order), expected)
    assert largest_among(source, weight, bias, among[:3], ACTIVE)[1].shape == (100, 3)


OFFSETS = torch.tensor([0, 2, 2, 5, 6, 8])
COMPONENTS = torch.tensor([1, 3, 0, 1, 6, 2, 1, 5])


def leaf(*sizes: int) -> Float[Tensor, "..."]:
    return drawn(*sizes).double().requires_grad_()


def test_gradients_of_sums_of_directions_are_finite_differences() -> None:
    def summed(values: Tensor, directions: Tensor) -> Tensor:
        return sparse.added(values, COMPONENTS, OFFSETS, directions)

    assert torch.autograd.gradcheck(summed, (leaf(8), leaf(7, 4)))


def test_gradients_of_products_are_finite_differences() -> None:
    def multiplied(vectors: Tensor, directions: Tensor) -> Tensor:
        return sparse.products(vectors, COMPONENTS, OFFSETS, directions)

    assert torch.autograd.gradcheck(multiplied, (leaf(5, 4), leaf(7, 4)))


def test_gradients_reach_the_source_through_everything() -> None:
    weight, bias, decoder = leaf(4, 7), leaf(7), leaf(7, 3)

    def reconstruct(source: Tensor) -> Tensor:
        values, components = largest(source, weight, bias, 2)
        offsets = torch.arange(0, components.numel() + 1, 2)
        return sparse.added(values.flatten(), components.flatten(), offsets, decoder)

    assert torch.autograd.gradcheck(reconstruct, (leaf(5, 4),))


def test_gradients_of_many_components_are_summed_in_pieces_without_a_seam() -> None:
    width = 2 * sparse.PIECE + 5
    components = torch.arange(0, width, 3)
    offsets = torch.tensor([0, len(components) // 2, len(components)])
    values, directions = drawn(len(components)), drawn(width, 4).requires_grad_()
    sparse.added(values, components, offsets, directions).sum().backward()
    expected = torch.zeros(width, 4)
    expected[components] = values.unsqueeze(1).expand(-1, 4)
    assert directions.grad is not None
    torch.testing.assert_close(directions.grad, expected)


def test_spare_memory_is_used_again_and_only_when_given() -> None:
    spare, directions = sparse.Spare(), drawn(7, 4).requires_grad_()

    def gradient() -> Tensor:
        with spare.reused():
            sparse.added(drawn(8), COMPONENTS, OFFSETS, directions).sum().backward()
        assert directions.grad is not None
        return directions.grad

    first = gradient()
    expected, place = first.clone(), first.data_ptr()
    spare.keep([directions])
    assert directions.grad is None
    again = gradient()
    assert again.data_ptr() == place
    assert torch.equal(again, expected)
    # Not given back, so the next one is added to it rather than written over it.
    torch.testing.assert_close(gradient(), 2 * expected)


def test_no_vectors_have_no_latents() -> None:
    weight, bias = weights()
    assert largest(drawn(0, COORDINATES), weight, bias, ACTIVE)[0].shape == (0, ACTIVE)


def test_rows_become_as_long_as_one() -> None:
    directions = drawn(2_500, 6)
    expected = functional.normalize(directions, dim=1)
    to_unit_length(directions)
    torch.testing.assert_close(directions, expected)
