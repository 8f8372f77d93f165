"""The page of `shmmap ui` in a real browser: what a person sees, presses and hears."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import shmmap
from shmmap.tools.ui import answers, documents

from ...support.browser import Browser, Page
from ...support.engines import once
from .serving import serve as serve

pytestmark = once
HOSTILE = "<img src=x onerror=alert(1)><script>document.title='had'</script>\u202e&amp;"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    """One browser for all tests of this file."""
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def visit(browser, serve) -> Iterator[Callable[..., Page]]:
    """Serve some maps, and open the page; it must have nothing to complain of at the end."""
    opened: list[Page] = []
    browser.events.clear()

    def open_page(*names: str, **more: Any) -> Page:
        serving = serve(*names)
        page = browser.page(serving.server.url, **more)
        page.serving = serving  # type: ignore[attr-defined]
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        assert page.complaints() == []
        page.close()


def cells(page: Page, place: str) -> list[str]:
    """Return the texts of the cells of a table's rows, hidden ones too."""
    found: list[str] = page.run(
        f"[...document.querySelectorAll('#{place} tr > *')].map(one => one.textContent)")
    return found


def test_what_it_shows(visit, make, other):
    m, second = make(shards=4, ttl=60), other()
    m.update({f"key:{number}": number for number in range(100)})
    page = visit(m.name, second.name)
    page.until("document.querySelectorAll('#maps tr').length == 2")
    page.until(f"document.getElementById('map-name').textContent == '{m.name}'")
    assert cells(page, "maps")[0] == m.name and "100" in cells(page, "maps")[1]
    page.until("document.getElementById('status').textContent == 'live'")
    assert page.run("document.querySelectorAll('#shards > div').length") == 4
    m.get("none")
    page.until("document.getElementById('counts').textContent.includes('reads that found none')")
    page.until("[...document.querySelectorAll('#counts tr')][1].textContent.endsWith('1')")
    assert cells(page, "workers")[0] == str(os.getpid())
    text = page.text()
    for words in ("Hit ratio", "in 4 shards", "ttl\n60 s", "100", "2 maps"):
        assert words in text, (words, text)
    assert page.run("document.title") == f"{m.name} · shmmap"
    for absent in ("p-histograms", "p-events"):  # nobody has told of any
        assert page.run(f"document.getElementById('{absent}').hidden")


def test_another_map_is_opened(visit, make, other):
    m, second = make(), other(shards=2)
    page = visit(m.name, second.name)
    page.until("document.querySelectorAll('#maps tr').length == 2")
    page.run("document.querySelectorAll('#maps tr')[1].click()")
    page.until(f"document.getElementById('map-name').textContent == '{second.name}'")
    assert page.run("document.querySelectorAll('#shards > div').length") == 2
    page.call("Page.reload")
    page.until(f"document.getElementById('map-name').textContent == '{second.name}'")
    second.unlink()
    page.until("document.getElementById('map-state').textContent == 'gone'")
    assert page.run("document.getElementById('panels').hidden")


def test_keys_and_a_value_by_keyboard_alone(visit, make):
    m = make()
    m.update({"user:1": {"name": "Ada"}, "user:2": b"\x00\xff", "other": 1})
    page = visit(m.name)
    page.until("document.querySelectorAll('#shards > div').length")
    for _ in range(40):
        page.press("Tab")
        if page.run("document.activeElement.id") == "prefix":
            break
    page.type("user:")
    page.press("Enter")
    page.until("document.querySelectorAll('#hits button').length == 2")
    assert page.run("document.getElementById('found').textContent") == "2 keys"
    page.press("Tab")  # the button
    page.press("Tab")  # the first key
    page.press("Enter")
    page.until("document.querySelector('#value pre')")
    assert page.run("document.querySelector('#value pre').textContent") == (
        json.dumps({"name": "Ada"}, indent=2))
    page.press("ArrowDown")
    page.press("Enter")
    page.until("document.querySelector('#value pre').textContent.startsWith('00000  00 ff')")
    assert page.run("document.querySelector('#hits [aria-current]').textContent") == "user:2"
    m["user:2"] = "changed"
    page.press("Tab")  # look again
    page.press("Enter")
    page.until("document.querySelector('#value pre').textContent == 'changed'")
    assert page.run("document.activeElement.textContent") == "Look again"
    assert [m.stats().hits, len(m.stats().workers)] == [0, 1]


def test_maps_and_shards_by_keyboard(visit, make, other):
    m, second = make(shards=8), other()
    page = visit(m.name, second.name)
    page.until("document.querySelectorAll('#shards > div').length == 8")
    page.run("document.querySelector('#maps button').focus()")
    page.press("ArrowDown")
    page.press("Enter")
    page.until(f"document.getElementById('map-name').textContent == '{second.name}'")
    page.press("ArrowUp")
    page.press("Enter")
    page.until("document.querySelectorAll('#shards > div').length == 8")
    page.run("document.getElementById('shards').focus()")
    for key, shard in (("ArrowRight", 0), ("ArrowRight", 1), ("End", 7), ("ArrowRight", 7),
                       ("ArrowLeft", 6), ("Home", 0), ("ArrowUp", 0)):
        page.press(key)
        assert page.run("document.getElementById('shard').textContent").startswith(
            f"Shard {shard}: ")
        assert page.run("document.querySelector('#shards [aria-selected=true]').id") == (
            page.run("document.getElementById('shards').getAttribute('aria-activedescendant')"))


