"""Files of qdrant-client's local mode are read as data: nothing in them is run or changed."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import uuid
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, Locked, NotFound, StoreError
from intramodal.store.base import VectorSpec
from intramodal.store.local_mode import LocalMode, Problem
from tests.foreign_directories import N, contents, make_local_mode

pytestmark = pytest.mark.filterwarnings("ignore:.*local:UserWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_local_mode(tmp_path / "local")
    return tmp_path / "local"


def replace_row(folder: Path, data: Any, name: str = "products") -> None:
    """Put something else in the place of one point."""
    with sqlite3.connect(folder / "collection" / name / "storage.sqlite") as database:
        database.execute("UPDATE points SET point = ? WHERE rowid = 1", [data])
    database.close()


def read(folder: Path, name: str = "products") -> tuple[dict[Any, Any], list[Problem]]:
    """Return the payload of each point, and the problems."""
    payloads: dict[Any, Any] = {}
    problems: list[Problem] = []
    for page, found in LocalMode(folder).collection(name).pages():
        payloads |= dict(zip(page.ids, page.payloads, strict=True))
        problems += found
    return payloads, problems


def test_what_a_client_has_written_is_read_and_nothing_is_changed(folder: Path) -> None:
    before = contents(folder)
    local = LocalMode(folder)
    with local.held():
        assert local.names() == ["plain", "products"]
        products = local.collection("products")
        assert products.vectors == {"image": VectorSpec(4)}
        assert products.metadata == {"owner": "shop"}
        assert products.n_rows() == N
        ((page, problems),) = products.pages()
        ((plain, _),) = local.collection("plain").pages()
    assert problems == []
    X = np.array([[1.0, i, 0.0, 1.0] for i in reversed(range(N))], dtype=np.float64)
    expected = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(page.vectors["image"], expected, atol=1e-7)  # float32 rounding
    assert page.payloads == [{"category": "ab"[i % 2]} for i in reversed(range(N))]
    assert page.ids == list(reversed(range(N)))
    np.testing.assert_array_equal(plain.vectors[""], [[i, 2.0, 3.0] for i in reversed(range(N))])
    assert contents(folder) == before


class Evil:
    """Runs a command wherever it is unpickled."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("call", [os.mkdir, eval, os.system], ids=lambda call: call.__name__)
def test_a_pickle_with_code_is_listed_and_not_run(folder: Path, call: Callable[..., Any]) -> None:
    mark = folder.parent / "was-run"
    text = str(mark) if call is os.mkdir else f"__import__('os').mkdir({str(mark)!r})"
    replace_row(
        folder, pickle.dumps(Evil(call, text if call is not os.system else f"mkdir {mark}"))
    )
    payloads, problems = read(folder)
    assert not mark.exists()
    assert len(payloads) == N - 1
    ((item, reason),) = problems
    assert item == "row 1"
    assert "which is not data" in reason


def _shared(n: int) -> bytes:
    """Return a point whose payload doubles with each of n levels, in a few bytes a level."""
    inner: list[Any] = []
    for _ in range(n):
        inner = [inner, inner]
    return _point_bytes({"a": inner})


def _point_bytes(payload: Any, **fields: Any) -> bytes:
    from qdrant_client import models

    values = {"id": 0, "vector": {"image": [1.0, 0.0, 0.0, 1.0]}, "payload": payload, **fields}
    return pickle.dumps(models.PointStruct.model_construct(**values))


HOSTILE = {
    "no bytes": None,
    "a text": "text",
    "nothing": b"",
    "half a point": lambda: _point_bytes({"a": 1})[:100],
    "a number": lambda: pickle.dumps(7),
    "a class alone": b"cqdrant_client.http.models.models\nPointStruct\n.",
    "a bare model": b"cqdrant_client.http.models.models\nPointStruct\n)\x81.",
    "doubled 60 times": lambda: _shared(60),
    "a great memo": b"\x80\x04Nr\xff\xff\xff\xff.",
    "an id of no kind": lambda: _point_bytes({}, id="shop-7"),
    "deep": lambda: b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_row_that_is_no_point_is_listed_and_the_others_are_read(folder: Path, kind: str) -> None:
    made: Any = HOSTILE[kind]
    replace_row(folder, made() if callable(made) else made)
    payloads, problems = read(folder)
    assert len(payloads) == N - 1
    assert [item for item, _ in problems] == ["row 1"]
    assert len(problems[0][1]) < 300


@pytest.mark.parametrize(
    "vector",
    [[1.0], [float("nan")] * 4, ["a"] * 4, [[1.0] * 4], "text", {"a": 1}],
    ids=["short", "nan", "text in it", "matrix", "text", "mapping"],
)
def test_a_vector_that_cannot_be_kept_is_listed_and_its_point_is_read(
    folder: Path, vector: Any
) -> None:
    replace_row(folder, _point_bytes({"a": 1}, vector={"image": vector}))
    payloads, problems = read(folder)
    assert len(payloads) == N
    assert ["its vector 'image' is left out" in reason for _, reason in problems] == [True]


def test_payload_of_old_versions_is_read_as_it_was_given(folder: Path) -> None:
    when, who = datetime(2020, 1, 2, tzinfo=UTC), uuid.UUID(int=5)
    replace_row(folder, _point_bytes({"when": when, "who": who, "in": [{"who": who}]}))
    payloads, problems = read(folder)
    assert problems == []
    assert payloads[0] == {"when": when, "who": str(who), "in": [{"who": str(who)}]}


def test_of_several_rows_of_a_point_the_last_written_comes_first(folder: Path) -> None:
    file = folder / "collection" / "products" / "storage.sqlite"
    with sqlite3.connect(file) as database:
        database.execute("INSERT INTO points VALUES ('old key', ?)", [_point_bytes({"new": 1})])
    database.close()
    ((page, _),) = LocalMode(folder).collection("products").pages()
    assert page.ids.count(0) == 2
    assert page.payloads[page.ids.index(0)] == {"new": 1}


def test_a_directory_that_a_client_has_open_is_refused_until_it_is_closed(folder: Path) -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(folder))
    with (
        pytest.raises(Locked, match="open; close it, then import again"),
        LocalMode(folder).held(),
    ):
        pass
    client.close()
    with LocalMode(folder).held(), pytest.raises(RuntimeError, match="already accessed"):
        QdrantClient(path=str(folder))


