"""The run folder: where the demo keeps what an operator would have, and what it found."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from mad.errors import ConfigError

_FIRST_LINE = "# Written by `mad demo`; it may delete the folder that this file is in.\n"

_SETTINGS = """{first_line}
[model]
name = "fashion"
factory = "mad.demo.model:build"
weights = "model.safetensors"
inputs = ["image"]

[decomposition]
sites = ["shapes", "summary"]
path = "dictionaries"
width = 256
k = 4
steps = 600

[data]
trusted = ["trusted.npz"]

[renderer]
factory = "mad.rendering:image"

[baseline]
name = "default"
store = "baselines"
false_alarm_rate = 0.01
reference_share = 0.5
context = "predicted"
seed = {seed}

[server]
grpc_address = "127.0.0.1:8001"
http_address = "127.0.0.1:8002"
alert_log = "sqlite:///alerts.db"
"""


@dataclass(frozen=True)
class RunFolder:
    """Names of the files below one directory."""

    root: Path

    @property
    def settings(self) -> Path:
        """The settings file, for every verb of ``mad``."""
        return self.root / "mad.toml"

    @property
    def clean_weights(self) -> Path:
        """Weights of the model without a backdoor, for comparison."""
        return self.root / "clean.safetensors"

    @property
    def server_log(self) -> Path:
        """What the server printed."""
        return self.root / "server.log"

    @property
    def ports(self) -> Path:
        """The ports the server took, as it says itself."""
        return self.root / "ports.json"

    @property
    def picture(self) -> Path:
        """The histogram of surprise."""
        return self.root / "measures.png"

    @property
    def watched(self) -> Path:
        """Settings, data and logs of the Prometheus and the Alertmanager that watch the server."""
        return self.root / "watched"

    @property
    def pictures(self) -> Path:
        """What the page looked like."""
        return self.root / "pictures"

    @property
    def is_prepared(self) -> bool:
        """Whether there is a baseline to serve."""
        return bool(list(self.root.glob("baselines/*/active")))

    def begin(self, *, seed: int) -> None:
        """Start afresh: empty the folder of an earlier run and write the settings file.

        Raises:
            ConfigError: the folder holds something else, or cannot be written.
        """
        try:
            if self.root.exists():
                self._erase()
            self.root.mkdir(parents=True)
            self.settings.write_text(_SETTINGS.format(first_line=_FIRST_LINE, seed=seed))
        except OSError as cause:
            raise ConfigError(
                f"cannot write the run folder {self.root}: {cause.strerror}"
            ) from cause

    def forget(self) -> None:
        """Remove what the server of an earlier run kept: alerts, evidence, and who did what."""
        for name in ("alerts.db*", "stream.json", "audit.jsonl"):
            for path in self.root.glob(name):
                path.unlink()

    def _erase(self) -> None:
        is_ours = self.settings.is_file() and self.settings.read_text().startswith(_FIRST_LINE)
        if not is_ours and (not self.root.is_dir() or any(self.root.iterdir())):
            raise ConfigError(
                f"{self.root} exists and is no run folder of the demo; name a new one with --out"
            )
        shutil.rmtree(self.root)
