"""The site holds together: pages are linked, pictures are made, marks are set."""

from __future__ import annotations

import re

import pytest
from documents import DOCS, blocks, pages

COMPONENTS = sorted(path for path in (DOCS / "components").glob("*.md") if path.name != "index.md")


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in pages()])
def test_links_to_pages_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    targets = [target for target in re.findall(r"\]\((?!https?:)([^)#]+)", text) if "_generated/" not in target]
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in COMPONENTS])
def test_a_component_page_has_all_its_parts(path):
    text = path.read_text("utf-8")
    for wanted in ("**[ours]**", "```python", "When not to use", "## "):
        assert wanted in text or (wanted == "**[ours]**" and "[ours]" in text), f"{path.name} lacks {wanted}"


def test_every_picture_and_table_that_a_page_shows_is_made_by_a_script():
    scripts = "".join(path.read_text("utf-8") for path in (DOCS / "pictures").glob("*.py"))
    costs = set(re.findall(r'^    "(\w+)": \[', scripts, re.MULTILINE))
    made = {f"cost_{name}.md" for name in costs} | set(re.findall(r'"([\w]+\.(?:png|md))"', scripts))
    shown = {name for path in pages() for name in re.findall(r"_generated/([\w.]+)", path.read_text("utf-8"))}
    assert shown
    assert shown <= made


def test_the_glossary_has_few_words_in_order():
    words = re.findall(r"^(\S.*)\n  \S", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)
    assert 10 <= len(words) <= 20
    assert words == sorted(words, key=str.lower)


def test_code_of_the_documents_is_at_most_88_columns_wide():
    code = blocks("python", "{code-block} python", "yaml", "bash", "sh")
    wide = [f"{block.name}: {line}" for block in code for line in block.shown.splitlines() if len(line) > 88]
    assert code
    assert wide == []


def test_every_diagram_that_a_page_shows_is_drawn_and_shown():
    source = (DOCS / "pictures" / "diagrams.py").read_text("utf-8")
    drawn = set(re.findall(r'^    "(\w+)": (?:Diagram\(|_house)', source, re.MULTILINE))
    shown = {
        name
        for path in pages()
        for name in re.findall(r"^```\{diagram\} (\w+)$", path.read_text("utf-8"), re.MULTILINE)
    }
    assert drawn
    assert shown == drawn


def test_no_diagram_is_drawn_with_letters():
    assert [block.name for block in blocks("text") if re.search("[\u2500-\u257f]", block.text)] == []


def test_every_table_of_results_has_a_title():
    titles = set(re.findall(r'^    "(\w+)": "', (DOCS / "pictures" / "results.py").read_text("utf-8"), re.MULTILINE))
    assert {path.stem for path in (DOCS.parent / "benchmarks" / "results").glob("*.md")} <= titles
