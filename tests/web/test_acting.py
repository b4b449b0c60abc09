"""What people do on the pages of a real server: sign in, acknowledge, promote, go back."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mad.web.sessions import LASTS_S, MOST, Sessions
from tests.web.serving import (
    Watched,
    anomaly,
    browsing,
    token_of,
    watched,
    write_principals,
)
from tests.worlds import World, tiny_world

FORM_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')
REQUEST_ID = re.compile(r'name="request_id" value="([^"]+)"')


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[Watched]:
    """Serve to who signs in."""
    with watched(world, tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
def standing(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Serve to who signs in, for tests that change nothing."""
    with watched(world, tmp_path_factory.mktemp("standing")) as served:
        yield served


@pytest.fixture
def browser(server: Watched) -> Iterator[httpx.Client]:
    with browsing(server) as client:
        yield client


@pytest.fixture
def looking(standing: Watched) -> Iterator[httpx.Client]:
    with browsing(standing) as client:
        yield client


def form_token(browser: httpx.Client, path: str) -> str:
    found = FORM_TOKEN.search(browser.get(path).text)
    assert found is not None
    return found.group(1)


def sign_in(browser: httpx.Client, name: str, *, to: str = "/") -> httpx.Response:
    form = {
        "form_token": form_token(browser, "/sign-in"),
        "token": token_of(name),
        "next": to,
    }
    return browser.post("/sign-in", data=form)


def raised(server: Watched) -> str:
    """Raise an alert and return its address."""
    server.score(anomaly(), token=token_of("ada"))
    return f"/alerts/{server.alerts()[0].alert.alert_id}"


def acknowledged(browser: httpx.Client, alert: str, **changed: str) -> httpx.Response:
    form = {
        "form_token": changed.get("form_token") or form_token(browser, alert),
        "request_id": "r-1",
        "disposition": "false_positive",
        "comment": "a <b>moth</b>",
        "scope": "alert",
    }
    return browser.post(f"{alert}/acknowledge", data=form | changed)


def test_who_signs_in_goes_on_to_what_they_asked_for(looking: httpx.Client) -> None:
    asked = looking.get("/alerts?state=open")
    assert asked.status_code == 401
    assert 'name="next" value="/alerts?state=open"' in asked.text
    answer = sign_in(looking, "eve", to="/alerts?state=open")
    assert (answer.status_code, answer.headers["location"]) == (303, "/alerts?state=open")
    (cookie,) = answer.headers.get_list("set-cookie")
    assert {"HttpOnly", "Path=/", "SameSite=strict", "Max-Age=43200"} <= set(cookie.split("; "))
    page = looking.get("/alerts?state=open")
    assert page.status_code == 200
    assert "eve" in page.text


@pytest.mark.parametrize("next_", ["//evil.example", "https://evil.example", "/\\evil", "evil"])
def test_signing_in_leads_nowhere_else(looking: httpx.Client, next_: str) -> None:
    assert sign_in(looking, "eve", to=next_).headers["location"] == "/"


def test_a_token_of_nobody_signs_nobody_in(looking: httpx.Client) -> None:
    answer = sign_in(looking, "mallory")
    assert answer.status_code == 401
    assert "nobody&#39;s here" in answer.text
    assert "set-cookie" not in answer.headers
    assert looking.get("/").status_code == 401


def test_who_may_not_read_is_told_so(looking: httpx.Client) -> None:
    sign_in(looking, "zoe")
    page = looking.get("/")
    assert page.status_code == 403
    assert "zoe may not read this: it takes the role alerts.read" in page.text


def test_who_signs_out_is_out(looking: httpx.Client) -> None:
    sign_in(looking, "eve")
    assert looking.post("/sign-out", data={"form_token": form_token(looking, "/")}).is_redirect
    assert looking.get("/").status_code == 401


def test_a_token_taken_away_ends_its_session(server: Watched, browser: httpx.Client) -> None:
    sign_in(browser, "eve")
    assert browser.get("/").status_code == 200
    write_principals(server.directory, ["ada"])
    deadline = time.monotonic() + 20
    while browser.get("/").status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert browser.get("/").status_code == 401


