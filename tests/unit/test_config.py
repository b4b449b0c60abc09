"""Settings are read strictly, and every mistake is named with its remedy."""

import tomllib
from pathlib import Path

import pytest

from mad.config import Address, Settings
from mad.errors import ConfigError

MINIMAL = """
[model]
name = "demo"
factory = "model.py:build"
weights = "model.safetensors"
inputs = ["image"]

[decomposition]
sites = ["act1"]

[data]
trusted = ["trusted.npz", "/abs/more.parquet"]
"""


def load(folder: Path, text: str) -> Settings:
    file = folder / "mad.toml"
    file.write_text(text)
    return Settings.load(file)


def test_a_minimal_file_gets_the_documented_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    assert (settings.decomposition.width, settings.decomposition.k) == (512, 4)
    assert settings.decomposition.recipes == (settings.decomposition,)
    assert settings.decomposition.suffixes == ("",)
    assert settings.decomposition.buffer_mb == 2048
    assert settings.baseline.name == "default"
    assert settings.baseline.false_alarm_rate == 0.01
    assert settings.baseline.alert_on == "surprise"
    assert (settings.baseline.reference_share, settings.baseline.weighing_share) == (0.25, 0.15)
    assert (settings.baseline.magnitudes, settings.baseline.residual_by_context) == (False, False)
    assert str(settings.server.grpc_address) == "127.0.0.1:8001"
    assert settings.server.http_address == Address("127.0.0.1", 8002)
    assert settings.server.max_message_bytes == 16_777_216


