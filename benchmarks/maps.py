"""Claim: maps from labels score on real images what an independent program found, mAP and page.

All that is measured comes from commands: `ingest`, `fit`, `backfill`, `evaluate retrieval`. Each
seed splits the images into queries (25%), gallery (37.5%) and labelled rows that maps are fitted
to (37.5%), near-copies on one side. Images of classes of fewer than 5 are no queries; they stay in
the gallery and among the labelled rows, where they are in any collection that is searched. (Left
out of these, too, article types and colours score higher than the other program says.)

Cells are means of the seeds. Beside each mAP is its distance to the other program's, a mean of 5
seeds, in standard errors of 5 seeds by the spread of ours. All fields of a collection and all
vectors share the sides of a seed: where `raw` is off, so are the others.

`dba` and `smooth` are rivals without labels, which this program judges and does not offer: centred
PCA← averaged with neighbours (database-side augmentation; a graph of neighbours), and queries
expanded by theirs. They are computed here, from what `export` writes, and ingested as vectors that
are made elsewhere. Neighbours are of the gallery alone.

    INTRAMODAL_REAL_DATA=FOLDER python benchmarks/maps.py [--seeds 5]
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _real_data import CIFAR, FASHION, images, labels, texts
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from intramodal.cli import cli
from intramodal.evaluation.held_out import NEAR_COPY
from intramodal.types import Floats, unit_rows

MADE_BY = "open_clip:ViT-B-32:openai"
PHOTOS = "photos"
LEAST_TO_QUERY = 5
SIDES = ("query", "gallery", "fit")
SHARES = (0.25, 0.375, 0.375)
FIELDS = {
    CIFAR: ("cifar",),
    FASHION: ("articleType", "subCategory", "gender", "usage", "baseColour"),
}
ALL_FIELDS = [field for fields in FIELDS.values() for field in fields]
PARTS = {"100": "1", "200": "1,2", "all": "1,2,3"}
"""Parts of the labelled rows that a map is fitted to: the first 100, the next 100, the others."""
FOUND = {
    "raw": (60.0, 60.7, 72.3, 57.4, 75.6, 18.0),
    "pca": (74.7, 64.7, 77.5, 57.6, 74.7, 19.8),
    "pca_centered": (75.9, 66.4, 78.8, 58.0, 75.0, 19.6),
    "dba": (83.3, 68.5, 82.9, 58.0, 75.6, 17.4),
    "smooth": (84.7, 69.8, 83.9, 58.0, 75.6, 17.1),
    "label_100": (83.8, 68.2, 85.7, 73.8, 77.3, 24.5),
    "label_200": (85.5, 70.5, 87.6, 77.2, 79.4, 29.8),
    "label_all": (85.5, 71.7, 89.2, 79.6, 80.5, 34.2),
    "posterior_200": (89.5, 70.9, 85.5, 79.6, 83.5, 28.3),
    "posterior_all": (89.5, 74.4, 90.7, 82.2, 86.2, 35.1),
}
"""mAP x 100 by the other program, mean of `FOUND_SEEDS`: a row a vector, a column a field."""
FOUND_SEEDS = 5
OWN_AXES = "label_all_own"
"""The images' own axes in place of those of texts; the other program has no figure."""
VECTORS = (*FOUND, OWN_AXES)
LABELLED = [vector for vector in VECTORS if vector.startswith(("label_", "posterior_"))]
N_NEIGHBOURS = 10

Columns = Mapping[str, Sequence[Any] | NDArray[Any]]


@dataclass(frozen=True)
class Commands:
    """Runs commands on a collection in a folder."""

    folder: Path

    def run(self, *command: object) -> Any:
        """Return what a command prints as JSON."""
        place = ("--store", self.folder / "store", "--runs", self.folder / "runs.db", "--json")
        done = CliRunner().invoke(cli, [str(part) for part in (*command, *place)])
        if done.exit_code:
            raise SystemExit(f"{' '.join(map(str, command))}\n{done.output}")
        return json.loads(done.stdout)

    def file(self, vector: str) -> Path:
        """Return the file of a map."""
        return self.folder / f"{vector}.safetensors"

    def fit(self, vector: str, *options: object) -> None:
        """Fit a map; `{field}` in the name of its vector stands for each field."""
        self.run("fit", *options, "--out", self.file(vector))

    def backfill(self, vector: str) -> None:
        """Fill the vector of a map."""
        self.run("backfill", PHOTOS, "--projection", self.file(vector), "--to", vector)


