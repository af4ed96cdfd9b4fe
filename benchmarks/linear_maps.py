"""Claim: no training-free linear map tried beats PCA← and its centred form on every field.

Exact leave-one-out mAP of every label field of the real collections, all maps at the same size.
Nothing here sees a label; but the maps were thought of, and their grids chosen, by people who look
at these figures: take small differences for nothing.

    INTRAMODAL_REAL_DATA=FOLDER python benchmarks/linear_maps.py [--components 256]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import _real_data
import numba
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from intramodal.evaluation.retrieval import run_task
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.projection.directions import principal_directions
from intramodal.types import VectorTable

Matrix = NDArray[np.float64]
Map = Callable[[Matrix], Matrix]
"""From unit images (n, d) of one collection to vectors; may use their mean and covariance."""

MIN_CLASS_SIZE = 5
PLAIN, CENTRED = "PCA←", "centred PCA←"


@dataclass(frozen=True)
class Texts:
    """Principal directions of texts: columns of `Q` (d, d), with their variances (d,)."""

    mean: Matrix
    variances: Matrix
    Q: Matrix

    @classmethod
    def of(cls, T: Matrix) -> Texts:
        """Return the directions of unit texts (n, d)."""
        mean = T.mean(axis=0)
        variances, directions = principal_directions(T - mean)
        return cls(mean, variances, directions.T)


def unit(X: NDArray[np.float32]) -> Matrix:
    X = X.astype(np.float64)
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def centred(X: Matrix, share: float = 1.0) -> Matrix:
    return np.asarray(X - share * X.mean(axis=0))


def without(X: Matrix, direction: Matrix) -> Matrix:
    """Return rows without their part along one direction."""
    v = direction / np.linalg.norm(direction)
    return np.asarray(X - np.outer(X @ v, v))


def text_directions(names: Texts, captions: Texts, k: int) -> dict[str, Map]:
    """Return which directions are kept, without and with subtracting the mean image."""
    Q = names.Q
    both = Texts.of(np.vstack([np.sqrt(t.variances)[:, None] * t.Q.T for t in (names, captions)]))
    kept = {
        "": Q[:, :k],
        ", first 1 dropped": Q[:, 1 : k + 1],
        ", first 4 dropped": Q[:, 4 : k + 4],
        ", first 8 dropped": Q[:, 8 : k + 8],
        ", of captions": captions.Q[:, :k],
        ", of names and captions": both.Q[:, :k],
    }
    found: dict[str, Map] = {}
    for what, P in kept.items():
        found[PLAIN + what] = lambda X, P=P: X @ P  # type: ignore[misc]
        found[CENTRED + what] = lambda X, P=P: centred(X) @ P  # type: ignore[misc]
    return found


def text_weights(names: Texts, k: int) -> dict[str, Map]:
    """Return the directions weighted by their variance: Q Λ^α, and the soft filter λ/(λ + τ)."""
    variances, Q = names.variances, names.Q
    weights = {
        f", Λ^{power:g}": np.where(np.arange(len(variances)) < k, variances**power, 0)
        for power in (-0.5, -0.25, -0.125, 0.125, 0.25, 0.5)
    }
    for at in (k // 4, k // 2, k):
        weights[f", soft filter at {at}"] = variances / (variances + variances[at])
    found: dict[str, Map] = {}
    for what, w in weights.items():
        found[PLAIN + what] = lambda X, w=w: X @ Q * w  # type: ignore[misc]
        found[CENTRED + what] = lambda X, w=w: centred(X) @ Q * w  # type: ignore[misc]
    return found


def means(names: Texts, photos: Matrix, k: int) -> dict[str, Map]:
    """Return other treatments of the mean."""
    P = names.Q[:, :k]
    found: dict[str, Map] = {
        f"{CENTRED}, {share:g} of the mean": lambda X, share=share: centred(X, share) @ P  # type: ignore[misc]
        for share in (0.25, 0.5, 0.75, 0.9)
    }
    found[f"{PLAIN}, without the direction of the mean image"] = lambda X: (
        without(X, X.mean(axis=0)) @ P
    )
    found[f"{PLAIN}, without the direction of the mean text"] = lambda X: (
        without(X, names.mean) @ P
    )
    found[f"{CENTRED}, without the direction of the mean text"] = lambda X: (
        without(centred(X), names.mean) @ P
    )
    found[f"{CENTRED} on the mean of other photos"] = lambda X: (X - photos.mean(axis=0)) @ P
    found["centred, all dimensions"] = centred
    return found


def image_statistics(names: Texts, k: int) -> dict[str, Map]:
    """Return maps that also use the images' covariance."""
    P, covariance = names.Q[:, :k], (names.Q * names.variances) @ names.Q.T

    def whitened_after(X: Matrix, power: float) -> Matrix:
        Z = centred(X) @ P
        variances, directions = shrunk(Z)
        return np.asarray(Z @ directions * variances ** (-power / 2))

    def whitened_before(X: Matrix, power: float) -> Matrix:
        # power 1: the generalised eigenproblem of text against image covariance
        Y = centred(X)
        variances, directions = shrunk(Y)
        W = directions * variances ** (-power / 2) @ directions.T
        _, axes = np.linalg.eigh(W @ covariance @ W)
        return np.asarray(Y @ W @ axes[:, ::-1][:, :k])

    def without_first(X: Matrix, n: int) -> Matrix:
        Y = centred(X)
        V = np.linalg.svd(Y, full_matrices=False)[2][:n]
        return np.asarray((Y - Y @ V.T @ V) @ P)

    found: dict[str, Map] = {}
    for power in (0.1, 0.25, 0.5, 1.0):
        found[f"{CENTRED}, then whitened ^{power:g}"] = lambda X, p=power: whitened_after(X, p)  # type: ignore[misc]
    for power in (0.25, 0.5, 1.0):
        found[f"images whitened ^{power:g}, then text axes"] = (
            lambda X, p=power: whitened_before(X, p)  # type: ignore[misc]
        )
    for n in (1, 2):
        found[f"{CENTRED}, first {n} of the images' directions dropped"] = (
            lambda X, n=n: without_first(X, n)  # type: ignore[misc]
        )
    return found


