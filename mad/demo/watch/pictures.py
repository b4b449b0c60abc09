"""Pictures of our own page, as a browser without a window draws it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from mad.demo.watch.programs import find_browser


class Picture(NamedTuple):
    """One page at one width in points, in a light or a dark scheme."""

    path: str
    width: int = 1280
    scheme: Literal["light", "dark"] = "light"


_HEIGHT: Final = 900
_SETTLE_MS: Final = 1500
OPTIONS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""What Chromium needs to run as root, without a screen, and to call nobody."""


def pictures_of(alert_id: str, baseline: str) -> Mapping[str, Picture]:
    """Return what to take pictures of, by the name of each file."""
    return {
        "overview": Picture("/"),
        "overview-dark": Picture("/", scheme="dark"),
        "overview-narrow": Picture("/", width=390),
        "alert": Picture(f"/alerts/{alert_id}"),
        "alert-narrow": Picture(f"/alerts/{alert_id}", width=390),
        "baseline": Picture(f"/baselines/{baseline}"),
    }


def take(url: str, wanted: Mapping[str, Picture], *, into: Path) -> tuple[Path, ...] | str:
    """Take pictures of a server's pages; return the files, or a sentence why there are none."""
    browser = find_browser()
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415  # of developers alone
    except ModuleNotFoundError:
        return "no pictures without the Python package playwright; run: pip install playwright"
    if browser is None:
        return "no pictures without Chromium; on Debian and Ubuntu: apt install chromium"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    files = []
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=list(OPTIONS))
        for name, picture in wanted.items():
            page = chromium.new_page(
                viewport={"width": picture.width, "height": _HEIGHT}, color_scheme=picture.scheme
            )
            page.goto(url + picture.path)
            # What the page brings itself up to date with comes after it has loaded.
            page.wait_for_timeout(_SETTLE_MS)
            files.append(into / f"{name}.png")
            page.screenshot(path=files[-1], full_page=True)
            page.close()
        chromium.close()
    return tuple(files)
