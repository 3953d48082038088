"""The built site in a browser: every page at two widths and in both color schemes. `make site-test` builds and runs it.

What the build checks, and titles, need no browser; the rest is skipped where there is none.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from documents import DOCS

import clusir_modules as cm

sys.path.append(str(DOCS / "_ext"))
from checked import check_site

SITE = Path(os.environ.get("CLUSIR_SITE", DOCS / "_build" / "html"))
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

# Lines of diagrams that are wider than the box around them.
OUT_OF_BOX = """() => [...document.querySelectorAll(".diagram g")].flatMap(group => {
    const box = group.querySelector("rect").getBBox();
    return [...group.querySelectorAll("text")].filter(text => text.getBBox().width > box.width)
}).map(text => text.textContent)"""


def test_the_build_finds_nothing_wrong():
    assert check_site(SITE) == []


def test_the_page_of_a_module_shows_how_it_is_called():
    modules = [name for name in cm.__all__ if "forward" in getattr(getattr(cm, name), "__dict__", {})]
    assert modules
    for name in modules:
        page = (SITE / "api" / "generated" / f"clusir_modules.{name}.html").read_text("utf-8")
        assert f'id="clusir_modules.{name}.forward"' in page, name


def test_pages_have_titles_of_their_own():
    titles = [re.search(r"<title>(.*?)</title>", path.read_text("utf-8"), re.DOTALL)[1].strip() for path in WRITTEN]
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


def test_no_page_overflows_or_complains(address, browser):
    faults: list[str] = []
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
    tab.close()
    assert not faults, "\n".join(faults)


def test_axe_finds_no_barrier(address, browser):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()

    def barriers():
        found = axe.run(tab, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
        return [
            f"{violation['id']} {node['html'][:120]}"
            for violation in found.response["violations"]
            for node in violation["nodes"]
        ]

    faults: list[str] = []
    tab = browser.new_page()
    for path in WRITTEN:
        name = path.relative_to(SITE).as_posix()
        for scheme, width in (("light", 360), ("dark", 1400)):
            tab.emulate_media(color_scheme=scheme)
            tab.set_viewport_size({"width": width, "height": 900})
            tab.goto(f"{address}/{name}", wait_until="load")
            faults += [f"{name} at {width} pixels, {scheme}: {barrier}" for barrier in barriers()[:3]]
    tab.evaluate("document.querySelector('article').insertAdjacentHTML('beforeend', '<img src=\"favicon.ico\">')")
    assert any(barrier.startswith("image-alt") for barrier in barriers())
    tab.close()
    assert not faults, "\n".join(faults)


def test_the_words_of_a_diagram_stay_in_their_boxes(address, browser):
    shown = [path.relative_to(SITE).as_posix() for path in WRITTEN if 'class="diagram"' in path.read_text("utf-8")]
    assert shown
    tab = browser.new_page(viewport={"width": 360, "height": 900})
    out = []
    for name in shown:
        tab.goto(f"{address}/{name}", wait_until="load")
        out += [f"{name}: {words}" for words in tab.evaluate(OUT_OF_BOX)]
        assert tab.evaluate("parseFloat(getComputedStyle(document.querySelector('.diagram text')).fontSize)") >= 11
    tab.close()
    assert out == []


def test_a_slider_moves_the_border_by_keyboard(address, browser):
    tab = browser.new_page()
    tab.goto(f"{address}/index.html", wait_until="load")
    slider = tab.get_by_label("Border between degraded (left) and restored (right)")
    assert slider.input_value() == "50"
    slider.press("ArrowRight")
    assert slider.input_value() == "51"
    assert slider.get_attribute("aria-valuetext") == "51 % degraded, 49 % restored"
    restored = tab.locator(".before-after img").nth(1)
    assert restored.evaluate("image => getComputedStyle(image).clipPath") == "inset(0px 0px 0px 51%)"
    tab.close()


def test_without_javascript_both_pictures_stand_side_by_side(address, browser):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{address}/index.html", wait_until="load")
    degraded, restored = (tab.locator(".before-after img").nth(number).bounding_box() for number in (0, 1))
    assert tab.locator(".before-after input").count() == 0
    assert degraded["x"] + degraded["width"] <= restored["x"]
    assert degraded["y"] == restored["y"]
    context.close()