def test_nothing_of_a_map_is_markup(visit, make):
    m = make()
    m[HOSTILE] = {HOSTILE: HOSTILE}
    page = visit(m.name)
    page.until("document.querySelectorAll('#shards > div').length")
    page.run("search()")
    page.until("document.querySelectorAll('#hits button').length == 1")
    page.run("document.querySelector('#hits button').click()")
    page.until("document.querySelector('#value pre')")
    text = page.text()
    assert "<img src=x onerror=alert(1)>" in text and "\\u202e" in text and "\u202e" not in text
    assert page.run("document.querySelectorAll('main img, main script').length") == 0
    assert page.run("document.title") == f"{m.name} · shmmap"


def test_the_browser_refuses_what_a_mistake_would_let_in(visit, make, browser):
    page = visit(make().name)
    page.until("document.querySelectorAll('#shards > div').length")
    assert page.run("""(() => {
        try { document.body.innerHTML = '<p>markup</p>'; } catch (error) { return error.name; }
    })()""") == "TypeError"
    assert page.run("(() => { const one = document.createElement('img'); one.src = '/x.png';"
                    "return new Promise(done => { one.onerror = () => done('refused');"
                    "one.onload = () => done('loaded'); }); })()") == "refused"
    assert page.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    assert page.complaints()
    browser.events.clear()


def test_every_request_has_the_token_and_none_has_a_referrer(visit, make, monkeypatch):
    asked: list[tuple[str, str, set[str]]] = []
    monkeypatch.setattr(answers.Asked, "log_request", lambda one, *of: asked.append(
        (one.command, one.path, {name.lower() for name in one.headers})))
    m = make()
    m["a"] = 1
    page = visit(m.name)
    page.until("document.querySelectorAll('#shards > div').length")
    page.run("search()")
    page.until("document.querySelectorAll('#hits button').length == 1")
    page.run("document.querySelector('#hits button').click()")
    page.until("document.querySelector('#value pre')")
    assert {path.partition("?")[0] for _, path, _ in asked} == {"/", "/figures", "/keys", "/value"}
    for method, path, headers in asked:
        assert method == "GET" and page.serving.server.door.token in path
        assert "referer" not in headers


def test_what_a_screen_reader_is_told(visit, make):
    m = make(shards=2)
    m.update({"a": 1, "b": 2})
    page = visit(m.name)
    page.until("document.querySelectorAll('#shards > div').length")
    page.run("search()")
    page.until("document.querySelectorAll('#hits button').length == 2")
    heard = page.heard()
    for one in (("heading", "shmmap"), ("heading", m.name), ("button", "Pause"), ("button", m.name),
                ("searchbox", "keys that begin with (none: all keys)"), ("button", "Search"),
                ("combobox", "by"), ("listbox", "Shards"), ("list", "Keys that were found"),
                ("columnheader", "hit ratio"), ("link", "Skip to the opened map")):
        assert one in heard, (one, heard)
    names = [name for role, name in heard if role == "option" and name.startswith("shard ")]
    assert len(names) == 2 and re.fullmatch(r"shard 0: [\d.]+ %", names[0])
    assert all(name for role, name in heard if role in ("button", "image", "img", "table", "link",
                                                        "searchbox", "listbox", "region"))
    assert len(page.run("[...document.querySelectorAll('table')].filter(one => !one.caption)")) == 0
    live = page.run("[...document.querySelectorAll('[aria-live]')].map(one => one.id)")
    assert live == ["status", "found", "seen"]  # none that changes with each look


