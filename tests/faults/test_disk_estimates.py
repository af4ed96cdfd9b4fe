"""The bytes that are asked for are those that the engine takes: never less, nor a multiple."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intramodal.store.base import VectorSpec

edge_store = pytest.importorskip("intramodal.store.edge.store", exc_type=ImportError)
space = pytest.importorskip("intramodal.store.edge.space")

N = 2_000
MOST = 3.0
"""An estimate may be so many times what is taken, as texts in the payload can be compressed."""


def taken(store: Path) -> int:
    return int(space.blocks(store.rglob("*")))


@pytest.mark.parametrize(
    ("sizes", "datatype", "text", "n_indexes"),
    [
        ([512], "float32", 0, 0),
        ([64, 32], "float32", 90, 0),
        ([256], "float16", 20, 0),
        ([16], "float32", 2_000, 0),
        ([64], "float32", 90, 2),
    ],
)
def test_points_take_what_was_asked_for(
    tmp_path: Path,
    rng: np.random.Generator,
    sizes: list[int],
    datatype: str,
    text: int,
    n_indexes: int,
) -> None:
    specs = {f"v{n}": VectorSpec(size, datatype=datatype) for n, size in enumerate(sizes)}
    payloads = [{"a": f"class {i % 9}", "b": rng.bytes(text // 2).hex()} for i in range(N)]
    with edge_store.EdgeStore(str(tmp_path)) as store:
        store.create("photos", specs)
        for field in ("a", "b")[:n_indexes]:
            store.ensure_index("photos", field, "keyword")
        before = taken(tmp_path)
        X = {name: rng.normal(size=(N, spec.size)) for name, spec in specs.items()}
        store.upsert(
            "photos", list(range(N)), {v: x.astype(np.float32) for v, x in X.items()}, payloads
        )
        grown = taken(tmp_path) - before
    asked = space.of_points(specs.values(), payloads, n_indexes).now
    assert grown <= asked <= MOST * grown


def test_a_new_vector_and_its_numbers_take_what_was_asked_for(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    spec = VectorSpec(256)
    with edge_store.EdgeStore(str(tmp_path)) as store:
        store.create("photos", {"raw": VectorSpec(8)})
        X = rng.normal(size=(N, 256)).astype(np.float32)
        store.upsert("photos", list(range(N)), {"raw": X[:, :8].copy()}, [{}] * N)
        before = taken(tmp_path)
        store.add_vector("photos", "pca", spec)
        added = taken(tmp_path)
        store.update_vectors("photos", "pca", list(range(N)), X)
        filled = taken(tmp_path)
    asked = space.of_new_vector(spec, N).now
    assert added - before <= asked <= MOST * (added - before)
    asked = space.of_vectors(spec, N, 0).now
    assert filled - added <= asked <= MOST * (filled - added)
