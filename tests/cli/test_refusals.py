"""A deployment whose files were tampered with does not start, and says which file and why.

Each file is read by what ``mad serve`` and ``mad fit`` read it with; nothing hidden in one is run.
"""

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mad.deployment import Deployment
from mad.errors import BaselineError, ConfigError, MadError
from tests.cli.conftest import Mad
from tests.unit.hostile import CODE, HEADERS, RAN, bomb, spoiled
from tests.worlds import CREATED, quiet, tiny_module

WEIGHTS = "model.safetensors"
DICTIONARY = "dictionaries/000.safetensors"
SEEN = "dictionaries/seen.safetensors"
ARRAYS = "baselines/default/1/arrays.safetensors"
MANIFEST = "baselines/default/1/manifest.json"
TENSORS = (WEIGHTS, DICTIONARY, ARRAYS)
GROWTH = 2**30
"""Bytes of memory that refusing a file may take, by far."""


@pytest.fixture
def folder(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of a deployment, which is the working directory too."""
    shutil.copytree(fitted.parent, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let the process grow by so much at most, so that a bomb ends in MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + GROWTH, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def load(folder: Path) -> None:
    """Load what a server loads."""
    Deployment.load(folder / "mad.toml").monitor()


def fit(folder: Path) -> None:
    """Fit, which reads what the dictionaries have seen before anything else."""
    deployment = Deployment.load(folder / "mad.toml")
    deployment.fit(deployment.trusted(), created=CREATED, progress=quiet)


def read_data(folder: Path) -> None:
    """Read trusted inputs, as a fit does."""
    data = Deployment.load(folder / "mad.toml").trusted()
    data.take(torch.arange(2))


def test_a_deployment_that_nobody_touched_is_loaded(folder: Path) -> None:
    load(folder)
    read_data(folder)


@pytest.mark.parametrize("hidden", CODE)
@pytest.mark.parametrize("file", TENSORS)
def test_code_under_the_name_of_numbers_is_refused_unopened(
    folder: Path, file: str, hidden: str
) -> None:
    (folder / file).write_bytes(CODE[hidden]())
    with pytest.raises(MadError, match=r"pickle|truncated or was changed"):
        load(folder)
    assert not (folder / RAN).exists()


@pytest.mark.parametrize("hidden", CODE)
@pytest.mark.parametrize("name", ["data.npz", "data.safetensors", "data.parquet", "data.pt2"])
def test_code_under_the_name_of_trusted_data_is_refused_unopened(
    folder: Path, name: str, hidden: str
) -> None:
    (folder / name).write_bytes(CODE[hidden]())
    settings = folder / "mad.toml"
    settings.write_text(settings.read_text().replace("trusted.npz", name))
    with pytest.raises(ConfigError, match=name):
        read_data(folder)
    assert not (folder / RAN).exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".pt2", ".bin"])
def test_weights_of_another_kind_are_refused_whatever_their_name(folder: Path, suffix: str) -> None:
    (folder / f"model{suffix}").write_bytes(CODE["a torch archive"]())
    settings = folder / "mad.toml"
    settings.write_text(settings.read_text().replace(WEIGHTS, f"model{suffix}"))
    with pytest.raises(ConfigError, match="looks like a pickle or a torch archive"):
        load(folder)
    assert not (folder / RAN).exists()


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize(("file", "read"), [(WEIGHTS, load), (DICTIONARY, load), (SEEN, fit)])
@pytest.mark.usefixtures("little_memory")
def test_a_header_bomb_is_refused_in_little_memory(
    folder: Path, file: str, read: Callable[[Path], None], header: str
) -> None:
    (folder / file).write_bytes(HEADERS[header])
    with pytest.raises(ConfigError, match=f"{file} is not a whole safetensors file"):
        read(folder)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.usefixtures("little_memory")
def test_a_header_bomb_as_trusted_data_is_refused_in_little_memory(
    folder: Path, header: str
) -> None:
    (folder / "data.safetensors").write_bytes(HEADERS[header].replace(b'"a"', b'"x"'))
    settings = folder / "mad.toml"
    settings.write_text(settings.read_text().replace("trusted.npz", "data.safetensors"))
    with pytest.raises(ConfigError, match=r"data\.safetensors"):
        read_data(folder)


@pytest.mark.parametrize("file", [*TENSORS, MANIFEST, "dictionaries/dictionaries.json"])
def test_a_file_larger_than_memory_is_refused_unread(folder: Path, file: str) -> None:
    with (folder / file).open("r+b") as opened:
        opened.truncate(2**42)
    with pytest.raises(MadError, match=r"takes 4398046511104 bytes of memory"):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("file", [WEIGHTS, DICTIONARY])
def test_numbers_that_are_not_finite_are_refused_with_their_tensor(
    folder: Path, file: str, value: float
) -> None:
    spoiled(folder / file, value)
    with pytest.raises(ConfigError, match=r"tensor '.*' holds NaN or infinite numbers"):
        load(folder)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
def test_no_element_type_hides_a_nan(folder: Path, dtype: torch.dtype) -> None:
    tensors = tiny_module().state_dict()
    tensors["0.bias"] = torch.full((16,), float("nan")).to(dtype)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ConfigError, match=r"tensor '0.bias' holds NaN"):
        load(folder)


def test_a_weight_that_overflows_in_the_module_s_own_type_is_refused(folder: Path) -> None:
    tensors = tiny_module().state_dict()
    tensors["0.bias"] = torch.full((16,), 1e300, dtype=torch.float64)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ConfigError, match=r"tensor '0.bias' has numbers too large"):
        load(folder)


def test_a_dictionary_that_was_edited_is_refused(folder: Path) -> None:
    tensors = load_file(folder / DICTIONARY)
    tensors["decoder"][0] += 0.01
    save_file(tensors, folder / DICTIONARY)
    with pytest.raises(ConfigError, match="was changed since it was written"):
        load(folder)


def test_weights_other_than_those_that_were_fitted_are_refused(folder: Path) -> None:
    tensors = tiny_module(seed=1).state_dict()
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(BaselineError, match="was fitted on another model"):
        load(folder)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"digest": NaN}', "1" * 10_000, "[]", '"'])
def test_a_manifest_that_is_no_manifest_is_refused(folder: Path, content: str) -> None:
    (folder / MANIFEST).write_text(content)
    with pytest.raises(BaselineError, match=r"manifest\.json is damaged"):
        load(folder)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"format": 3, "dictionaries": [[]]}', "[]"])
def test_an_index_that_is_no_index_is_refused(folder: Path, content: str) -> None:
    (folder / "dictionaries/dictionaries.json").write_text(content)
    with pytest.raises(ConfigError, match="is not an index of dictionaries"):
        load(folder)


def test_arrays_of_another_fit_with_their_own_digest_are_refused(folder: Path) -> None:
    tensors = load_file(folder / ARRAYS)
    tensors["references"] = tensors["references"] * 100
    save_file(tensors, folder / ARRAYS)
    with pytest.raises(BaselineError, match="truncated or was changed since the fit"):
        load(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    content = (folder / ARRAYS).read_bytes()
    manifest["arrays"] = {"sha256": sha256(content).hexdigest(), "bytes": len(content)}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BaselineError, match=r"manifest\.json was edited since the fit"):
        load(folder)


@pytest.mark.parametrize("shape", ["(1099511627776,)", "(4611686018427387904, 8)", "(600, 800)"])
@pytest.mark.usefixtures("little_memory")
def test_a_npz_that_promises_more_than_it_holds_is_refused(folder: Path, shape: str) -> None:
    bomb(folder / "trusted.npz", shape=shape, size=2**20)
    with pytest.raises(ConfigError, match=r"promises \d+ bytes of numbers and holds"):
        read_data(folder)


def test_a_npz_that_unpacks_to_more_than_memory_is_refused(folder: Path) -> None:
    """Of 2**42 bytes that the directory of the archive promises, none is written here."""
    bomb(folder / "trusted.npz", shape="(1099511627776,)", size=2**20)
    content = (folder / "trusted.npz").read_bytes()
    place = content.rindex(b"PK\x01\x02") + 24
    claimed = (0xFFFFFFF0).to_bytes(4, "little")
    (folder / "trusted.npz").write_bytes(content[:place] + claimed + content[place + 4 :])
    with pytest.raises(ConfigError, match=r"trusted\.npz"):
        read_data(folder)


@pytest.mark.parametrize("file", TENSORS)
def test_serve_and_fit_say_it_in_one_sentence(mad: Mad, folder: Path, file: str) -> None:
    (folder / file).write_bytes(HEADERS["a header of 2**40 bytes"])
    run = mad("serve", folder / "mad.toml", "--grpc-address", "127.0.0.1:0")
    assert run.code in (1, 2)
    assert Path(file).name in run.err
    assert "Traceback" not in run.err
