"""Write the dashboards to ``dashboards/``, or to the directory that is named.

Run it by ``make dashboards``: it needs grafana-foundation-sdk, at the version that
``tests/deploy/requirements.txt`` names.
"""

import json
import sys
from pathlib import Path

from boards import anomalies, calibration, fitting, service
from grafana_foundation_sdk.cog.encoder import JSONEncoder

BOARDS = {
    "anomalies": anomalies.board,
    "calibration": calibration.board,
    "service": service.board,
    "fitting": fitting.board,
}


def main(folder: Path) -> None:
    """Write one JSON file a dashboard, the same bytes for the same script."""
    for name, board in BOARDS.items():
        text = json.dumps(board().build(), cls=JSONEncoder, indent=1, sort_keys=True)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "dashboards")
