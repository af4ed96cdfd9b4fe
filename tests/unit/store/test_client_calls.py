"""Every call that the store makes of Qdrant exists in the client that is installed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from intramodal import store

SOURCES = sorted(Path(store.__file__).parent.rglob("*.py"))


def attributes(owner: str) -> set[str]:
    """Return what is asked of a name, or of an attribute of that name, in the store's code."""
    return {
        node.attr
        for node in nodes()
        if isinstance(node, ast.Attribute) and called(node.value) == owner
    }


def calls(owner: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each call of `owner` with its keywords."""
    for node in nodes():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and called(node.func.value) == owner
        ):
            yield node.func.attr, [word.arg for word in node.keywords if word.arg]


def nodes() -> Iterator[ast.AST]:
    for path in SOURCES:
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def called(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        # `client.http.client` is another one, generated for REST.
        return f"http.{node.attr}" if called(node.value) == "http" else node.attr
    return node.id if isinstance(node, ast.Name) else None


def test_every_method_of_the_client_exists_and_takes_the_keywords() -> None:
    used = list(calls("client"))
    assert {name for name, _ in used} >= {"upsert", "scroll", "query_batch_points"}
    for name, keywords in used:
        parameters = inspect.signature(getattr(QdrantClient, name)).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        assert takes_any or set(keywords) <= set(parameters), name


def test_every_model_exists_and_has_the_fields() -> None:
    assert {"Filter", "QueryRequest"} <= attributes("models")
    assert [name for name in attributes("models") if not hasattr(models, name)] == []
    for name, keywords in calls("models"):
        fields = getattr(getattr(models, name), "model_fields", None)
        known = None if fields is None else {*fields, *(f.alias for f in fields.values())}
        assert known is None or set(keywords) <= known, name


def test_every_word_of_the_embedded_engine_exists() -> None:
    edge = pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py here")
    assert {"EdgeShard", "UpdateOperation"} <= attributes("edge")
    assert [name for name in attributes("edge") if not hasattr(edge, name)] == []
