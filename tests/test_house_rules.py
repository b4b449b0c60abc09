"""Rules of the house that no linter knows."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mad
from mad.cli.main import app
from mad.config import Attributions, Parameters, Section, Settings

PACKAGE = Path(mad.__file__).parent
ROOT = PACKAGE.parent
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "v1" not in path.parents]
MAX_LINES = 300
# What can run code when it reads a file.
UNSAFE = re.compile(
    r"^\s*(import|from) (pickle|marshal|shelve|dill|joblib|cloudpickle)\b"
    r"|torch\.load\(|allow_pickle=True|weights_only=False|\beval\(\w*compile|\bexec\(",
    re.MULTILINE,
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_fits_on_a_few_screens_and_says_what_it_is(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= MAX_LINES
    assert ast.get_docstring(ast.parse(source))


def test_nothing_is_unpickled_but_plain_tensors_offline() -> None:
    unsafe = {
        str(path.relative_to(PACKAGE)): UNSAFE.findall(path.read_text())
        for path in MODULES
        if UNSAFE.search(path.read_text())
    }
    pickles = "components/formats/pickles.py"
    assert set(unsafe) == {pickles}
    assert re.findall(r"torch\.load\(.*", (PACKAGE / pickles).read_text()) == [
        'torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)'
    ]


def test_the_client_imports_no_array_library() -> None:
    script = (
        "import sys, mad.client\n"
        "print(*{'torch', 'numpy', 'scipy', 'jaxtyping'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert run.stdout.strip() == b""


def test_the_readme_begins_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    first_block = next(block for block in re.split(r"\n\n+", readme) if "make " in block)
    assert "make demo" in first_block
    assert "make test" in first_block


def test_every_make_target_says_what_it_does() -> None:
    run = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607  # the user's own make
    for target in (
        "demo",
        "watch-demo",
        "serve",
        "test",
        "check",
        "format",
        "protos",
        "bench",
        "soak",
    ):
        assert re.search(rf"^ +make {target}: +\S", run.stdout, re.MULTILINE)


def test_every_pinned_package_is_pinned_once_and_exactly() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    names = [re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins]
    assert len(set(names)) == len(names)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_shipped_prometheus_settings_are_valid() -> None:
    file = ROOT / "deploy" / "prometheus" / "prometheus.yml"
    run = subprocess.run(["promtool", "check", "config", file], capture_output=True, check=False)  # noqa: S607  # Debian's
    assert run.returncode == 0, run.stderr


def test_the_settings_in_the_readme_are_the_defaults(tmp_path: Path) -> None:
    (settings,) = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "documented.toml").write_text(settings)
    documented = Settings.load(tmp_path / "documented.toml")
    needed = "\n".join(line for line in settings.splitlines() if "# *" in line or line[:1] == "[")
    (tmp_path / "minimal.toml").write_text(needed)
    assert Settings.load(tmp_path / "minimal.toml") == documented


def test_the_readme_documents_every_setting() -> None:
    readme = (ROOT / "README.md").read_text()
    for section in Settings.model_fields.values():
        assert isinstance(section.annotation, type)
        assert issubclass(section.annotation, Section)
        for key in section.annotation.model_fields:
            assert re.search(rf"^(# )?\[*(\w+\.)?{key}\b", readme, re.MULTILINE), key
    for key in (*Parameters.model_fields, *Attributions.model_fields):
        assert re.search(rf"^# {key} = ", readme, re.MULTILINE), key


def test_the_settings_of_a_parameter_decomposition_in_the_readme_are_the_defaults() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("# [decomposition.parameters]")[2].partition("\n\n")[0]
    keys = tomllib.loads("\n".join(line.removeprefix("# ") for line in table.splitlines()[1:]))
    documented = Parameters.model_validate(keys | {"p_final": None})
    assert documented == Parameters(layers=documented.layers)


def test_the_settings_of_attributions_in_the_readme_are_the_defaults() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("# [decomposition.attributions]")[2].partition("\n\n")[0]
    keys = tomllib.loads("\n".join(line.removeprefix("# ") for line in table.splitlines()[1:]))
    documented = Attributions.model_validate(keys | {"rank": None, "hidden_layers": ()})
    assert documented == Attributions(layers=documented.layers)


def test_the_readme_documents_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"`mad {command.callback.__name__}" in readme
