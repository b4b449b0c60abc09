"""A program that serves the tiny world from a directory, prints its port, and serves on."""

import asyncio
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from tests.service.running import build
from tests.worlds import tiny_world


async def main(directory: Path) -> None:
    """Serve until killed; at most two minutes, should nobody come to kill it."""
    server = build(tiny_world(), directory, collectors=CollectorRegistry())
    sys.stdout.write(f"{await server.start()}\n")
    sys.stdout.flush()
    await asyncio.sleep(120)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
