"""Debian's Chromium on the page of a real server, as somebody who has signed in."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from mad.demo.watch.pictures import OPTIONS
from tests.web.serving import Watched, token_of, watched
from tests.worlds import World, tiny_world

CHROMIUM = Path("/usr/bin/chromium")

Visit = Callable[..., Page]


def _is_ours(said: ConsoleMessage) -> bool:
    """Say whether a page did something wrong, and not merely got no answer."""
    return said.type == "error" and "Failed to load resource" not in said.text


@pytest.fixture(scope="session")
def world() -> World:
    return tiny_world()


# A browser for each test: one that stays keeps an event loop running in this thread, in which the
# asynchronous tests of the same process could not run theirs.
@pytest.fixture
def browser() -> Iterator[Browser]:
    if not CHROMIUM.is_file():
        pytest.skip("there is no Chromium; install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[Watched]:
    with watched(world, tmp_path) as served:
        yield served


@pytest.fixture
def visit(browser: Browser, server: Watched) -> Iterator[Visit]:
    """Open a page as one of the principals; what the browser complains of fails the test."""
    complaints: list[str] = []
    with ExitStack() as stack:

        def open_page(name: str, path: str = "/", *, width: int = 1280, dark: bool = False) -> Page:
            context = browser.new_context(
                base_url=server.url,
                viewport={"width": width, "height": 800},
                color_scheme="dark" if dark else "light",
            )
            stack.callback(context.close)
            page = context.new_page()
            page.goto("/sign-in")
            page.get_by_label("Token").fill(token_of(name))
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(f"{server.url}/")
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                lambda said: complaints.append(said.text) if _is_ours(said) else None,
            )
            if path != "/":
                page.goto(path)
            return page

        yield open_page
    assert complaints == []
