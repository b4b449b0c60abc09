"""The main paths through the pages, as people go them."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.web.serving import Watched, anomaly, token_of, usual

pytestmark = pytest.mark.slow

HOSTILE = (
    """"'><script>document.title = "pwned"</script><img src=x onerror="document.title = 'pwned'">"""
)
LOOKED_AGAIN_MS = 30_000
ADA = token_of("ada")


def alert_path(server: Watched) -> str:
    return f"/alerts/{server.alerts()[0].alert.alert_id}"


def test_the_overview_follows_what_happens_and_keeps_focus_and_what_is_unfolded(
    server: Watched, visit: Visit
) -> None:
    server.score(usual(20), token=ADA)
    page = visit("eve")
    page.evaluate("window.stayed = true")
    unfolded = page.get_by_text("Mechanism and novelty too")
    unfolded.click()
    page.get_by_role("link", name="tiny@1").first.focus()
    server.score(anomaly(), "door-7", token=ADA)
    expect(page.locator("table.alerts td", has_text="door-7 · input 0")).to_be_visible(
        timeout=LOOKED_AGAIN_MS
    )
    expect(page.get_by_text("21", exact=True).first).to_be_visible()
    assert page.evaluate("window.stayed")  # it was never loaded anew
    assert page.locator("details[open] > summary", has_text="Mechanism").count() == 1
    assert page.evaluate("document.activeElement.textContent") == "tiny@1"


def test_a_server_that_does_not_answer_is_said(visit: Visit) -> None:
    page = visit("eve")
    page.route("**/*", lambda route: route.fulfill(status=503, body="no"))
    expect(page.get_by_text("The server has not answered since")).to_be_visible(
        timeout=LOOKED_AGAIN_MS
    )
    page.unroute("**/*")
    expect(page.get_by_text("The server has not answered since")).to_be_hidden(
        timeout=LOOKED_AGAIN_MS
    )


def test_an_alert_is_found_read_and_acknowledged(server: Watched, visit: Visit) -> None:
    server.score(anomaly(), "door-7", token=ADA)
    page = visit("ada")
    page.get_by_role("link", name="Alerts", exact=True).click()
    page.locator("table.alerts a").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Alert of")
    expect(page.get_by_role("heading", name="How rare each part is")).to_be_visible()
    page.get_by_label("a false positive: nothing of note").check()
    page.get_by_label("every alert of its incident").check()
    page.get_by_label("Comment").fill("a moth <b>on the lens</b>")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("a moth <b>on the lens</b>")).to_be_visible()
    expect(page.locator("#live-said")).to_contain_text("false positive ada")
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_text("No incident is open")).to_be_visible()


def test_a_version_is_promoted_and_gone_back_from(server: Watched, visit: Visit) -> None:
    page = visit("bob", "/baselines/tiny")
    page.get_by_text("Promote", exact=True).click()
    page.get_by_role("button", name="Promote tiny@2").click()
    expect(page.get_by_role("status").filter(has_text="Promoted: tiny@2")).to_be_visible()
    assert server.server.store.active("tiny") == 2
    page.get_by_text("Go back to the version before").click()
    page.get_by_role("button", name="Go back from tiny@2").click()
    expect(page.get_by_role("status").filter(has_text="Gone back: tiny@1")).to_be_visible()


def test_without_the_roles_there_is_nothing_to_press(server: Watched, visit: Visit) -> None:
    server.score(anomaly(), token=ADA)
    page = visit("eve", alert_path(server))
    expect(page.get_by_text("takes the role alerts.ack, which eve does not have")).to_be_visible()
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    page.goto("/baselines/tiny")
    expect(page.get_by_text("takes the role promote, which eve does not have")).to_be_visible()
    assert page.get_by_role("button").all_text_contents() == ["Sign out"]


def test_hostile_names_and_comments_do_nothing(server: Watched, visit: Visit) -> None:
    server.score(anomaly(), HOSTILE, token=ADA)
    page = visit("ada", alert_path(server))
    page.get_by_label("expected: unusual").check()
    page.get_by_label("Comment").fill(HOSTILE)
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".said")).to_have_text(HOSTILE)
    for path in ("/", "/alerts", alert_path(server)):
        page.goto(path)
        expect(page.locator("td, p").filter(has_text="onerror").first).to_be_visible()
        assert "pwned" not in page.title()
        assert page.locator("img").count() == 0


def test_every_part_is_reached_and_an_alert_acknowledged_by_keyboard(
    server: Watched, visit: Visit
) -> None:
    server.score(anomaly(), token=ADA)
    page = visit("ada", alert_path(server))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to what is shown"
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "disposition":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("ArrowDown")
    while page.evaluate("document.activeElement.textContent") != "Acknowledge":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#live-said")).to_contain_text("false positive")


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone_and_text_stands_out(
    server: Watched, visit: Visit, *, dark: bool
) -> None:
    server.score(usual(20), token=ADA)
    server.score(anomaly(3), "w" * 120, token=ADA)
    page = visit("ada", width=390, dark=dark)
    for path in ("/", "/alerts", alert_path(server), "/baselines/tiny"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    body = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert body == ("rgb(17, 21, 28)" if dark else "rgb(245, 246, 248)")
    assert all(ratio >= 4.5 for ratio in page.evaluate(CONTRASTS))


CONTRASTS = """() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue(name).trim();
    const [r, g, b] = [1, 3, 5].map((at) => {
      const value = parseInt(hex.slice(at, at + 2), 16) / 255;
      return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  return [
    ["--text", "--page"], ["--text", "--card"], ["--soft", "--page"], ["--soft", "--card"],
    ["--bar", "--card"], ["--bar", "--page"], ["--good", "--good-page"], ["--warn", "--warn-page"],
    ["--bad", "--bad-page"], ["--on-button", "--button"],
  ].map(([one, other]) => ratio(one, other));
}"""
