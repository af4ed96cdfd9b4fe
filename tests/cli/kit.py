"""A collection with two vectors, and commands as a person types them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from intramodal import ImageCollection, Projection, open_store
from intramodal.cli import cli
from intramodal.commands import printing
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Floats, declared_fingerprint, point_id

N, N_KINDS = 120, 6

WIDTHS = (80, 120)
ROOM = 1000
"""Columns in which every table of these tests is one."""

Shown = dict[int, str]
"""One table by the columns it had."""


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def run(*arguments: str, code: int = 0) -> Any:
    """Return the one JSON object that a command prints."""
    result = invoke(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def cells_of(line: str) -> list[str]:
    """Return the cells of one line of a table."""
    return [cell for cell in re.split(r"\s{2,}", line.strip()) if cell]


def rendered_tables(monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    """Render all that is given to `print_table` in every width, whoever has imported it."""
    real: Callable[..., None] = printing.print_table
    found: list[Shown] = []

    def render(columns: Any, rows: Any, *, title: str | None = None) -> None:
        columns, rows, shown = list(columns), [tuple(row) for row in rows], {}
        for width in (*WIDTHS, ROOM):
            monkeypatch.setenv("COLUMNS", str(width))
            with contextlib.redirect_stdout(io.StringIO()) as out:
                real(columns, rows, title=title)
            shown[width] = out.getvalue()
        found.append(shown)

    for module in list(sys.modules.values()):
        if getattr(module, "print_table", None) is real:
            monkeypatch.setattr(module, "print_table", render)
    return found


def assert_tables_fit(tables: Sequence[Shown]) -> None:
    """Assert that there are tables, that they fit, and that no number and no id is cut."""
    assert tables
    for shown in tables:
        whole = _figures(shown[ROOM])
        for width in WIDTHS:
            assert max(map(len, shown[width].splitlines())) <= width
            assert _figures(shown[width]) == whole
            assert "…" not in shown[width]


def _figures(shown: str) -> set[str]:
    """Return the numbers, ids and names with a digit; without those of headings that wrap."""
    return {word for word in shown.split() if any(map(str.isdigit, word)) and "@" not in word}


def walk(command: click.Command, path: str = "") -> list[tuple[str, click.Command]]:
    """Return every command below `command` with its full name."""
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    children = {
        name: command.get_command(context, name) for name in command.list_commands(context)
    }
    return [
        row for name, child in children.items() if child for row in walk(child, f"{path} {name}")
    ]


def digest(vector: str) -> str:
    """Return the SHA-256 of all that `photos` of the default store holds and says of itself."""
    found = hashlib.sha256()
    with open_store(DEFAULT_STORE) as store:
        info = store.info("photos")
        found.update(repr((sorted(info.vectors), info.metadata, info.indexes)).encode())
        for page in store.scroll("photos", vectors=[vector], payload=True):
            found.update(repr((page.ids, page.payloads)).encode())
            found.update(page.vectors[vector].tobytes())
    return found.hexdigest()


def make_declared(X: Floats, payloads: Sequence[dict[str, Any]], model: str, file: str) -> None:
    """Write `photos` with vectors `X` (n, d) of a declared model to the default store.

    Beside it are texts, `T.npy`, and a projection of that model, `file`.
    """
    origin = VectorOrigin(model, declared_fingerprint(model))
    with open_store(DEFAULT_STORE) as store:
        made = ImageCollection.create(store, "photos", {"raw": (X.shape[1], origin)})
        made.write(list(range(len(X))), {"raw": X}, payloads)
    texts = np.random.default_rng(8).normal(size=(60, X.shape[1]))
    np.save("T.npy", texts.astype(np.float32))
    half = np.eye(X.shape[1], 8, dtype=np.float32)
    Projection(half, "pca", model, declared_fingerprint(model)).save(file)


def make_photos(
    rng: np.random.Generator,
    *,
    label: str = "kind",
    kinds: Sequence[str] = (),
    paths: Sequence[str] = (),
) -> tuple[list[str], Floats, list[str]]:
    """Write `photos` to the default store: `pca` keeps the kind and has lost the season.

    Returns the ids, the raw vectors (N, 16) and the kind of each point.
    """
    names = list(kinds) or [f"kind {k}" for k in range(N_KINDS)]
    kind, season = np.arange(N) % len(names), np.arange(N) // len(names) % 4
    parts = [rng.normal(size=(n, 8))[labels] for n, labels in ((len(names), kind), (4, season))]
    raw = np.hstack([part + rng.normal(size=(N, 8)) for part in parts]).astype(np.float32)
    clip = VectorOrigin("clip", "3f9a")
    vectors = {
        "raw": (16, clip),
        "pca": (8, VectorOrigin("clip", "3f9a", projection="0c1d", source="raw")),
    }
    payloads = [
        {
            label: names[k],
            "season": f"season {s}",
            "path": paths[i % len(paths)] if paths else f"{i}.jpg",
        }
        for i, (k, s) in enumerate(zip(kind, season, strict=True))
    ]
    ids = [point_id("photos", f"{i}.jpg") for i in range(N)]
    with open_store(DEFAULT_STORE) as store:
        collection = ImageCollection.create(store, "photos", vectors)
        collection.write(ids, {"raw": raw, "pca": raw[:, :8].copy()}, payloads)
    return ids, raw, [names[k] for k in kind]