def test_an_acknowledgement_is_recorded_as_over_grpc(
    server: Watched, browser: httpx.Client
) -> None:
    alert = raised(server)
    sign_in(browser, "ada")
    answer = acknowledged(browser, alert)
    assert (answer.status_code, answer.headers["location"]) == (303, alert)
    said = server.alerts()[0].acknowledgement
    assert said is not None
    assert (said.disposition, said.comment, said.principal) == (
        "false_positive",
        "a <b>moth</b>",
        "ada",
    )
    (record,) = server.audited("alert.acknowledged")
    assert (record["principal"], record["subject"]) == ("ada", alert.removeprefix("/alerts/"))
    assert "a &lt;b&gt;moth&lt;/b&gt;" in browser.get(alert).text


def test_the_same_form_sent_twice_is_one_acknowledgement(
    server: Watched, browser: httpx.Client
) -> None:
    alert = raised(server)
    sign_in(browser, "ada")
    (request_id,) = REQUEST_ID.findall(browser.get(alert).text)
    for _ in range(2):
        assert acknowledged(browser, alert, request_id=request_id).is_redirect
    assert len(server.audited("alert.acknowledged")) == 1


def test_a_whole_incident_is_acknowledged_and_closed(
    server: Watched, browser: httpx.Client
) -> None:
    alert = raised(server)
    sign_in(browser, "ada")
    assert acknowledged(browser, alert, scope="incident").is_redirect
    assert server.server.alert_log.incidents("", 10, "", include_closed=False)[0] == []
    (record,) = server.audited("incident.acknowledged")
    assert record["subject"] == server.alerts()[0].incident_id


def test_without_the_role_there_is_no_form_and_one_made_up_is_refused(
    standing: Watched, looking: httpx.Client
) -> None:
    alert = raised(standing)
    sign_in(looking, "eve")
    assert "takes the role alerts.ack, which eve does not have" in looking.get(alert).text
    refused = acknowledged(looking, alert)
    assert refused.status_code == 403
    assert "eve may not do this; it takes one of the roles admin, alerts.ack" in refused.text
    moved = {"form_token": form_token(looking, alert), "version": "2", "expected": "1"}
    assert looking.post("/baselines/tiny/promote", data=moved).status_code == 403
    assert looking.post("/baselines/tiny/rollback", data=moved).status_code == 403
    assert standing.alerts()[0].acknowledgement is None
    assert standing.server.store.active("tiny") == 1


@pytest.mark.parametrize(
    ("headers", "changed", "status"),
    [
        ({"origin": "https://evil.example"}, {}, 403),
        ({"origin": "null"}, {}, 403),
        ({"origin": ""}, {}, 403),
        ({}, {"form_token": "0" * 64}, 403),
        ({}, {"form_token": "é"}, 403),
        ({}, {"disposition": "fine"}, 400),
        ({}, {"comment": "x" * 2001}, 400),
        ({}, {"comment": "x" * 40_000}, 400),
        ({}, {"request_id": "\n"}, 400),
    ],
)
def test_a_form_that_is_not_ours_or_cannot_be_changes_nothing(
    standing: Watched,
    looking: httpx.Client,
    headers: dict[str, str],
    changed: dict[str, str],
    status: int,
) -> None:
    alert = raised(standing)
    sign_in(looking, "ada")
    form = {
        "form_token": form_token(looking, alert),
        "disposition": "expected",
        "comment": "",
        "scope": "alert",
    }
    answer = looking.post(f"{alert}/acknowledge", data=form | changed, headers=headers)
    assert answer.status_code == status
    assert standing.alerts()[0].acknowledgement is None


def test_the_token_of_one_session_is_none_of_another(
    standing: Watched, looking: httpx.Client
) -> None:
    alert = raised(standing)
    sign_in(looking, "ada")
    with browsing(standing) as other:
        sign_in(other, "ada")
        foreign = form_token(other, alert)
    assert acknowledged(looking, alert, form_token=foreign).status_code == 403


