"""The check that ends every build of the site finds what it is made for."""

from __future__ import annotations

import sys

import pytest
from documents import DOCS

sys.path.append(str(DOCS / "_ext"))
from checked import check_site

GOOD = {
    "index.html": '<h1 id="top">Start</h1><a href="howto/a.html#the-end">a</a><a href="#top">up</a><a href="#">x</a>'
    '<img src="cat.png" alt="A cat"><link href="style.css?v=1"><a href="https://example.com/#any">out</a>',
    "howto/a.html": '<h1>A</h1><p id="the-end"><a href="../index.html">home</a><a href="../caf%C3%A9.html">c</a></p>',
    "café.html": "<h1>C</h1>",
    "genindex.html": "<p>no heading</p>",
    "cat.png": "",
    "style.css": "",
}


def write(folder, **changes):
    for name, text in (GOOD | changes).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return check_site(folder)


def test_a_site_that_holds_together_has_nothing_wrong(tmp_path):
    assert write(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<h1>C</h1><h1>D</h1>", "café.html: 2 headings h1, must be 1"),
        ("<h2>C</h2>", "café.html: 0 headings h1, must be 1"),
        ('<h1>C</h1><img src="cat.png">', "café.html: the picture cat.png has no alternative text"),
        ('<h1>C</h1><img src="cat.png" alt=" ">', "café.html: the picture cat.png has no alternative text"),
        ('<h1>C</h1><img src="dog.png" alt="A dog">', "café.html: dog.png leads nowhere"),
        ('<h1>C</h1><a href="howto/b.html">b</a>', "café.html: howto/b.html leads nowhere"),
        ('<h1>C</h1><a href="howto">b</a>', "café.html: howto leads nowhere"),
        ('<h1>C</h1><a href="#gone">b</a>', "café.html: #gone names no place in café.html"),
        ('<h1>C</h1><a href="howto/a.html#gone">b</a>', "café.html: howto/a.html#gone names no place in a.html"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    assert write(tmp_path, **{"café.html": text}) == [message]
