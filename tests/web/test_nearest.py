"""The trusted inputs on an alert's page: pictures and text, escaped, for who may read alerts."""

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mad.rendering import image
from mad.rendering.base import Blank, Words
from mad.rendering.trusted import CHANGED, TrustedInputs
from mad.types import Charge
from tests.markup import Markup
from tests.web.conftest import ALERT, Site
from tests.web.serving import Watched, anomaly, browsing, token_of, watched
from tests.worlds import WIDTH, World, tiny_world


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.fixture(scope="module")
def running(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Serve with a renderer; whoever reads must sign in."""
    shows = TrustedInputs(
        image(shape=[2, WIDTH // 2], black=-3.0, white=3.0),
        lambda: world.trusted,
        lambda _name, _version: world.baseline.trusted,
    )
    with watched(world, tmp_path_factory.mktemp("nearest"), trusted=shows) as found:
        found.score(anomaly(), token=token_of("ada"))
        yield found


def test_pictures_of_trusted_inputs_are_theirs_and_served_from_here(
    running: Watched, world: World
) -> None:
    (recorded,) = running.alerts()
    path = f"/alerts/{recorded.alert.alert_id}"
    with browsing(running) as client:
        client.headers["authorization"] = f"Bearer {token_of('eve')}"
        page = client.get(path)
        attributes = [(name, value or "") for name, value in Markup(page.text).attributes]
        pictures = [one for name, one in attributes if name == "src" and one.endswith(".png")]
        assert pictures
        assert "img-src 'self'" in page.headers["content-security-policy"]
        for source in pictures:
            answer = client.get(source)
            assert answer.headers["content-type"] == "image/png"
            assert answer.headers["x-content-type-options"] == "nosniff"
            row = int(source.removesuffix(".png").rpartition("/")[2])
            level = ((world.trusted.x[row].double() + 3) / 6).clamp(0, 1) * 255
            found = np.asarray(Image.open(io.BytesIO(answer.content)))
            np.testing.assert_array_equal(found, level.round().reshape(2, -1).numpy())
        named = {int(one.removesuffix(".png").rpartition("/")[2]) for one in pictures}
        stranger = next(row for row in range(600) if row not in named)
        assert client.get(f"{path}/nearest/{stranger}.png").status_code == 404
        assert client.get(f"/alerts/nothing/nearest/{stranger}.png").status_code == 404


@pytest.mark.parametrize(("name", "status"), [("", 401), ("zoe", 403)])
def test_pictures_are_for_who_may_read_alerts(running: Watched, name: str, status: int) -> None:
    (recorded,) = running.alerts()
    row = next(iter(recorded.alert.explanation.nearest.values())).row
    headers = {"authorization": f"Bearer {token_of(name)}"} if name else {}
    with browsing(running) as client:
        source = f"/alerts/{recorded.alert.alert_id}/nearest/{row}.png"
        assert client.get(source, headers=headers).status_code == status


def test_text_is_escaped(site: Site) -> None:
    site.alerts.append(ALERT)
    site.trusted = lambda _name, _version, rows: dict.fromkeys(
        rows, Words("<script>alert(1)</script> & more")
    )
    written = site.page("/alerts/alert-1")
    assert "<script>alert" not in written
    assert "<script>alert(1)</script> & more row 1234 act1" in Markup(written).text


def test_a_page_says_why_nothing_is_to_be_seen_and_still_names_the_rows(site: Site) -> None:
    site.alerts.append(ALERT)
    site.trusted = lambda _name, _version, rows: dict.fromkeys(rows, CHANGED)
    text = Markup(site.page("/alerts/alert-1")).text
    assert CHANGED.reason in text
    assert "act1 components used 1234 0.40" in text
    assert site.client.get("/alerts/alert-1/nearest/1234.png").status_code == 404


def test_one_row_that_cannot_be_shown_hides_no_other(site: Site) -> None:
    near = Charge("act2", "neighbours", 77, 9.0, 1.0, 0.5, None)
    charges = (*ALERT.explanation.charges, near)
    site.alerts.append(replace(ALERT, explanation=replace(ALERT.explanation, charges=charges)))
    site.trusted = lambda _name, _version, _rows: {1234: Blank("It failed."), 77: Words("a cat")}
    text = Markup(site.page("/alerts/alert-1")).text
    assert "It failed. row 1234 act1 a cat row 77 act2" in text


def test_without_a_renderer_a_page_names_rows_and_nothing_more(site: Site) -> None:
    site.alerts.append(ALERT)
    page = site.page("/alerts/alert-1")
    assert "1234" in page
    assert "<figure" not in page
    assert site.client.get("/alerts/alert-1/nearest/1234.png").status_code == 404
