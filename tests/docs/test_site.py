"""The built site in a browser: every page at two widths and in both color schemes. `make site-test` builds and runs it.

Links and alternative texts need no browser; the rest is skipped where there is none.
"""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest
from documents import DOCS

SITE = Path(os.environ.get("CLUSIR_SITE", DOCS / "_build" / "html"))
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WRITTEN = sorted(
    path for path in SITE.rglob("*.html") if path.relative_to(SITE).parts[0] not in {"_static", "_sources"}
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WRITTEN, reason=f"no built site in {SITE}: `make docs` builds it"),
]

# What stands out of the window to the right, but for what scrolls in a box of its own.
TOO_WIDE = """() => { const out = element => element.getBoundingClientRect().right > innerWidth + 1;
return [...document.querySelectorAll("article, article *")].filter(element => {
    if (!out(element)) return false;
    for (let box = element.parentElement; box && box.tagName !== "ARTICLE"; box = box.parentElement)
        if (["auto", "scroll"].includes(getComputedStyle(box).overflowX) && !out(box)) return false;
    return true;
}).map(element => `${element.tagName} ${element.className} ${element.textContent.slice(0, 40)}`).slice(0, 2)}"""


class Page(HTMLParser):
    """What a page links to, what it can be linked at, its pictures and its title."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.untold: list[str] = []
        self.title = ""
        self._in_title = False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors.add(values.get("id") or "")
        self._in_title = tag == "title" and not self.title
        if tag in ("a", "link") and values.get("href"):
            self.links.append(str(values["href"]))
        if tag in ("img", "script") and values.get("src"):
            self.links.append(str(values["src"]))
        if tag == "img" and not values.get("alt", "").strip():  # type: ignore[union-attr]
            self.untold.append(str(values.get("src")))

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False


@functools.cache
def page(path: Path) -> Page:
    return Page(path)


def broken(path: Path) -> list[str]:
    """Links of a page that lead nowhere, those to other sites left out."""
    found = []
    for link in page(path).links:
        if ":" in link.split("/")[0] or link.startswith("//"):
            continue
        name, fragment = urldefrag(link.split("?")[0] if "#" not in link else link)
        target = path if not name else Path(os.path.normpath(path.parent / unquote(name.split("?")[0])))
        if not target.is_file() or (
            fragment and target.suffix == ".html" and unquote(fragment) not in page(target).anchors
        ):
            found.append(link)
    return found


def test_links_lead_somewhere():
    assert {str(path.relative_to(SITE)): links for path in WRITTEN if (links := broken(path))} == {}


def test_pictures_have_alternative_texts_and_pages_titles_of_their_own():
    assert {str(path.relative_to(SITE)): page(path).untold for path in WRITTEN if page(path).untold} == {}
    titles = [page(path).title for path in WRITTEN]
    assert all(titles)
    assert len(set(titles)) == len(titles)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *message: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_no_page_overflows_or_complains(address):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    faults: list[str] = []
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        tab = browser.new_page()
        tab.route(lambda url: not url.startswith(address), lambda route: faults.append(route.request.url))
        tab.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("response", lambda answer: faults.append(answer.url) if answer.status >= 400 else None)
        for path in WRITTEN:
            name = path.relative_to(SITE).as_posix()
            tab.goto(f"{address}/{name}", wait_until="load")
            for scheme, width in product(("light", "dark"), (360, 1400)):
                tab.emulate_media(color_scheme=scheme)
                tab.set_viewport_size({"width": width, "height": 900})
                if wide := tab.evaluate(TOO_WIDE):
                    faults.append(f"{name} at {width} pixels, {scheme}: {wide}")
        tab.set_viewport_size({"width": 360, "height": 900})
        tab.evaluate("document.querySelector('article').insertAdjacentHTML('beforeend', '<p style=\"width: 900px\">')")
        assert tab.evaluate(TOO_WIDE) == ["P  "]
        browser.close()
    assert not faults, "\n".join(faults)
