"""A collection with two vectors, texts and a split, for the tests of `intramodal evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from intramodal import ImageCollection, Projection, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.base import Store
from intramodal.store.manifest import VectorOrigin
from intramodal.types import VectorTable, point_id, unit_rows

N, N_KINDS, DIM = 120, 6, 16
COMMANDS = {
    "retrieval": ("photos", "--labels", "kind"),
    "fewshot": ("photos", "--labels", "kind", "--episodes", "3", "--shots", "1,2"),
    "misalignment": ("photos", "photos:pca", "--labels", "kind"),
    "recovery": ("photos", "--text-vectors", "T.npy", "--sizes", "4,40", "--subsets", "2"),
}


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *arguments])


def run(*arguments: str, code: int = 0) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def pictures() -> VectorTable:
    """Return the points: kinds apart in the first half of the dimensions, twice a year label."""
    rng = np.random.default_rng(7)
    kind = np.arange(N) % N_KINDS
    raw = np.hstack([rng.normal(size=(N_KINDS, 8))[kind], np.full((N, 8), 0.3)])
    raw = unit_rows(raw + rng.normal(size=(N, DIM)))
    payload = {
        "kind": [f"kind {k}" for k in kind],
        "split": [("train", "test", "val")[i % 5 % 3] for i in range(N)],
        "masterCategory": [f"kind {k}" for k in kind],
        "year": [2012.0 if i % 2 else 2013 for i in range(N)],
    }
    ids = [point_id("photos", f"{i}.jpg") for i in range(N)]
    return VectorTable(ids, {"raw": raw, "pca": half().apply(raw)}, payload)


def half() -> Projection:
    return Projection(np.eye(DIM, 8, dtype=np.float32), "pca", "clip", "3f9a")


def fill(
    store: Store,
    name: str = "photos",
    *,
    encoder: str = "clip",
    n: int = N,
    dataset: str | None = None,
) -> None:
    table = pictures()
    vectors = {
        "raw": (DIM, VectorOrigin(encoder, "3f9a")),
        "pca": (8, VectorOrigin(encoder, "3f9a", projection=half().fingerprint, source="raw")),
    }
    payloads = [
        {key: column[i] for key, column in table.payload.items()} | {"path": f"{i}.jpg"}
        for i in range(n)
    ]
    collection = ImageCollection.create(store, name, vectors, dataset=dataset)
    collection.write(table.ids[:n], {v: X[:n] for v, X in table.vectors.items()}, payloads)


def texts() -> np.ndarray:
    return np.random.default_rng(8).normal(size=(40, DIM)).astype(np.float32)


def make_shop(folder: Path) -> Path:
    """Fill a store below `folder`, with the texts and the projection beside it."""
    with open_store(str(folder / DEFAULT_STORE)) as store:
        fill(store)
        fill(store, "prints", n=60)
    np.save(folder / "T.npy", texts())
    half().save(folder / "pca.safetensors")
    return folder
