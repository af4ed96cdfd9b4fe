"""A collection whose vector was made by one fit of a map refuses another fit of the same name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intramodal import ImageCollection, Projection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.manifest import VectorOrigin
from tests.cli.kit import run

N, D = 12, 8
MODEL = ("some model", "declared:some model")
GIVEN = ("--projection", "first.safetensors")
COMMANDS = {
    "backfill": ("backfill", "shop", *GIVEN),
    "plan": ("backfill", "shop", *GIVEN, "--dry-run"),
    "recompute": ("backfill", "shop", *GIVEN, "--recompute", "all"),
    "verify": ("backfill", "shop", *GIVEN, "--verify", "5"),
    "copy": ("backfill", "shop", *GIVEN, "--new-collection", "copy"),
    "ingest": ("ingest", "X.npy", "--collection", "shop", "--made-by", MODEL[0], *GIVEN),
    "search": ("search", "shop", "--id", "1", *GIVEN),
    "compare": ("compare", "shop", "--labels", "kind", *GIVEN),
}


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Leave `shop`, whose `pca` the second fit has made, and the file of the first."""
    monkeypatch.chdir(tmp_path)
    maps = [Projection(np.linalg.qr(rng.normal(size=(D, 4)))[0], "pca", *MODEL) for _ in range(2)]
    maps[0].save("first.safetensors")
    X = rng.normal(size=(N, D)).astype(np.float32)
    np.save("X.npy", X)
    made = {
        "raw": (D, VectorOrigin(*MODEL)),
        "pca": (
            4,
            VectorOrigin(*MODEL, projection=maps[1].fingerprint, source="raw", method="pca"),
        ),
    }
    with open_store(DEFAULT_STORE) as store:
        shop = ImageCollection.create(store, "shop", made)
        payloads = [{"kind": f"k{i % 3}"} for i in range(N)]
        shop.write(list(range(N)), {"raw": X, "pca": maps[1].apply(X)}, payloads)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_first_fit_of_a_map_is_refused_where_the_second_made_the_vector(name: str) -> None:
    refused = run(*COMMANDS[name], code=1)["error"]
    assert refused["type"] in {"ManifestMismatchError", "InputError"}
    assert "made by" in refused["message"]
