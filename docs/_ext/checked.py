"""What the build looks at after it wrote the pages: links, anchors, pictures, headings. What is wrong is a warning."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_WHOLE_SITE = {"genindex.html", "search.html", "py-modindex.html"}
"""Pages that nobody wrote."""


class _Page(HTMLParser):
    """What a page refers to and what can be referred to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.targets: list[str] = []
        self.unnamed: list[str] = []
        self.headings = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[key] for key in ("id", "name") if key in given}
        self.targets += [given[key] for key in ("href", "src") if given.get(key)]
        self.headings += tag == "h1"
        if tag == "img" and not given.get("alt", "").strip():
            self.unnamed.append(given.get("src", ""))


def check_site(folder: Path) -> list[str]:
    """Say what is wrong with the pages below a folder, one line each, sorted.

    A link to a file or an anchor that is not there; a picture without a text that tells what it shows; a page that has
    no or several headings of the first order.
    """
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    wrong = []
    for path, page in pages.items():
        name = path.relative_to(folder.resolve()).as_posix()
        if page.headings != 1 and name not in _WHOLE_SITE:
            wrong.append(f"{name}: {page.headings} headings h1, must be 1")
        wrong += [f"{name}: the picture {source} has no alternative text" for source in page.unnamed]
        for target in dict.fromkeys(page.targets):
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            file = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not file.is_file():
                wrong.append(f"{name}: {target} leads nowhere")
            elif url.fragment and file in pages and unquote(url.fragment) not in pages[file].names:
                wrong.append(f"{name}: {target} names no place in {file.name}")
    return sorted(wrong)


def _check(app: Sphinx, exception: Exception | None) -> None:
    from sphinx.util import logging

    if exception is None and app.builder.name == "html":
        for line in check_site(Path(app.outdir)):
            logging.getLogger(__name__).warning(line)


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at the site when it is written."""
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True}