def test_what_a_killed_client_was_writing_is_left_to_the_client(folder: Path) -> None:
    journal = folder / "collection" / "products" / "storage.sqlite-journal"
    journal.write_bytes(b"half a page")
    with pytest.raises(StoreError, match="open the directory once with qdrant-client"):
        read(folder)


def test_nothing_outside_of_the_directory_is_read(folder: Path) -> None:
    outside = folder.parent / "outside.sqlite"
    file = folder / "collection" / "products" / "storage.sqlite"
    file.rename(outside)
    file.symlink_to(outside)
    with pytest.raises(StoreError, match="lies outside"):
        LocalMode(folder).collection("products")
    _rewrite(folder, lambda meta: meta["collections"].update({"../../x": {"vectors": {}}}))
    (folder.parent.parent / "x").mkdir(exist_ok=True)
    with pytest.raises(StoreError, match=r"no file|lies outside"):
        LocalMode(folder).collection("../../x")


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    change(meta)
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    "config",
    [
        *(None, 7, [], {"vectors": 7}, {"vectors": {"image": 7}}, {"vectors": {"image": {}}}),
        *({"vectors": {"size": 4, "distance": "Hamming"}}, {"vectors": {"a": {"size": "x"}}}),
    ],
)
def test_a_description_in_another_form_is_said(folder: Path, config: Any) -> None:
    _rewrite(folder, lambda meta: meta["collections"].update(products=config))
    with pytest.raises(StoreError, match=r"the description of 'products' in .* cannot be read"):
        LocalMode(folder).collection("products")


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b"no database" * 1000),
        lambda file: file.write_bytes(file.read_bytes()[:5000]),
        lambda file: file.write_bytes(b""),
    ],
    ids=["another file", "half a file", "an empty file"],
)
def test_a_damaged_file_is_said(folder: Path, damage: Callable[[Path], Any]) -> None:
    damage(folder / "collection" / "products" / "storage.sqlite")
    with pytest.raises(StoreError, match=r"storage\.sqlite"):
        read(folder)


def test_a_view_in_place_of_the_points_is_refused(folder: Path) -> None:
    file = folder / "collection" / "products" / "storage.sqlite"
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE points")
        database.execute("CREATE VIEW points AS SELECT 1 AS id, zeroblob(1000) AS point")
    database.close()
    with pytest.raises(StoreError, match="has no table of points"):
        read(folder)


def test_names_and_places_that_are_none_are_said(folder: Path) -> None:
    with pytest.raises(NotFound, match="it has 'plain', 'products'"):
        LocalMode(folder).collection("shop")
    with pytest.raises(InputError, match="is no storage of qdrant-client's local mode"):
        LocalMode(folder.parent / "nowhere")


def test_vectors_of_other_kinds_are_named(tmp_path: Path) -> None:
    from qdrant_client import QdrantClient, models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = QdrantClient(path=str(tmp_path / "local"))
        many = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        dot = models.Distance.DOT
        client.create_collection(
            "shop",
            vectors_config={
                "one": models.VectorParams(size=2, distance=dot),
                "many": models.VectorParams(size=2, distance=dot, multivector_config=many),
            },
            sparse_vectors_config={"words": models.SparseVectorParams()},
        )
        sparse = models.SparseVector(indices=[1, 5], values=[0.5, 1.0])
        vector: Any = {"one": [1.0, 2.0], "many": [[1.0, 2.0], [3.0, 4.0]], "words": sparse}
        client.upsert("shop", [models.PointStruct(id=1, vector=vector)])
        client.close()
    shop = LocalMode(tmp_path / "local").collection("shop")
    assert shop.left_out == {"words": "a sparse vector", "many": "a multivector"}
    ((page, problems),) = shop.pages()
    assert problems == []
    np.testing.assert_array_equal(page.vectors["one"], [[1.0, 2.0]])