def test_relative_paths_are_relative_to_the_file_even_the_default_ones(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    assert settings.model.weights == tmp_path / "model.safetensors"
    assert settings.model.factory == f"{tmp_path}/model.py:build"
    assert settings.data.trusted == (tmp_path / "trusted.npz", Path("/abs/more.parquet"))
    assert settings.decomposition.path == tmp_path / "dictionaries"
    assert settings.baseline.store == tmp_path / "baselines"
    assert settings.server.alert_log == f"sqlite:///{tmp_path}/alerts.db"


@pytest.mark.parametrize("url", ["s3://bucket/baselines", "memory://baselines", "file:///b"])
def test_a_store_may_be_a_url(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, f'{MINIMAL}[baseline]\nstore = "{url}"').baseline.store == url


def test_an_importable_factory_stays_as_it_is(tmp_path: Path) -> None:
    text = MINIMAL.replace("model.py:build", "package.models:build")
    assert load(tmp_path, text).model.factory == "package.models:build"


@pytest.mark.parametrize(
    "url", ["sqlite:////var/lib/mad/alerts.db", "postgresql://host/alerts", "sqlite:///:memory:"]
)
def test_an_absolute_alert_log_stays_as_it_is(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, f'{MINIMAL}[server]\nalert_log = "{url}"').server.alert_log == url


def test_arguments_of_the_factory_are_free(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL + "[model.arguments]\nwidth = 3\nnames = ['a']")
    assert settings.model.arguments == {"width": 3, "names": ["a"]}


def test_settings_are_immutable(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        settings.baseline.name = "other"  # type: ignore[misc]  # the claim under test


def test_a_table_of_a_dictionary_inherits_what_it_leaves_out(tmp_path: Path) -> None:
    tables = """k = 3
width = 64
[[decomposition.dictionary]]
steps = 7
[[decomposition.dictionary]]
kind = "gated"
sites = ["act2"]
[[decomposition.dictionary]]
search = true
suffix = "mine"
"""
    text = MINIMAL.replace('sites = ["act1"]', f'sites = ["act1"]\n{tables}')
    decomposition = load(tmp_path, text).decomposition
    assert [(one.k, one.width, one.steps) for one in decomposition.recipes] == [
        (3, 64, 7),
        (3, 64, 1000),
        (3, 64, 1000),
    ]
    assert [one.sites for one in decomposition.recipes] == [("act1",), ("act2",), ("act1",)]
    assert [one.search for one in decomposition.recipes] == [True, False, True]
    assert decomposition.suffixes == ("", "gated", "mine")


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("widht = 8", r"decomposition\.dictionary\.0\.widht is no setting; did you mean width\?"),
        ("k = 600", r"k = 600 must be at most width = 512"),
        ("suffix = 'a:b'", r"suffix = 'a:b' "),
        ("prefixes = [1.5]", r"prefixes\.0 = 1\.5 must be less than or equal to 1"),
        ("learning_rate = 0.0", r"learning_rate = 0\.0 must be greater than 0"),
        ("learning_rate = inf", r"learning_rate = inf must be a finite number"),
    ],
)
def test_a_wrong_setting_of_a_table_is_refused_by_name(
    tmp_path: Path, table: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        load(tmp_path, f"{MINIMAL}[[decomposition.dictionary]]\n{table}")


BILINEAR = "form = 'bilinear'\nleft = 'up'\nright = 'gate'\n"
ATTENTION = "form = 'attention'\nsources = ['act1<']\n"


@pytest.mark.parametrize(
    "table",
    [
        BILINEAR + "out = 'down'\nrank = 8\nk = 600",
        ATTENTION + "heads = 64\nsparsity = 0.3\ncausal = false\npooling = 'mean'",
        "meta_width = 32\nmeta_k = 8",
        "meta_width = 32\nmeta_weight = -0.1",
        "meta_width = 32\nobjective = 'end_to_end'",
        "form = 'skip_transcoder'\nsources = ['act1<']\nobjective = 'end_to_end'",
        "form = 'crosscoder'\nobjective = 'end_to_end'",
    ],
)
def test_what_goes_together_is_read(tmp_path: Path, table: str) -> None:
    read = load(tmp_path, f"{MINIMAL}[[decomposition.dictionary]]\n{table}").decomposition
    for key, value in tomllib.loads(table).items():
        expected = tuple(value) if isinstance(value, list) else value
        assert getattr(read.recipes[0], key) == expected


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("form = 'attention'", r"form = 'attention' with sources = \[\]: transcoders and attent"),
        ("form = 'bilinear'\nleft = 'up'", r"left = 'up' and right = '': name the two linear"),
        (BILINEAR + "sites = ['act1<']", r"with site 'act1<': name the bilinear module alone"),
        (BILINEAR + "pooling = 'max'", r"pooling = 'max': set pooling to 'auto' or 'last'"),
        ("left = 'up'", r"form = 'autoencoder' with left, right, out or rank: .* leave them out"),
        ("rank = 3", r"leave them out, or set form = 'bilinear'"),
        (ATTENTION + "pooling = 'max'", r"set pooling to 'auto' or 'last' or 'mean'"),
        (
            ATTENTION + "kind = 'relu'",
            r"with kind = 'relu': .* leave kind out, or set it to 'topk'",
        ),
        (ATTENTION + "objective = 'end_to_end'", r"leave objective out"),
        (BILINEAR + "positions = 'all'", r"set it to 'pooled'"),
        (BILINEAR + "meta_width = 8", r"meta_width = 8: .* leave meta_width out"),
        ("meta_weight = 0.1", r"meta_weight = 0\.1 without a meta_width: set meta_width"),
        ("meta_width = 3", r"meta_k = 4 must be at most meta_width = 3"),
        (
            "meta_width = 8\nmeta_weight = 0.1\nobjective = 'end_to_end'",
            r"meta_weight = 0\.1: .* set meta_weight = 0\.0",
        ),
        ("sparsity = 0.0", r"sparsity = 0\.0 must be greater than 0"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_remedy(
    tmp_path: Path, table: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        load(tmp_path, f"{MINIMAL}[[decomposition.dictionary]]\n{table}")


@pytest.mark.parametrize("table", [BILINEAR, ATTENTION, "objective = 'end_to_end'"])
def test_what_needs_the_model_is_not_trained_from_files(tmp_path: Path, table: str) -> None:
    text = MINIMAL.replace('sites = ["act1"]', 'sites = ["act1"]\nactivations = ["files"]')
    with pytest.raises(ConfigError, match=r"which need the model: leave activations out"):
        load(tmp_path, f"{text}[[decomposition.dictionary]]\n{table}")


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ("[server]\nmax_bach = 8", r"server\.max_bach .* did you mean max_batch\?"),
        ("[sever]\nmax_batch = 8", r"sever is no setting; did you mean server\?"),
        ("[baseline]\nmax_batch = 8", r"did you mean server\.max_batch\?"),
        ("[baseline]\nqqqq = 8", r"qqqq .* there is name, store, false_alarm_rate"),
        ("[server]\nmax_batch = 0", r"server\.max_batch = 0 must be greater than 0"),
        (
            "[promotion]\ntrusted = 'a.npz'",
            r"promotion\.trusted = 'a\.npz' must be a list.*\['a\.npz'\]",
        ),
        ("[server]\nmax_batch = true", r"server\.max_batch = True must be a valid integer"),
        ("[server]\ngrpc_address = '8001'", r"grpc_address = '8001' must be host:port"),
        ("[server]\ngrpc_address = 'a:70000'", r"grpc_address = 'a:70000' must be host:port"),
        ("[server]\nalert_log = 'alerts.db'", r"alert_log = 'alerts.db' must be a database URL"),
        ("[server]\ndrain_seconds = -1", r"server\.drain_seconds = -1 must be greater than or"),
        ("[server]\nmax_queued_inputs = 9", r"max_queued_inputs = 9 .* max_request_inputs = 1024"),
        ("[baseline]\nfalse_alarm_rate = 0", r"false_alarm_rate = 0 must be greater than 0"),
        ("[baseline]\nfalse_alarm_rate = 0.5", r"false_alarm_rate = 0.5 must be less than 0.5"),
        ("[baseline]\nfalse_alarm_rate = nan", r"false_alarm_rate = nan must be"),
        ("[baseline]\nname = 'My Baseline'", r"baseline\.name = 'My Baseline' "),
        ("[baseline]\ncontext = 'class'", r"context = 'class' must be 'predicted' or 'none'"),
        ("[baseline]\nalert_on = 'both'", r"'both' must be 'surprise', 'mechanism' or 'novelty'"),
        ("[baseline]\nweighing_share = 0.0", r"weighing_share = 0.0 must be greater than 0"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_value(
    tmp_path: Path, extra: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=rf"mad\.toml: .*{named}"):
        load(tmp_path, MINIMAL + extra)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('inputs = ["image"]', "", r"model\.inputs is missing"),
        ('inputs = ["image"]', "inputs = []", r"model\.inputs = \[\]"),
        ('["image"]', '["image", "image"]', r"inputs = \['image', 'image'\] names one thing twice"),
        (
            '["act1"]',
            '["act1"]\nk = 9\nwidth = 8',
            r"decomposition: k = 9 must be at most width = 8",
        ),
        ('[decomposition]\nsites = ["act1"]', "", r"section \[decomposition\] is missing"),
        ("model.py:build", "model.py", r"factory = 'model.py' must be package.module:callable"),
        ("[model]", "model = 3\n[modell]", r"model = 3 must be a section \[model\]"),
        ("[model]", "[model", r"is not TOML"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, old: str, new: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load(tmp_path, MINIMAL.replace(old, new))


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"server\.a .*server\.b "):
        load(tmp_path, MINIMAL + "[server]\na = 1\nb = 2")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        Settings.load(tmp_path / "nowhere.toml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mad.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not TOML"):
        Settings.load(file)


@pytest.mark.parametrize("text", ["127.0.0.1:0", "localhost:8001", "[::1]:8001"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", ":1", "host:", "host:x", "::1:80", "host:-1", "host:65536"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        Address.parse(text)


def setting(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_the_environment_wins_over_the_file_and_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting(
        monkeypatch,
        MAD_SERVER__GRPC_ADDRESS="0.0.0.0:9001",
        MAD_SERVER__MAX_BATCH="16",
        MAD_SERVER__REFLECTION="false",
        MAD_SERVER__ALERT_LOG="postgresql://mad:s3cret@db/mad",
        MAD_BASELINE__FALSE_ALARM_RATE="0.002",
        MAD_BASELINE__NAME="2026",
        MAD_MODEL__INPUTS='["image", "mask"]',
        MAD_MODEL__ARGUMENTS__WIDTH="64",
        MAD_MODEL__ARGUMENTS__KIND="wide",
        mad_model__weights="other.safetensors",
    )
    settings = load(tmp_path, MINIMAL + "[server]\nmax_batch = 8\nmax_request_inputs = 99")
    assert str(settings.server.grpc_address) == "0.0.0.0:9001"
    assert (settings.server.max_batch, settings.server.max_request_inputs) == (16, 99)
    assert settings.server.reflection is False
    assert settings.server.alert_log == "postgresql://mad:s3cret@db/mad"
    assert settings.baseline.false_alarm_rate == 0.002
    assert settings.baseline.name == "2026"
    assert settings.model.inputs == ("image", "mask")
    assert settings.model.arguments == {"width": 64, "kind": "wide"}
    assert settings.model.weights == tmp_path / "other.safetensors"


def test_a_section_that_the_file_needs_may_be_of_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting(monkeypatch, MAD_DATA__TRUSTED='["more.npz"]')
    settings = load(tmp_path, MINIMAL.partition("[data]")[0])
    assert settings.data.trusted == (tmp_path / "more.npz",)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        (
            "MAD_SERVER__MAX_BATCH",
            "many",
            r"MAD_SERVER__MAX_BATCH = 'many' must be a valid integer",
        ),
        ("MAD_SERVER__MAX_BATCH", "0", r"MAD_SERVER__MAX_BATCH = 0 must be greater than 0"),
        (
            "MAD_SERVER__MAX_BATCH",
            "8\nx = 1",
            r"MAD_SERVER__MAX_BATCH = '8\\nx = 1' must be a valid",
        ),
        (
            "MAD_SERVER__MAX_BACH",
            "8",
            r"MAD_SERVER__MAX_BACH is no setting; did you mean max_batch",
        ),
        ("MAD_SEVER__MAX_BATCH", "8", r"MAD_SEVER__MAX_BATCH is no setting; did you mean server"),
        ("MAD_MODEL__INPUTS", "[3]", r"MAD_MODEL__INPUTS = 3 must be a valid string"),
        ("MAD_SERVER_MAX_BATCH", "8", r"did you mean MAD_SERVER__MAX_BATCH\?"),
        ("MAD_SERVER__GRPC_ADDRESS", "", r"MAD_SERVER__GRPC_ADDRESS = '' must be host:port"),
        ("MAD_SERVER__HTTP_ADDRESS", "u://me:pw@h", r"MAD_SERVER__HTTP_ADDRESS = 'u://...@h' must"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=named):
        load(tmp_path, MINIMAL)


def test_variables_that_orchestrators_and_our_tools_set_are_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(tmp_path, MINIMAL)
    setting(
        monkeypatch,
        MAD_SERVER="tcp://10.0.0.1:8001",
        MAD_SERVICE_HOST="10.0.0.1",
        MAD_PORT_8001_TCP="tcp://10.0.0.1:8001",
        MAD_SERVER_PORT="tcp://10.0.0.1:8001",
        MAD_TASKS="/tasks",
    )
    assert load(tmp_path, MINIMAL) == expected


def test_a_proxy_needs_to_know_its_upstream_server(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mode = 'proxy' needs upstream\.address"):
        load(tmp_path, f"{MINIMAL}[server]\nmode = 'proxy'")
    proxy = "[server]\nmode = 'proxy'\n[upstream]\naddress = 'triton:8001'\n"
    settings = load(tmp_path, MINIMAL + proxy + "activations = {act1 = 'act1_out'}")
    assert str(settings.upstream.address) == "triton:8001"
    assert settings.upstream.activations == {"act1": "act1_out"}


def test_a_certificate_of_an_upstream_server_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"upstream: ca needs tls = true"):
        load(tmp_path, f"{MINIMAL}[upstream]\nca = 'ca.pem'")
