"""A parameter decomposition of a small model: shares worked out by hand, and files that bind."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mad.components.parameters.decomposition import ParameterDecomposition, PositionPooling
from mad.components.parameters.files import load_parameters, load_seen, save_parameters
from mad.components.parameters.importance import ScalarImportance, VectorImportance
from mad.components.parameters.layers import matrix_layer
from mad.components.parameters.subcomponents import Subcomponents
from mad.errors import ConfigError
from mad.types import Activity

SEEN = torch.tensor([3, 5])


def needed_from(floors: list[float]) -> ScalarImportance:
    """Return importance that exceeds 0.1 where twice the size of the inner activation does so.

    Two units a subcomponent, far from their bends: ``2 |h| - floor``.
    """
    c = len(floors)
    w_in = torch.tensor([[200.0, -200.0]]).expand(c, 2).clone()
    w_out = torch.full((c, 2), 0.01)
    return ScalarImportance(w_in, torch.zeros(c, 2), w_out, -torch.tensor(floors))


def model() -> nn.Sequential:
    """Return a layer that doubles the first of two numbers and triples the second."""
    found = nn.Sequential(nn.Linear(2, 2))
    found[0].weight.data = torch.diag(torch.tensor([2.0, 3.0]))
    found[0].bias.data = torch.tensor([10.0, 20.0])
    return found


def taken_apart(module: nn.Module, pooling: PositionPooling = "mean") -> ParameterDecomposition:
    """Return one subcomponent for each number, of which the second is a third too weak."""
    parts = Subcomponents(
        matrix_layer(module, "0"),
        torch.tensor([[1.0, 0.0], [0.0, -1.0]]),
        torch.tensor([[2.0, 0.0], [0.0, -2.0]]),
        needed_from([0.1, 0.1]),
    )
    return ParameterDecomposition.of(module, [parts], pooling=pooling)


def activity_of(x: Tensor, pooling: PositionPooling = "mean") -> Activity:
    """Return the activity of the model above on some inputs."""
    module = model()
    with torch.no_grad():
        written = module(x)
        return taken_apart(module, pooling).activity({"0<": x, "0": written})["0"]


def test_shares_are_inner_activations_times_rows_and_the_rest_is_residual() -> None:
    """Importance is 2 |h| - 0.1, so 0.1 is needed from |h| = 0.1 on."""
    found = activity_of(torch.tensor([[1.0, 0.5], [0.09, 0.5], [0.0, 0.0]]))
    assert found.components.tolist() == [0, 1, 1]
    assert found.offsets.tolist() == [0, 2, 3, 3]
    # The second reads -h and writes -2: its direction is (0, -1).
    torch.testing.assert_close(found.magnitudes, torch.tensor([2.0, -1.0, -1.0]))
    torch.testing.assert_close(found.residual, torch.tensor([[0.0, 0.5], [0.18, 0.5], [0.0, 0.0]]))
    assert taken_apart(model()).directions("0", torch.tensor([1])).tolist() == [[0.0, -1.0]]


def test_of_positions_the_mean_is_explained_and_any_position_makes_active() -> None:
    sequence = torch.tensor([[[1.0, 0.0], [0.05, 0.0], [3.0, 0.3]]])
    mean = activity_of(sequence, "mean")
    assert mean.components.tolist() == [0, 1]
    torch.testing.assert_close(mean.magnitudes, torch.tensor([8 / 3, -0.2]))
    torch.testing.assert_close(mean.residual, torch.tensor([[0.1 / 3, 0.1]]))
    last = activity_of(sequence.flip(1), "last")
    assert last.components.tolist() == [0]
    torch.testing.assert_close(last.magnitudes, torch.tensor([2.0]))


def test_shares_that_cancel_are_still_a_use() -> None:
    found = activity_of(torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]]))
    assert found.components.tolist() == [0]
    torch.testing.assert_close(found.residual, torch.zeros(1, 2))


def test_what_the_pieces_miss_of_a_matrix_is_known() -> None:
    (layer,) = taken_apart(model()).layers
    assert layer.missed == pytest.approx(1 / 13)


def test_files_give_the_decomposition_back(tmp_path: Path) -> None:
    module = nn.ModuleDict({"conv": nn.Conv2d(2, 3, 2), "0": model()[0]})
    layer = matrix_layer(module, "conv")
    vector = VectorImportance(*(torch.randn(*s) for s in ((4, 8, 2), (4, 2), (4, 2), (4,))))
    own = taken_apart(module)
    parts = Subcomponents(layer, torch.randn(8, 4), torch.randn(4, 3), vector)
    whole = ParameterDecomposition.of(
        module, [own.layers[0].parts, parts], threshold=0.01, pooling="last"
    )
    save_parameters(tmp_path, whole, seen=SEEN)
    read = load_parameters(tmp_path)
    assert read.fingerprint == whole.fingerprint
    assert (read.threshold, read.pooling, read.views) == (0.01, "last", whole.views)
    assert [one.missed for one in read.layers] == [one.missed for one in whole.layers]
    assert load_seen(tmp_path).tolist() == SEEN.tolist()
    read.check_model(module)


def test_a_doctored_file_is_refused(tmp_path: Path) -> None:
    save_parameters(tmp_path, taken_apart(model()), seen=SEEN)
    index = tmp_path / "parameters.json"
    good = index.read_text()
    changes = {
        '"threshold": 0.1': ('"threshold": 0.2', "was changed"),
        '"target": 2': ('"target": 3', "does not hold"),
        '"scalar"': ('"oracle"', "'oracle' is none of scalar, vector, shared"),
        '"parameters-000.safetensors"': (
            '"../parameters-000.safetensors"',
            "outside the directory",
        ),
        '"mean"': ('"median"', "pooling 'median' is none of mean, last"),
        '"format": 1': ('"format": 9', "has format 9"),
        json.dumps(json.loads(good)["layers"][0]["matrix_digest"]): ('"ab"', "was changed"),
    }
    for old, (new, complaint) in changes.items():
        index.write_text(good.replace(old, new))
        with pytest.raises(ConfigError, match=complaint):
            load_parameters(tmp_path)
    index.write_text(good[:-9])
    with pytest.raises(ConfigError, match="no index of a decomposition"):
        load_parameters(tmp_path)


def test_another_model_is_refused() -> None:
    own = taken_apart(model())
    moved = model()
    moved.get_parameter("0.weight").data[0, 0] += 1e-6
    with pytest.raises(ConfigError, match="layer '0' of the model has other weights"):
        own.check_model(moved)
    with pytest.raises(ConfigError, match=r"source=4.*decomposition is of .*source=2"):
        own.check_model(nn.Sequential(nn.Linear(4, 2)))
    with pytest.raises(ConfigError, match="no module named '0'"):
        own.check_model(nn.ModuleDict({"other": nn.Linear(2, 2)}))
