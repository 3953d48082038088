"""The page that restores a visitor's picture, in Chromium: it gives what the library gives (`make site-test`)."""

from __future__ import annotations

import functools
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from click.testing import CliRunner
from documents import CHROMIUM, DOCS
from PIL import Image

import clusir_modules as cm
from clusir_cli.app import main
from clusir_modules.data import RainStreaks

SITE = Path(os.environ.get("CLUSIR_SITE", DOCS / "_build" / "html"))
FILES = SITE / "_static" / "try"
LONGEST = 500_000  # milliseconds


def what_is_missing() -> str | None:
    if not (FILES / "model.json").is_file():
        return f"no built site in {SITE}: `make docs` builds it"
    if CHROMIUM is None:
        return "no Chromium: apt-get install chromium"
    return json.loads((FILES / "model.json").read_text("utf-8"))["missing"]


pytestmark = [pytest.mark.slow, pytest.mark.skipif(what_is_missing() is not None, reason=str(what_is_missing()))]


class Visit:
    """A tab with the page in it, and what it asked the server for."""

    def __init__(self, tab: Any, address: str) -> None:
        self.tab = tab
        self.asked: list[tuple[str, str]] = []
        self.faults: list[str] = []
        tab.on("request", lambda request: self.asked.append((request.method, request.url)))
        tab.on("pageerror", lambda error: self.faults.append(str(error)))
        tab.goto(f"{address}/try.html")

    def error_after(self, path: Path) -> str:
        self.tab.set_input_files("#try-file", path)
        self.tab.wait_for_selector("#try-error", state="visible")
        return self.tab.inner_text("#try-error")


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *message: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    visit = Visit(browser.new_page(), f"http://127.0.0.1:{server.server_port}")
    yield visit
    assert visit.faults == []
    visit.tab.close()
    server.shutdown()


def test_the_page_gives_what_the_library_gives_and_sends_nothing(visit, tmp_path):
    photograph = torch.from_numpy(skimage.data.astronaut()[:, 100:340].copy())
    photograph = torch.cat((photograph, photograph[:20].flip(0))).permute(2, 0, 1).float() / 255  # more than a tile
    rainy = RainStreaks()(photograph, torch.Generator().manual_seed(0)).clamp(0, 1)
    pixels = (rainy * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "rain.png")

    assert not [url for _, url in visit.asked if url.endswith((".onnx", ".wasm"))]
    visit.tab.set_input_files("#try-file", tmp_path / "rain.png")
    visit.tab.wait_for_selector("#try-download", state="visible", timeout=LONGEST)
    with visit.tab.expect_download() as download:
        visit.tab.click("#try-download")
    assert download.value.suggested_filename == "rain_restored.png"
    download.value.save_as(tmp_path / "restored.png")
    assert {method for method, _ in visit.asked} == {"GET"}
    restored = np.asarray(Image.open(tmp_path / "restored.png").convert("RGB")).astype(int)

    net = cm.clusir_tiny(pretrained=True).eval()
    with torch.no_grad():
        routings = net.route(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    settings = json.loads((FILES / "model.json").read_text("utf-8"))
    done = re.match(r"Restored in (\d+) tiles of (\d+) pixels, in ", visit.tab.inner_text("#try-status"))
    assert done, visit.tab.inner_text("#try-status")
    assert int(done[1]) == 2
    tiles = {"tile": int(done[2]), "overlap": settings["overlap"], "routing": routings}
    expected = cm.restore(net, pixels, **tiles, progress=False).astype(int)
    assert np.abs(restored - expected).max() <= 1
    assert np.abs(restored - pixels).mean() > 1  # it did something

    inspected = CliRunner().invoke(main, ["inspect", str(tmp_path / "rain.png")])
    assert visit.tab.inner_text("#try-looks") == inspected.output.strip()

    visit.tab.focus("#try-split")
    visit.tab.keyboard.press("ArrowRight")
    assert visit.tab.evaluate("document.getElementById('try-compare').style.getPropertyValue('--split')") == "51%"


def test_a_file_that_is_no_picture_is_named(visit, tmp_path):
    (tmp_path / "letter.png").write_text("Dear reader")
    assert visit.error_after(tmp_path / "letter.png").startswith("letter.png is no picture that this browser can read")


def test_a_picture_that_is_too_large_is_named_with_its_size(visit, tmp_path):
    Image.new("RGB", (4100, 4000)).save(tmp_path / "wall.png")
    error = visit.error_after(tmp_path / "wall.png")
    assert error.startswith("wall.png is too large: 4100 x 4000 are 16.4 megapixels, at most 16 go here")


def test_what_is_dropped_is_taken(visit):
    visit.tab.evaluate(
        """() => { const dropped = new DataTransfer();
        dropped.items.add(new File(["no picture"], "dropped.png", { type: "image/png" }));
        document.getElementById("try-drop").dispatchEvent(new DragEvent("drop", { dataTransfer: dropped })); }"""
    )
    visit.tab.wait_for_selector("#try-error", state="visible")
    assert visit.tab.inner_text("#try-error").startswith("dropped.png is no picture")


def test_a_site_without_the_runtime_says_how_to_get_it(visit, tmp_path):
    answer = {"status": 200, "body": json.dumps({"missing": "npm was not there"})}
    visit.tab.route("**/model.json", lambda route: route.fulfill(**answer))
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    assert visit.error_after(tmp_path / "small.png") == "npm was not there"
