"""Named arrays on disk: three formats, one dataset, and every kind of bad file refused."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mad.arrays import Table, open_dataset
from mad.errors import ConfigError, InputError

IMAGE = torch.arange(60, dtype=torch.uint8).reshape(10, 2, 3)
LENGTH = torch.linspace(0, 1, 10, dtype=torch.float64)
ARRAYS = {"image": IMAGE, "length": LENGTH}


def write_npz(path: Path, arrays: dict[str, Tensor]) -> Path:
    file = path.with_suffix(".npz")
    members: dict[str, Any] = {name: array.numpy() for name, array in arrays.items()}
    np.savez_compressed(file, **members)
    return file


def write_safetensors(path: Path, arrays: dict[str, Tensor]) -> Path:
    file = path.with_suffix(".safetensors")
    save_file({name: array.contiguous() for name, array in arrays.items()}, file)
    return file


def write_parquet(path: Path, arrays: dict[str, Tensor]) -> Path:
    file = path.with_suffix(".parquet")
    columns = {name: parquet_column(array) for name, array in arrays.items()}
    pq.write_table(pa.table(columns), file, row_group_size=4)
    return file


def parquet_column(array: Tensor) -> pa.Array:
    column = pa.array(array.flatten().numpy())
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


Write = Callable[[Path, dict[str, Tensor]], Path]
FORMATS = pytest.mark.parametrize("write", [write_npz, write_safetensors, write_parquet])


def everything(count: int) -> Tensor:
    return torch.arange(count)


@FORMATS
def test_what_is_written_is_read_back_exactly(tmp_path: Path, write: Write) -> None:
    data = open_dataset([write(tmp_path / "a", ARRAYS)])
    found = data.take(everything(10))
    assert len(data) == 10
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert torch.equal(found[name], array)


@FORMATS
@pytest.mark.parametrize("rows", [[0], [9], [3, 4], [0, 3, 4, 8, 9], [2, 2, 7]])
def test_any_ascending_rows_can_be_taken(tmp_path: Path, write: Write, rows: list[int]) -> None:
    data = open_dataset([write(tmp_path / "a", ARRAYS)])
    found = data.take(torch.tensor(rows))
    assert torch.equal(found["image"], IMAGE[rows])
    assert torch.equal(found["length"], LENGTH[rows])


def test_files_of_any_format_are_concatenated_in_order(tmp_path: Path) -> None:
    writers: list[Write] = [write_npz, write_safetensors, write_parquet]
    files = [
        write(tmp_path / f"shard{number}", {name: array[rows] for name, array in ARRAYS.items()})
        for number, (write, rows) in enumerate(
            zip(writers, [slice(0, 3), slice(3, 4), slice(4, 10)], strict=True)
        )
    ]
    data = open_dataset(files)
    assert len(data) == 10
    assert torch.equal(data.take(torch.tensor([2, 3, 9]))["image"], IMAGE[[2, 3, 9]])


@FORMATS
@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8],
)
def test_element_types_are_kept(tmp_path: Path, write: Write, dtype: torch.dtype) -> None:
    data = open_dataset([write(tmp_path / "a", {"x": torch.ones(3, 2, dtype=dtype)})])
    assert data.take(everything(3))["x"].dtype == dtype


def test_only_the_named_arrays_are_read(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "a", {"image": IMAGE, "label": torch.arange(3)})
    data = open_dataset([file], names=["image"])
    assert data.take(torch.tensor([1])).keys() == {"image"}


@FORMATS
def test_a_missing_array_is_named_with_those_there_are(tmp_path: Path, write: Write) -> None:
    file = write(tmp_path / "a", ARRAYS)
    with pytest.raises(ConfigError, match=r"no array 'pixels'; the file holds 'image', 'length'"):
        open_dataset([file], names=["pixels"])


@FORMATS
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused_with_its_row(
    tmp_path: Path, write: Write, number: float
) -> None:
    broken = torch.zeros(10, 2)
    broken[7, 1] = number
    data = open_dataset([write(tmp_path / "a", {"x": broken})])
    data.take(torch.tensor([0, 6, 8]))
    with pytest.raises(ConfigError, match=r"array 'x' has NaN or infinity in row 7"):
        data.take(torch.tensor([6, 7, 8]))


@FORMATS
@pytest.mark.parametrize("size", [0, 5, 200])
def test_a_truncated_file_is_refused_when_opened(tmp_path: Path, write: Write, size: int) -> None:
    file = write(tmp_path / "a", ARRAYS)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ConfigError, match=r"a\.\w+ is truncated or no"):
        open_dataset([file])


def test_a_npz_whose_array_is_damaged_is_refused_when_read(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "a", {"x": torch.rand(100)})
    content = bytearray(file.read_bytes())
    content[200:220] = bytes(20)
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.npz"):
        open_dataset([file]).take(torch.tensor([0]))


@FORMATS
def test_no_row_at_all_is_refused(tmp_path: Path, write: Write) -> None:
    with pytest.raises(ConfigError, match=r"'x' has shape \(0, 2\), which holds nothing"):
        open_dataset([write(tmp_path / "a", {"x": torch.zeros(0, 2)})])


@pytest.mark.parametrize("write", [write_npz, write_safetensors])
def test_arrays_of_two_lengths_are_refused(tmp_path: Path, write: Write) -> None:
    file = write(tmp_path / "a", {"x": torch.zeros(4), "y": torch.zeros(5)})
    with pytest.raises(ConfigError, match=r"differ in length \('x' 4, 'y' 5\)"):
        open_dataset([file])


@pytest.mark.parametrize("write", [write_npz, write_safetensors])
def test_a_single_number_is_no_array_of_inputs(tmp_path: Path, write: Write) -> None:
    with pytest.raises(ConfigError, match="'x' is a single number"):
        open_dataset([write(tmp_path / "a", {"x": torch.tensor(1.0)})])


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"x": torch.zeros(2, 3)}, r"'x' is float32\[3\] in the one and float32\[2\]"),
        ({"x": torch.zeros(2, 2).double()}, r"'x' is float64\[2\] in the one and float32\[2\]"),
        ({"y": torch.zeros(2, 2)}, r"'x' is no such array in the one"),
    ],
)
def test_shards_that_differ_are_refused(
    tmp_path: Path, other: dict[str, Tensor], named: str
) -> None:
    files = [
        write_npz(tmp_path / "first", {"x": torch.zeros(2, 2)}),
        write_safetensors(tmp_path / "second", other),
    ]
    with pytest.raises(ConfigError, match=rf"second\.safetensors and .*first\.npz.*{named}"):
        open_dataset(files)


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.array(["a", "b"]), "holds str"),
        (np.array([1 + 2j]), "holds complex128"),
        (np.array([1.0], dtype=">f8"), "holds >f8"),
        (np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]), "holds void"),
    ],
)
def test_an_element_type_no_model_takes_is_refused(
    tmp_path: Path, array: np.ndarray, named: str
) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, x=array)
    with pytest.raises(ConfigError, match=f"array 'x' {named}.*; store it as one of float16"):
        open_dataset([file])


@pytest.mark.parametrize(
    ("column", "named"),
    [
        (pa.array(["a"]), "holds string"),
        (pa.array([[1.0]]), "holds list<"),
        (pa.array([1.0, None, 3.0]), "'x' has no value in row 1"),
        (pa.array([[1, 2], None], pa.list_(pa.int64(), 2)), "'x' has no value in row 1"),
        (pa.array([[1, 2], [1, None]], pa.list_(pa.int64(), 2)), "'x' has no value in row 1"),
    ],
)
def test_a_parquet_column_that_is_no_array_is_refused(
    tmp_path: Path, column: pa.Array, named: str
) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": column}), file)
    with pytest.raises(ConfigError, match=named):
        open_dataset([file]).take(torch.tensor([0]))


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".pth"])
def test_a_pickle_is_refused_by_its_suffix(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.touch()
    with pytest.raises(ConfigError, match=r"never read: store the arrays as \.npz"):
        open_dataset([file])


class Bomb:
    """A pickle that would call ``exit`` on being read."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return sys.exit, (1,)