def sides(X: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.str_]:
    """Return the side (n,) of each image; near-copies are on one."""
    unit = unit_rows(X)
    groups = connected_components(csr_array(unit @ unit.T > NEAR_COPY))[1]
    order = rng.permutation(groups.max() + 1)
    filled = np.cumsum(np.bincount(groups)[order]) / len(X)
    of_group = np.empty(len(order), dtype=np.intp)
    of_group[order] = np.searchsorted(np.cumsum(SHARES[:-1]), filled)
    return np.array(SIDES)[of_group[groups]]


def payload(classes: Columns, side: NDArray[np.str_], rng: np.random.Generator) -> Columns:
    """Return the columns of a collection: labels, sides, queries and parts of labelled rows."""
    part = np.full(len(side), "", dtype="<U1")
    drawn = rng.permutation(np.flatnonzero(side == "fit"))
    for name, places in zip("123", np.split(drawn, [100, 200]), strict=True):
        part[places] = name
    columns = {"id": np.arange(len(side)), **classes, "side": side, "part": part}
    for field, column in classes.items():
        names, counts = np.unique(column, return_counts=True)
        is_common = np.isin(column, names[counts >= LEAST_TO_QUERY])
        columns[f"{field}_side"] = np.where((side == "query") & ~is_common, "", side)
    return columns


def ingest(commands: Commands, vector: str, X: Floats, columns: Columns, made_by: str) -> None:
    """Write a vector of images, and what is known of them."""
    rows, metadata = commands.folder / f"{vector}.npy", commands.folder / f"{vector}.csv"
    np.save(rows, X)
    with metadata.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
    options = ("--metadata", metadata, "--made-by", made_by, "--vector", vector)
    commands.run("ingest", rows, "--collection", PHOTOS, *options)


def fit_texts(commands: Commands) -> None:
    """Fit PCA← and its centred form, and fill their vectors."""
    file = commands.folder / "texts.npy"
    np.save(file, texts())
    of_texts = ("--text-vectors", file, "--made-by", MADE_BY)
    commands.fit("pca", *of_texts)
    commands.fit("pca_centered", *of_texts, "--center", PHOTOS)
    commands.backfill("pca")
    commands.backfill("pca_centered")


def fit_labels(commands: Commands, fields: Sequence[str]) -> None:
    """Fit all maps that see labels, and fill their vectors."""
    for vector in LABELLED:
        method, n = vector.split("_")[:2]
        options = ["--method", method, "--fit-rows", f"part={PARTS[n]}"]
        options += [] if vector == OWN_AXES else ["--projection", commands.file("pca")]
        options += ["--force"] if method == "posterior" else []
        commands.fit(f"{vector}_{{field}}", PHOTOS, "--labels", ",".join(fields), *options)
        for field in fields:
            commands.backfill(f"{vector}_{field}")


def to_nearest(cosines: Floats) -> Floats:
    """Return the weights (n, m) of each row's nearest: cosines cubed, 0 for the others."""
    nearest = np.argpartition(-cosines, N_NEIGHBOURS, axis=1)[:, :N_NEIGHBOURS]
    weights = np.zeros_like(cosines)
    cubes = np.take_along_axis(cosines, nearest, axis=1).clip(min=0) ** 3
    np.put_along_axis(weights, nearest, cubes, axis=1)
    return weights


def among(gallery: Floats) -> Floats:
    """Return the weights (n, n) of each image's nearest, which it is not itself one of."""
    cosines = gallery @ gallery.T
    np.fill_diagonal(cosines, -1)
    return to_nearest(cosines)


def augmented(gallery: Floats) -> Floats:
    """Return each image with its neighbours added (database-side augmentation)."""
    return unit_rows(gallery + among(gallery) @ gallery)


def smoothed(gallery: Floats) -> Floats:
    """Return each image averaged twice with its neighbours in the symmetric graph."""
    weights = among(gallery)
    graph = np.maximum(weights, weights.T)
    graph /= graph.sum(axis=1, keepdims=True)
    Z = gallery
    for _ in range(2):
        Z = unit_rows(Z + graph @ Z)
    return Z


RIVALS: dict[str, Callable[[Floats], Floats]] = {"dba": augmented, "smooth": smoothed}
"""What makes a gallery's vectors of centred PCA←; queries are expanded by their nearest in it."""


