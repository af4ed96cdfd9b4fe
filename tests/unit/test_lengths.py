"""No function is longer than a page: signature and body together, the docstring left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import intramodal

PACKAGE = Path(intramodal.__file__).parent
MOST_LINES = 60
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Yield the name and the number of lines of every function of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            first = node.body[0]
            is_docstring = ast.get_docstring(node) is not None
            told = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - told


def test_no_function_is_longer_than_a_page() -> None:
    long = [
        f"{file.relative_to(PACKAGE)}: {name}, {n} lines"
        for file in PACKAGE.rglob("*.py")
        for name, n in functions(file.read_text(encoding="utf-8"))
        if n > MOST_LINES
    ]
    assert long == []


def test_a_docstring_does_not_count() -> None:
    source = 'def f(a,\n      b):\n    """One.\n\n    Two.\n    """\n    return a\n'
    assert list(functions(source)) == [("f", 3)]