def shrunk(Y: Matrix) -> tuple[Matrix, Matrix]:
    """Return variances, raised by their mean, and directions (d, d) as columns."""
    variances, directions = np.linalg.eigh(Y.T @ Y / len(Y))
    return np.maximum(variances, 0) + variances.mean(), directions


def all_maps(folder: Path, k: int) -> dict[str, Map]:
    pairs = folder / "flickr8k100-clip-b32"
    names = Texts.of(unit(_real_data.texts()))
    captions = Texts.of(unit(np.load(pairs / "text_embeddings.npy")))
    photos = unit(np.load(pairs / "image_embeddings.npy"))
    return {
        "raw": lambda X: X,
        **text_directions(names, captions, k),
        **text_weights(names, k),
        **means(names, photos, k),
        **image_statistics(names, k),
    }


def score(tables: list[VectorTable], make: Map) -> dict[str, float]:
    """Return the mAP x 100 of every field."""
    found = {}
    for table in tables:
        z = make(unit(table.vectors["raw"])).astype(np.float32)
        made = VectorTable(table.ids, {"z": z}, table.payload)
        for field in table.payload:
            task = RetrievalTask.from_table(made, field, min_class_size=MIN_CLASS_SIZE)
            found[field] = 100 * run_task(task, made, "z").map
    return found


def describe(found: dict[str, float], base: dict[str, float]) -> str:
    """Return on how many fields a map is better than another one, and its largest loss."""
    differences = [found[field] - base[field] for field in base]
    return f"{sum(d > 0 for d in differences)} ({min(differences):+.2f})"


def main() -> None:
    """Print a Markdown table, one row a map."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--components", type=int, default=256, help="kept dimensions")
    k = parser.parse_args().components
    folder = _real_data.folder()
    numba.config.NUMBA_NUM_THREADS = 1
    with threadpool_limits(1):
        maps, tables = all_maps(folder, k), _real_data.collections()
        plain, middle = (score(tables, maps[name]) for name in (PLAIN, CENTRED))
        better = (f"fields better than {name} (worst)" for name in (PLAIN, CENTRED))
        heads = ["map", *plain, "mean", *better]
        print(f"mAP x 100, {k} dimensions\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for name, make in maps.items():
            found = score(tables, make)
            figures = [f"{value:.2f}" for value in (*found.values(), np.mean([*found.values()]))]
            row = [name, *figures, describe(found, plain), describe(found, middle)]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