def ingest_rivals(commands: Commands, side: NDArray[np.str_]) -> None:
    """Write the vectors of rivals; rows that maps are fitted to keep theirs, which nothing reads.

    (An evaluation of several vectors takes the images that have them all, and refuses a map where
    it meets none of the rows that it was fitted to.)
    """
    exported = commands.folder / "exported.npy"
    commands.run("export", PHOTOS, "--vector", "pca_centered", "--out", exported)
    centred = unit_rows(np.load(exported))  # in the order of the ids, which are the rows
    query, gallery = side == "query", side == "gallery"
    for vector, of_gallery in RIVALS.items():
        Z = centred.copy()
        Z[gallery] = of_gallery(Z[gallery])
        Z[query] = unit_rows(Z[query] + to_nearest(Z[query] @ Z[gallery].T) @ Z[gallery])
        columns = {"id": np.arange(len(Z))}
        ingest(commands, vector, Z, columns, f"{vector} of centred PCA←")


def judged(commands: Commands, field: str) -> list[tuple[float, float]]:
    """Return mAP and precision@10, x 100, of each vector."""
    names = [f"{vector}_{field}" if vector in LABELLED else vector for vector in VECTORS]
    found = commands.run(
        "evaluate", "retrieval", PHOTOS, "--labels", field, "--vectors", ",".join(names),
        "--queries", f"{field}_side=query", "--gallery", "side=gallery",
        "--min-class-size", 1, "--ks", 10, "--cluster", "none",
    )["fields"][field]["vectors"]  # fmt: skip
    return [(100 * found[name]["map"], 100 * found[name]["precision@10"]) for name in names]


def scored(collection: str, seed: int) -> list[list[tuple[float, float]]]:
    """Return what `judged` does, for each field."""
    rng = np.random.default_rng(seed)
    X, of_images = images(collection), labels(collection)
    fields = FIELDS[collection]
    side = sides(X, rng)
    columns = payload({field: of_images[field] for field in fields}, side, rng)
    with tempfile.TemporaryDirectory() as name:
        commands = Commands(Path(name))
        ingest(commands, "raw", X, columns, MADE_BY)
        fit_texts(commands)
        fit_labels(commands, fields)
        ingest_rivals(commands, side)
        return [judged(commands, field) for field in fields]


def tell(figures: NDArray[np.float64]) -> None:
    """Print a table of mAP and one of precision@10, (n_seeds, n_fields, n_vectors, 2)."""
    n_seeds, means = len(figures), figures.mean(axis=0).T
    spread = figures[..., 0].std(axis=0, ddof=1).T[: len(FOUND)]
    away = (means[0, : len(FOUND)] - list(FOUND.values())) / spread
    head = f"{' | '.join(ALL_FIELDS)} |\n|{'---|' * (len(ALL_FIELDS) + 1)}"
    print(f"mAP x 100, mean of {n_seeds} seeds (distance in standard errors)\n\n| vector | {head}")
    for vector, row in zip(VECTORS, means[0], strict=True):
        cells = [f"{mean:.1f}" for mean in row]
        if vector in FOUND:
            errors = away[list(FOUND).index(vector)] * np.sqrt(FOUND_SEEDS)
            cells = [f"{cell} ({z:+.1f})" for cell, z in zip(cells, errors, strict=True)]
        print(f"| {vector} | {' | '.join(cells)} |")
    print(f"\nprecision@10 x 100\n\n| vector | {head}")
    for vector, row in zip(VECTORS, means[1], strict=True):
        print(f"| {vector} | {' | '.join(f'{mean:.1f}' for mean in row)} |")
    for what, error in (
        ("5 seeds", np.sqrt(1 / FOUND_SEEDS)),
        ("the difference of both means", np.sqrt(1 / FOUND_SEEDS + 1 / n_seeds)),
    ):
        n_within = int((np.abs(away) <= 2 * error).sum())
        print(f"\nmAP within two standard errors of {what}: {n_within} of {away.size} cells")


def main() -> None:
    """Print two Markdown tables, a row a vector."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    n_seeds = parser.parse_args().seeds
    seeds = range(n_seeds)
    tell(np.array([[row for name in FIELDS for row in scored(name, seed)] for seed in seeds]))


if __name__ == "__main__":
    logging.disable()  # of rare classes that few labelled rows are of
    with threadpool_limits(1):
        main()