def test_an_alert_that_is_not_there_is_404(looking: httpx.Client) -> None:
    sign_in(looking, "ada")
    token = form_token(looking, "/")
    form = {"form_token": token, "disposition": "expected"}
    assert looking.post("/alerts/nothing/acknowledge", data=form).status_code == 404


def test_a_version_is_promoted_and_gone_back_from(server: Watched, browser: httpx.Client) -> None:
    sign_in(browser, "bob")
    page = browser.get("/baselines/tiny").text
    assert "Promote tiny@2" in page
    form = {"form_token": form_token(browser, "/baselines/tiny"), "version": "2", "expected": "1"}
    answer = browser.post("/baselines/tiny/promote", data=form)
    assert answer.headers.get("location") == "/baselines/tiny?done=promoted", answer.text
    assert (
        "Promoted: tiny@2 is the active version"
        in browser.get("/baselines/tiny?done=promoted").text
    )
    assert server.server.registry.default.baseline.revision == "tiny@2"
    # Somebody who still sees the page of before is told what has changed.
    stale = browser.post("/baselines/tiny/promote", data=form)
    assert stale.status_code == 409
    assert "is tiny@2, not tiny@1" in stale.text
    back = browser.post("/baselines/tiny/rollback", data=form | {"expected": "2"})
    assert back.headers["location"] == "/baselines/tiny?done=back"
    assert server.server.store.active("tiny") == 1
    for event in ("baseline.promote.done", "baseline.rollback.done"):
        assert [one["principal"] for one in server.audited(event)] == ["bob"]


@pytest.mark.parametrize(
    ("path", "version", "status"),
    [
        ("/baselines/tiny/promote", "9", 404),
        ("/baselines/other/promote", "1", 404),
        ("/baselines/..%2F..%2Fetc/promote", "1", 404),
        ("/baselines/tiny/promote", "two", 400),
        ("/baselines/tiny/promote", "-1", 400),
    ],
)
def test_a_version_that_is_not_there_is_not_promoted(
    looking: httpx.Client, path: str, version: str, status: int
) -> None:
    sign_in(looking, "bob")
    form = {"form_token": form_token(looking, "/"), "version": version}
    form["expected"] = "1" if "tiny" in path else ""
    assert looking.post(path, data=form).status_code == status


def test_where_nobody_is_asked_forms_are_taken_by_address_only(
    world: World, tmp_path: Path
) -> None:
    with watched(world, tmp_path, asks=False) as server, browsing(server) as browser:
        alert = raised(server)
        assert "Sign in" not in browser.get(alert).text
        # A site whose name points at this machine reads the page, and could send its forms.
        rebound = {"host": "evil.example:80", "origin": "http://evil.example:80"}
        form = {"form_token": form_token(browser, alert), "disposition": "expected"}
        refused = browser.post(f"{alert}/acknowledge", data=form, headers=rebound)
        assert refused.status_code == 403
        assert "open the page by its IP address or as localhost" in refused.text
        assert acknowledged(browser, alert).is_redirect
        said = server.alerts()[0].acknowledgement
        assert said is not None
        assert said.principal == ""


def test_on_an_open_page_anybody_reads_and_nobody_acts_unasked(
    world: World, tmp_path: Path
) -> None:
    with watched(world, tmp_path, is_open=True) as server, browsing(server) as browser:
        alert = raised(server)
        assert "Sign in</a> to say what it is" in browser.get(alert).text
        unasked = form_token(browser, "/sign-in")
        refused = acknowledged(browser, alert, form_token=unasked)
        assert refused.status_code == 403
        assert "who has not signed in may not do this" in refused.text
        sign_in(browser, "ada")
        assert acknowledged(browser, alert).is_redirect


def test_sessions_end_and_are_not_without_number() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    first, second = sessions.begin(b"a"), sessions.begin(b"b")
    assert (sessions.credential(first), sessions.credential("made up")) == (b"a", b"")
    sessions.end(first)
    assert sessions.credential(first) == b""
    now[0] = LASTS_S
    assert sessions.credential(second) == b""
    third = sessions.begin(b"c")
    for _ in range(MOST):
        sessions.begin(b"d")
    assert sessions.credential(third) == b""
