"""The page in a real browser: what is typed, chosen and moved shows; nothing comes from afar."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.recommender import Recommender
from serving.titles import Titles


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[[str], Any]]:
    """Opens pages, and fails for errors on them and for requests to anywhere else."""
    problems: list[str] = []
    pages = []

    def begin(address: str) -> Any:
        page = browser.new_page(viewport={"width": 1_400, "height": 900})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((address, "data:")) else problems.append(request.url)
            ),
        )
        page.goto(address)
        pages.append(page)
        return page

    yield begin
    for page in pages:
        page.close()
    assert not problems


def until(holds: Callable[[], bool]) -> None:
    """The page's own rules forbid evaluating conditions inside it."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "the page never got there"
        time.sleep(0.02)


def titles_of(page: Any, step: str) -> list[str]:
    found = page.locator(f"#{step} .items .t").all_inner_texts()
    return [title.strip(" ▸▾") for title in found]


def answer_of(recommender: Recommender, history: list[str]) -> list[str | None]:
    now = time.time_ns() // 1_000
    return [item.title for item in recommender.recommend(history, at=now).items]


def test_what_is_composed_is_answered_and_explained(
    module_server: Any, open_page: Callable[[str], Any], recommender: Recommender
) -> None:
    page = open_page(module_server.public.address)
    page.wait_for_selector("#step-answer summary")
    until(lambda: page.locator("#degraded").inner_text() == "no_history")
    title = recommender.title("P00044")
    assert title is not None
    page.fill("#search", title[:12])
    page.get_by_role("option", name=title, exact=True).click()
    until(lambda: page.locator("#degraded").inner_text() == "")
    assert titles_of(page, "step-answer") == answer_of(recommender, ["P00044"])
    assert page.locator("#step-candidates h3").count() == len(recommender.source_names)
    page.locator("#step-answer summary").first.click()
    why = page.locator("#step-answer .why").first.inner_text()
    assert "Proposed by" in why
    assert title in why, "the one event must have carried it"
    page.get_by_role("button", name=f"Remove {title}").click()
    until(lambda: page.locator("#degraded").inner_text() == "no_history")


def test_the_sliders_move_the_answer(module_server: Any, open_page: Callable[[str], Any]) -> None:
    page = open_page(module_server.public.address)
    page.wait_for_selector("#step-answer summary")
    before = titles_of(page, "step-answer")

    def move(name: str, value: float) -> None:
        page.evaluate(
            "([id, value]) => { const node = document.getElementById(id); node.value = value;"
            " node.dispatchEvent(new Event('input', { bubbles: true })); }",
            [name, value],
        )

    move("k", 5)
    until(lambda: page.locator("#step-answer summary").count() == 5)
    assert titles_of(page, "step-answer") == before[:5]
    move("diversity_weight", 0.9)
    until(lambda: titles_of(page, "step-answer") != before[:5])
    move("quota", 1)
    move("epsilon", 1)
    until(lambda: "p " in page.locator("#step-answer .s").first.inner_text())
    assert page.locator("#fault").is_hidden()


def test_titles_are_text_never_markup(module_server: Any, open_page: Callable[[str], Any]) -> None:
    page = open_page(module_server.public.address)
    page.fill("#search", "<img src=x onerror=alert(1)>")
    page.wait_for_selector("#found li")
    assert page.locator("#found img").count() == 0


def test_two_bundles_stand_side_by_side(
    start: Callable[..., Any], open_page: Callable[[str], Any], recommender: Recommender
) -> None:
    running = start(compare=recommender.retire_items(["P00044"]))
    page = open_page(running.public.address)
    page.wait_for_selector("#step-compared summary")
    both = page.locator("#step-compared .quiet").inner_text()
    assert "in both, shaded" in both
    assert page.locator("#step-compared .items .t").count() == 10


def test_the_page_is_served_with_its_guards(module_server: Any) -> None:
    found = module_server.public.get("/")
    assert found.status == 200
    assert "default-src 'self'" in found.headers["content-security-policy"]
    assert b"http://" not in found.body.replace(b"http://www.w3.org", b"")
    assert b"https://" not in found.body


def test_the_page_may_be_left_out(start: Callable[..., Any]) -> None:
    public = start(playground=False).public
    assert [public.get(path).status for path in ("/", "/v1/titles?q=a", "/v1/about")] == [404] * 3


def test_search_prefers_beginnings_and_takes_every_word() -> None:
    titles = Titles([1, 2, 3, 4], ["a red lamp", "lamp, red", "desk", None])
    assert titles.search("LAMP", 10) == [(2, "lamp, red"), (1, "a red lamp")]
    assert titles.search("red lamp", 1) == [(2, "lamp, red")]
    assert titles.search("red desk", 10) == []
    assert titles.search("4", 10) == [(4, "4")]
    assert titles.search("  ", 10) == []
    assert titles.search("(", 10) == [], "no pattern, only text"
