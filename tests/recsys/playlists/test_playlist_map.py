"""The map: what it says, and what a real browser makes of it, narrow and wide."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from recsys.cli import app
from recsys.playlists.playlist_map import OTHER, clusters, neighbours, page_data
from tests.recsys.playlists.conftest import Planted


@pytest.fixture(scope="module")
def drawn(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("map") / "map.html"
    arguments = ["playlist-map", planted.run, "--dataset", planted.dataset, "--out", out]
    arguments += ["--users", planted.users, "--label", "genre", "--name", "called", "--most", 80]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return out


def test_the_page_is_whole_and_names_cannot_break_it(drawn: Path) -> None:
    page = drawn.read_text()
    assert "<Song>" not in page
    assert "\\u003cSong> " in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert 'data = "DATA"' not in page


def test_neighbours_are_of_the_full_space() -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = vectors[0]
    near, cosine = neighbours(vectors)
    assert near[0, 0] == 1
    assert cosine[0, 0] == 1
    assert all(row not in near[row] for row in range(4))


def test_labels_beyond_the_colours_share_one() -> None:
    labels = [f"l{i % 11}" for i in range(40)]
    data = page_data(np.zeros((40, 2)), np.eye(40, dtype=np.float32), labels, labels, [["s"]] * 40)
    names = data["labels"]
    assert isinstance(names, list)
    assert names[-1] == OTHER
    assert len(names) == len(data["colours"]) == 9  # type: ignore[arg-type]


def test_clusters_are_named_by_their_most_common_song() -> None:
    vectors = np.repeat(np.eye(2, 8, dtype=np.float32), 10, 0)
    vectors += np.random.default_rng(0).normal(0, 0.01, vectors.shape).astype(np.float32)
    told = [["a", f"x{i}"] for i in range(10)] + [["b", f"y{i}"] for i in range(10)]
    names = clusters(vectors, told, 0)
    assert all(name.split(": ")[1][0] in "ax" for name in names[:10])
    assert len({*names[:10]} & {*names[10:]}) == 0


@pytest.mark.parametrize("width", [380, 1400])
def test_hover_search_and_choice_in_a_browser(browser: Any, drawn: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith("file:") else problems.append(r.url))
    page.goto(drawn.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    assert page.locator("circle").count() == 80
    page.locator("circle").nth(3).dispatch_event("pointermove", {"clientX": 50, "clientY": 60})
    assert "<Song>" in page.locator("#tip").inner_text()
    page.fill("#search", "List soul")
    shown = int(page.locator("#count").inner_text().split()[0])
    assert 0 < shown < 80
    assert page.locator("circle.hit").count() == shown
    page.press("#search", "Enter")
    assert page.locator("circle.chosen").count() == 1
    assert page.locator("#side li button").count() == 10
    first = page.locator("#side h2").first.inner_text()
    page.locator("#side li button").first.click()
    assert page.locator("#side h2").first.inner_text() != first
    page.fill("#search", "")
    page.locator("#keys button").first.click()
    assert page.locator("circle.dim").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
    assert not problems