def test_it_says_that_it_is_cut_off_and_comes_back(visit, make):
    m = make()
    page = visit(m.name)
    page.until("document.getElementById('status').textContent == 'live'")
    page.run("document.getElementById('pause').click()")
    assert page.run("document.getElementById('status').textContent") == "paused"
    assert page.run("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    m["a"] = 1
    page.run("new Promise(done => setTimeout(done, 400))")
    assert cells(page, "maps")[1] == "0"
    page.run("document.getElementById('pause').click()")
    page.until("document.querySelectorAll('#maps tr > *')[1].textContent == '1'")
    page.serving.server.streams = type("None", (), {"acquire": lambda self, **more: False})()
    page.run("connect()")
    page.until("document.getElementById('status').textContent.startsWith('no connection')")
    assert "too many pages are open" in page.text()
    page._browser.events.clear()  # the browser has told of the refusal


def test_histograms_and_events_where_a_map_has_them(visit, make, monkeypatch):
    of_map = documents.of_map
    monkeypatch.setattr(documents, "of_map", lambda *of: {
        **of_map(*of), "histograms": [
            {"name": "get", "buckets": [0] * 7 + [5, 90, 4, 0, 1] + [0] * 52},
            {"name": "set", "buckets": [0] * 64}],
        "events": [{"time": 1.7e9, "kind": "repair", "pid": 12, "shard": 3, "detail": HOSTILE},
                   {"time": 1.7e9 + 1, "kind": "takeover", "pid": None, "shard": None,
                    "detail": None}]})
    page = visit(make().name)
    page.until("!document.getElementById('p-histograms').hidden")
    assert page.run("document.querySelectorAll('#histograms > div').length") == 1
    assert page.run("document.querySelector('#histograms [role=img]').getAttribute('aria-label')"
                    ) == "get: 100 in all, half of them below 256 ns, 99 % below 512 ns"
    assert page.run("document.querySelectorAll('#histograms .bars > div').length") == 5
    rows = cells(page, "events")
    assert rows[1] == "takeover" and rows[6:] == ["repair", "12", "3", HOSTILE]


@pytest.mark.parametrize("width", [360, 500, 720, 860, 1100, 1600])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_width_light_and_dark(visit, make, other, width, dark):
    """Nothing is wider than the window, and all text is told from what is behind it."""
    m, second = make(shards=64), other()
    m.update({f"a key as long as they come {'x' * 200} {number}": "y" * 500 for number in range(9)})
    page = visit(m.name, second.name, width=width, dark=dark)
    page.until("document.querySelectorAll('#shards > div').length == 64")
    page.run("search()")
    page.until("document.querySelectorAll('#hits button').length")
    page.run("document.querySelector('#hits button').click()")
    page.until("document.querySelector('#value pre')")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run(CONTRAST) == []
    motion = "getComputedStyle(document.querySelector('#shards > div')).transitionDuration"
    assert page.run(motion) == "0s"
    page.looks(width, dark=dark, still=False)
    assert page.run(motion) == "0.4s"


# The texts whose contrast with what is behind them is less than 4.5 : 1 (WCAG 2, AA).
CONTRAST = """(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgb = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (colour) => colour.slice(0, 3).map((one) => one / 255).map((one) =>
        one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
        .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const colour = rgb(getComputedStyle(node).backgroundColor);
            if (colour[3]) return colour;
        }
        return [255, 255, 255, 255];
    };
    const poor = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !node.getClientRects().length) continue;
        if (/^(SCRIPT|STYLE|OPTION|NOSCRIPT)$/.test(node.tagName)) continue;
        const [a, b] = [rgb(getComputedStyle(node).color), behind(node)].map(light);
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) poor.push([walker.currentNode.data.trim(), ratio]);
    }
    return poor;
})()"""


def test_a_map_that_cannot_be_read(visit, make):
    m = make(shards=4)
    page = visit(m.name)
    page.until("document.querySelectorAll('#shards > div').length == 4")
    shard = m.attachment.mappings[2]
    before = bytes(shard.buffer[:8])
    shard.buffer[:8] = b"\0" * 8
    try:
        page.until("document.querySelectorAll('#shards > .unread').length == 1")
        page.run("choose(2)")
        said = page.run("document.getElementById('shard').textContent")
        assert said == "Shard 2: not readable, it is damaged."
        assert "1 not readable" in page.text()
    finally:
        shard.buffer[:8] = before
    page.until("document.querySelectorAll('#shards > .unread').length == 0")
    assert shmmap.ENGINE in page.text()


def test_no_map_at_all(visit):
    page = visit("there-is-none")
    page.until("document.getElementById('none').textContent.startsWith('There is no map')")
    assert page.run("document.getElementById('opened').hidden")


def test_sorting(visit, make, other):
    m, second = make(), other()
    second.update({"a": 1, "b": 2})
    page = visit(m.name, second.name)
    page.until("document.querySelectorAll('#maps tr').length == 2")
    first = "document.querySelector('#maps button').title"
    heads = "[...document.querySelectorAll('#heads [aria-sort]')].map(one => one.ariaSort)"
    for clicks, label, order in ((1, second.name, ["descending"]), (2, m.name, ["ascending"]),
                                 (3, m.name, [])):
        page.run("document.querySelectorAll('#heads button')[1].click()")
        assert (page.run(first), page.run(heads)) == (label, order), clicks


def test_rows_stand_still_while_somebody_is_at_them(visit, make, other):
    m, second = make(), other()
    m["a"] = 1
    page = visit(m.name, second.name)
    page.until("document.querySelectorAll('#maps tr').length == 2")
    page.run("document.querySelectorAll('#heads button')[1].click()")  # by entries
    first = "document.querySelector('#maps button').title"
    page.run("document.querySelector('#maps button').focus()")
    second.update({"a": 1, "b": 2, "c": 3})
    page.until("document.querySelectorAll('#maps tr')[1].children[1].textContent == '3'")
    assert page.run(first) == m.name
    page.run("document.activeElement.blur()")
    page.until(f"{first} == '{second.name}'")
