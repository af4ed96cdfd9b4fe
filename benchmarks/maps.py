"""Claim: maps from labels score on real images what an independent program found, mAP and page.

Three disjoint sides per seed: queries (25%), gallery (37.5%), and labelled rows that maps are
fitted to (37.5%); near-copies are on one side, classes of fewer than 5 images are left out. Each
figure is the mean of the seeds by the jobs of this package, `fit_label_map`, `fit_posterior` and
`evaluate_retrieval`; beside it how far it is from the other program's, which is a mean of 5 seeds,
in standard errors of the difference. All maps of a field are judged on the same draws: where `raw`
is off by two, so are the others.

    INTRAMODAL_REAL_DATA=FOLDER python benchmarks/maps.py [--seeds 20]
"""

from __future__ import annotations

import argparse
import csv
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from intramodal.evaluation.held_out import NEAR_COPY
from intramodal.evaluation.resampling import NO_INTERVAL, Resampling
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.tasks import Sides
from intramodal.fit_rows import FitRows
from intramodal.projection.fit import LabelledRows, fit_label_map, fit_posterior
from intramodal.projection.projection import Projection
from intramodal.projection.stored_map import StoredMap
from intramodal.projection.text_pca import TextPCA
from intramodal.types import FittedVector, VectorTable, unit_rows

MADE_BY = ("clip", "benchmark")
FIT = FitRows(where=("side", ("fit",)))
ASKED = Sides.parse("side=query", "side=gallery")
MIN_CLASS_SIZE = 5
FIELDS = ("cifar", "articleType", "subCategory", "gender", "usage", "baseColour")
FOUND = {
    "raw": (60.0, 60.7, 72.3, 57.4, 75.6, 18.0),
    "PCA←": (74.7, 64.7, 77.5, 57.6, 74.7, 19.8),
    "centred PCA←": (75.9, 66.4, 78.8, 58.0, 75.0, 19.6),
    "label map, 100 labels": (83.8, 68.2, 85.7, 73.8, 77.3, 24.5),
    "label map, 200 labels": (85.5, 70.5, 87.6, 77.2, 79.4, 29.8),
    "label map, all": (85.5, 71.7, 89.2, 79.6, 80.5, 34.2),
    "posterior, 200 labels": (89.5, 70.9, 85.5, 79.6, 83.5, 28.3),
    "posterior, all": (89.5, 74.4, 90.7, 82.2, 86.2, 35.1),
}
"""mAP x 100 by the other program, mean of `FOUND_SEEDS`: a row a map, a column a field."""
FOUND_SEEDS = 5


@dataclass(frozen=True)
class Images:
    """Unit images (n, d) and their labels (n,), of classes that are large enough."""

    X: NDArray[np.float32]
    y: NDArray[np.str_]


def images(folder: Path, field: str) -> Images:
    if field == "cifar":
        folder /= "cifar10-500-clip-b32"
        labels = np.load(folder / "image_labels.npy").astype(str)
    else:
        folder /= "fashion988-clip-b32"
        with (folder / "labels.csv").open(encoding="utf-8") as file:
            labels = np.array([row[field] for row in csv.DictReader(file)])
    X = unit_rows(np.load(folder / "image_embeddings.npy"))
    names, counts = np.unique(labels, return_counts=True)
    kept = np.isin(labels, names[counts >= MIN_CLASS_SIZE])
    return Images(X[kept], labels[kept])


def sides(X: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.str_]:
    """Return the side (n,) of each image; near-copies are on one."""
    groups = connected_components(csr_array(X @ X.T > NEAR_COPY))[1]
    place = rng.permutation(groups.max() + 1) / (groups.max() + 1)
    names = np.array(["query", "gallery", "fit"])
    return np.asarray(names[np.searchsorted([0.25, 0.625], place, side="right")][groups])


def maps(
    of: Images, side: NDArray[np.str_], Q: NDArray[np.float32], rng: np.random.Generator
) -> Iterator[tuple[str, StoredMap, LabelledRows | None]]:
    """Yield each map by its name, with the labelled rows that it has seen."""
    text = Projection(Q, "pca", *MADE_BY)
    yield "PCA←", text, None
    others = of.X[side != "fit"]
    mean = others.mean(axis=0, dtype=np.float64).astype(np.float32)
    yield "centred PCA←", Projection(Q, "cpca", *MADE_BY, offset=mean), None
    drawn = rng.permutation(np.flatnonzero(side == "fit"))
    for n, called in ((100, "100 labels"), (200, "200 labels"), (len(drawn), "all")):
        places = np.sort(drawn[:n])
        labels = of.y[places].tolist()
        rows = LabelledRows(of.X[places], labels, "label", FIT, MADE_BY, gallery=others)
        yield f"label map, {called}", fit_label_map(rows, text=text), rows
        if n != 100:
            yield f"posterior, {called}", fit_posterior(rows, text=text, force=True), rows


def scored(of: Images, Q: NDArray[np.float32], seed: int) -> dict[str, tuple[float, float]]:
    """Return mAP and precision@10, x 100, of each map."""
    rng = np.random.default_rng(seed)
    side = sides(of.X, rng)
    vectors, fitted = {"raw": of.X}, {}
    for name, one, rows in maps(of, side, Q, rng):
        vectors[name] = one.apply(of.X)
        if rows is not None:
            fitted[name] = FittedVector(rows.labels, "raw", one.distance)
    table = VectorTable(
        list(range(len(of.X))), vectors, {"label": of.y.tolist(), "side": side.tolist()},
        fitted=fitted,
    )  # fmt: skip
    found = evaluate_retrieval(
        table, vectors=list(vectors), fields=["label"], sides=ASKED, ks=(10,),
        resampling=Resampling(NO_INTERVAL),
    )  # fmt: skip
    return {
        one.vector: (100 * one.map, 100 * float(one.metrics["precision@10"].mean()))
        for one in found
    }


def main() -> None:
    """Print two Markdown tables, one row a map."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    n_seeds = parser.parse_args().seeds
    folder = os.environ.get("INTRAMODAL_REAL_DATA")
    if not folder:
        print("nothing to do: INTRAMODAL_REAL_DATA names no folder")
        return
    texts = np.load(Path(folder) / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    Q = TextPCA(256).fit(texts).components_.T.astype(np.float32)
    figures = {
        field: [scored(images(Path(folder), field), Q, seed) for seed in range(n_seeds)]
        for field in FIELDS
    }
    found = {
        name: np.array([[of_seed[name] for of_seed in figures[field]] for field in FIELDS])
        for name in FOUND
    }
    head = f"| {' | '.join(FIELDS)} |\n|{'---|' * (len(FIELDS) + 1)}"
    print(f"mAP x 100, mean of {n_seeds} seeds (distance in standard errors)\n\n| map {head}")
    for name, one in found.items():
        mean, spread = one[..., 0].mean(axis=1), one[..., 0].std(axis=1, ddof=1)
        away = (mean - FOUND[name]) / (spread * np.sqrt(1 / FOUND_SEEDS + 1 / n_seeds))
        cells = (f"{m:.1f} ({z:+.1f})" for m, z in zip(mean, away, strict=True))
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nprecision@10 x 100\n\n| map {head}")
    for name, one in found.items():
        print(f"| {name} | {' | '.join(f'{m:.1f}' for m in one[..., 1].mean(axis=1))} |")


if __name__ == "__main__":
    logging.disable()  # of rare classes that no drawn row has
    numba.config.NUMBA_NUM_THREADS = 1
    with threadpool_limits(1):
        main()
