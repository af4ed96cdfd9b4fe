"""Claim: maps from labels score on real images what an independent program found, mAP and page.

All that is measured comes from commands: `ingest`, `fit`, `backfill`, `evaluate retrieval`. Each
seed splits the images into queries (25%), gallery (37.5%) and labelled rows that maps are fitted
to (37.5%), near-copies on one side. Images of classes of fewer than 5 are no queries; they stay in
the gallery and among the labelled rows, where they are in any collection that is searched. (Left
out of these, too, article types and colours score higher than the other program says.)

Cells are means of the seeds. Beside each mAP is its distance to the other program's, a mean of 5
seeds, in standard errors of 5 seeds by the spread of ours. All fields of a collection and all
vectors share the sides of a seed: where `raw` is off, so are the others. The other program also
has centred PCA← averaged with neighbours, which no command does.

    INTRAMODAL_REAL_DATA=FOLDER python benchmarks/maps.py [--seeds 5]
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
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
from intramodal.types import unit_rows

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
LABELLED = VECTORS[3:]

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


def ingest(commands: Commands, X: NDArray[np.float32], columns: Columns) -> None:
    """Write images with PCA← and its centred form."""
    files = [commands.folder / name for name in ("X.npy", "T.npy", "rows.csv")]
    np.save(files[0], X)
    np.save(files[1], texts())
    with files[2].open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
    made_by = ("--made-by", MADE_BY)
    commands.run("ingest", files[0], "--metadata", files[2], "--collection", PHOTOS, *made_by)
    commands.fit("pca", "--text-vectors", files[1], *made_by)
    commands.fit("pca_centered", "--text-vectors", files[1], *made_by, "--center", PHOTOS)
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
    columns = payload({field: of_images[field] for field in fields}, sides(X, rng), rng)
    with tempfile.TemporaryDirectory() as name:
        commands = Commands(Path(name))
        ingest(commands, X, columns)
        fit_labels(commands, fields)
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