def test_objects_inside_a_npz_are_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, x=np.array([Bomb()], dtype=object))
    with pytest.raises(ConfigError, match="'x' holds Python objects, which only a pickle"):
        open_dataset([file])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_a_pickle_under_a_false_name_is_refused_unread(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ConfigError, match="is truncated or no"):
        open_dataset([file])


@pytest.mark.parametrize(("suffix", "named"), [(".npz", "no array"), (".safetensors", "zip")])
def test_a_torch_archive_under_a_false_name_is_refused_unread(
    tmp_path: Path, suffix: str, named: str
) -> None:
    file = tmp_path / f"a{suffix}"
    torch.save({"x": torch.zeros(2)}, file)
    with pytest.raises(ConfigError, match=f"{named}.*never read"):
        open_dataset([file])


@pytest.mark.parametrize(
    ("name", "named"), [("a.csv", "suffix '.csv'"), ("gone.npz", "is not a file")]
)
def test_a_path_that_is_no_data_file_is_refused(tmp_path: Path, name: str, named: str) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(ConfigError, match=named):
        open_dataset([tmp_path / name])


def test_a_file_without_arrays_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no array"):
        open_dataset([write_npz(tmp_path / "a", {})])


def test_no_files_are_refused() -> None:
    with pytest.raises(ConfigError, match="no data files"):
        open_dataset([])


def test_parquet_without_its_extra_names_the_extra(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a", ARRAYS)
    script = (
        "import sys, pathlib\n"
        "sys.modules['pyarrow'] = None\n"
        "from mad.arrays import open_dataset\n"
        f"open_dataset([pathlib.Path({str(file)!r})])\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert b"ConfigError" in run.stderr
    assert b"install mad[parquet]" in run.stderr


@pytest.mark.slow
def test_reading_a_few_rows_of_safetensors_leaves_the_rest_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "big.safetensors"
    save_file({"x": torch.zeros(400_000, 256)}, file)
    script = (
        "import pathlib, resource, torch\n"
        "from mad.arrays import open_dataset\n"
        f"data = open_dataset([pathlib.Path({str(file)!r})])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "data.take(torch.arange(1000))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert int(run.stdout) < 40  # megabytes, of a file of 400


def test_a_table_takes_rows_of_arrays_in_memory() -> None:
    table = Table(ARRAYS)
    assert len(table) == 10
    assert torch.equal(table.take(torch.tensor([1, 5]))["image"], IMAGE[[1, 5]])


@pytest.mark.parametrize("arrays", [{}, {"x": torch.zeros(2), "y": torch.zeros(3)}])
def test_a_table_needs_arrays_of_one_length(arrays: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match="arrays of one length"):
        Table(arrays)
