"""How we speak: no metaphor and no riddle in help, messages, reports and docs (issue 21).

Searched are the strings of the package that hold a space (docstrings only where a command's help
is made of them), the prose of the templates and of the Markdown pages, without code.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "intramodal"
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "notebooks").glob("*.ipynb"),
        *(ROOT / "docker").glob("*.md"),
        *(ROOT / "scripts").glob("*.md"),
        *(ROOT / "packages").glob("*/*.md"),
    )
    if path.name != "CHANGELOG.md"  # what was said of released versions stays
)

PHRASES = (
    "what asks", "what answers", "told apart", "tell apart", "goes on where it stopped",
    "the same command goes on", "of the resampling, the episodes and what is drawn",
    "what is resampled", "whom that speaks of", "this speaks of", "stays from",
    "other maps of the same vectors", "any order of the pictures", "every bin by itself",
    "the texts stay", "the directory belongs to this process", "others are refused:",
    "of other text a uuid", "texts that ask", "texts that stand for", "in sight",
    "your word for", "ready embeddings instead", "one a class", "in the order of their names",
    "largest harmless loss", "oti less", "less this", "a little later and later", "not for ever",
)  # fmt: skip
"""Whole phrases that were there once, of which a reader has to decode the sense."""

WORDS = (
    "ask", "asks", "asked", "asking", "answer", "answers", "answered", "answering", "told",
    "said", "goes on", "go on", "went on", "way back", "mend", "mends", "mended", "whoever",
    "nobody", "beside", "picture", "pictures", "by itself", "whom",
)  # fmt: skip

PER = (
    r"(?:images?|rows?|values?|quer(?:y|ies)|points?|bytes?|ms|labels?|texts?|names?|units?|lines?)"
    r" an? (?:class|field|query|image|point|row|vector|second|line|value)"
)
"""What is meant is "per": "labelled images a class"."""

EXCEPTIONS = {
    "picture files": "files on disk, which may be broken",
    "picture file": "a file on disk",
    "(`pictures`)": "the parameter of a Python call",
    "name a vector": '"name" is the verb',
    "name a field": '"name" is the verb',
}


def searched() -> Iterator[tuple[str, str]]:
    """Yield what is searched, with its place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, text in strings(path):
            yield f"{path.relative_to(ROOT)}:{line}", text
    for path in sorted(PACKAGE.rglob("*.j2")):
        for number, line in enumerate(prose_of_template(path.read_text("utf-8")), 1):
            yield f"{path.relative_to(ROOT)}:{number}", line
    for path in PAGES:
        for number, line in enumerate(prose(page(path)), 1):
            yield f"{path.relative_to(ROOT)}:{number}", line


def page(path: Path) -> str:
    """Return the Markdown of a page, or of the cells of a notebook."""
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines and texts of the strings of a module that a person may read."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped = set(map(id, docstrings(tree)))
    for node in ast.walk(tree):
        if id(node) in skipped or not isinstance(node, ast.Constant):
            continue
        if isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, without_code(node.value)


def docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield all strings that stand alone, except those of commands: help is made of them."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            continue
        if any("command" in ast.dump(each) for each in getattr(node, "decorator_list", [])):
            continue
        for each in node.body:
            if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
                yield each.value


def prose(text: str) -> list[str]:
    """Return the lines of a page, blank where they are code."""
    fenced = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
    return without_code(fenced).splitlines()


def prose_of_template(text: str) -> list[str]:
    """Return the lines of a template without its code, its tags and its style."""
    for pattern in (r"{% block style %}.*?{% endblock %}", r"{[{%#].*?[}%#]}", r"<[^>]*>"):
        text = re.sub(pattern, lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    return text.splitlines()


def without_code(text: str) -> str:
    """Return a text without code, options, paths and what an example types."""
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", text)
    text = re.sub(r"^ *intramodal .*$", "", text, flags=re.M)
    text = re.sub(r"(?:--|[~./])[\w./-]+", "", text)
    for allowed in EXCEPTIONS:
        text = text.replace(allowed, "")
    return text


SEARCHED = list(searched())


@pytest.mark.parametrize(
    "pattern",
    [
        "|".join(map(re.escape, PHRASES)),
        rf"\b(?:{'|'.join(WORDS)})\b",
        rf"\b{PER}\b",
    ],
    ids=["phrases", "words", "per"],
)
def test_no_sentence_has_to_be_decoded(pattern: str) -> None:
    found = [
        f"{place}: …{text[max(0, hit.start() - 40) : hit.end() + 30]!r}"
        for place, text in SEARCHED
        for hit in re.finditer(pattern, text, flags=re.I)
    ]
    assert not found, "\n".join(found)


def test_the_search_sees_help_messages_reports_and_pages() -> None:
    places = {place.rsplit(":", 1)[0] for place, text in SEARCHED if text.strip()}
    assert {"README.md", "docs/method.md", "docs/cli.md"} <= places
    assert {"intramodal/commands/compare.py", "intramodal/evaluation/verdict.py"} <= places
    assert "intramodal/reports/templates/report.html.j2" in places
    text = "\n".join(text for _, text in SEARCHED)
    assert "Image file to search with." in text  # the help of an option
    assert "Run the whole workflow on bundled images" in text  # the help of a command
    assert "run the same command again to resume" in text  # a message
    assert "The images are recovered from their cosines" in text  # a report
    assert "The plan changes nothing." in text  # a notebook
