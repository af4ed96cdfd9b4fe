"""Ready vectors of a shop with 50 kinds of things, and the texts that name them."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from intramodal.types import Floats, unit_rows
from tests.cli.kit import run
from tests.integration.servers import Qdrant

N_POINTS = os.environ.get("INTRAMODAL_INTEGRATION_POINTS")
N_KINDS, D = 50, 64
MODEL = "hf:our/clip"
PROJECTION = "pca.safetensors"
BACKFILL = ("backfill", "shop", "--to", "pca", "--projection", PROJECTION)


def n_points(server: Qdrant) -> int:
    """Return how many points the large tests write: 20,000, and fewer to a stand-in in Python."""
    return int(N_POINTS or (4000 if server.is_stand_in else 20_000))


@dataclass(frozen=True)
class Shop:
    """Unit rows (n, D), the kind of each, and embedded texts (100, D)."""

    X: Floats
    kinds: NDArray[np.int64]
    texts: Floats

    @classmethod
    def of(cls, n: int) -> Shop:
        """Return `n` things: the kind shows in the first half of the dimensions."""
        rng = np.random.default_rng(n)
        kinds = np.arange(n) % N_KINDS
        centres = np.hstack([rng.normal(size=(N_KINDS, D // 2)), np.zeros((N_KINDS, D // 2))])
        X = unit_rows(centres[kinds] + rng.normal(size=(n, D)))
        scale = np.repeat([1.0, 0.05], D // 2)  # texts vary where kinds do
        return cls(X, kinds, unit_rows(rng.normal(size=(100, D)) * scale))

    def save(self) -> None:
        """Write X.npy, meta.csv, T.npy and names.txt into the current folder."""
        np.save("X.npy", self.X)
        np.save("T.npy", self.texts)
        Path("names.txt").write_text("".join(f"thing {i}\n" for i in range(len(self.texts))))
        with Path("meta.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "kind", "shelf"])
            writer.writerows([i, f"kind {k}", f"shelf {i % 7}"] for i, k in enumerate(self.kinds))


def ingest(*more: str, code: int = 0) -> dict[str, object]:
    """Run ``intramodal ingest`` on the saved vectors."""
    place = ("--metadata", "meta.csv", "--collection", "shop", "--made-by", MODEL)
    found: dict[str, object] = run("ingest", "X.npy", *place, *more, code=code)
    return found


def fit() -> None:
    """Fit the projection to the saved texts."""
    texts = ("--text-vectors", "T.npy", "--anchors", "names.txt", "--made-by", MODEL)
    run("fit", *texts, "-o", PROJECTION)
