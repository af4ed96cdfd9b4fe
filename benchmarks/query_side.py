"""Claim: a projected query against the stored vectors gives what the stored projection gives.

Exact leave-one-out figures of every label field of the real collections: the encoder's vectors,
centred PCA← as it would be stored, and the same map on the side of the query alone, as it is and
with the first 100 results reranked by their projected cosines. Then what an index that was built
for the encoder's vectors loses of such queries: vectors drawn from the real ones (a mixture of two
images of one collection and noise with the covariance of all) in the embedded store.

    INTRAMODAL_REAL_DATA=FOLDER python benchmarks/query_side.py [--points 20000]
    INTRAMODAL_REAL_DATA=FOLDER python benchmarks/query_side.py --points 100000
"""

from __future__ import annotations

import argparse
import tempfile
import time

import _real_data
import numpy as np

from intramodal import (
    ImageCollection,
    Projection,
    Resampling,
    VectorTable,
    evaluate_retrieval,
    load_anchors,
    open_store,
)
from intramodal.evaluation.cost import index_recall
from intramodal.evaluation.mapped_queries import with_mapped_queries
from intramodal.evaluation.retrieval import RetrievalResult
from intramodal.store.base import VectorSpec
from intramodal.store.query_side import QuerySide
from intramodal.types import Floats, unit_rows

MIN_CLASS_SIZE = 5
BATCH = 1000
NOISE = 0.5
"""Length of the noise, as a share of that of the images around their mean."""


def centred(texts: Floats, X: Floats) -> Projection:
    """Return centred PCA← for unit images (n, d)."""
    about = {"encoder": "clip", "encoder_fingerprint": "declared:clip"}
    anchors, center = load_anchors("imagenet"), X.mean(axis=0)
    return Projection.from_text(texts, anchors=anchors, center=center, **about)


def shown(found: RetrievalResult) -> str:
    names = ("precision@1", "precision@10")
    figures = [found.map, *(float(found.metrics[name].mean()) for name in names)]
    return " / ".join(f"{100 * figure:.1f}" for figure in figures)


def exact_figures(table: VectorTable, texts: Floats) -> None:
    """Print one row a field: mAP / precision@1 / precision@10 x 100 of every route."""
    X = table.unit("raw")
    projection = centred(texts, X)
    both = table.with_unit_vectors({"stored": unit_rows(projection.apply(X))})
    for field in table.payload:
        cells = []
        for rerank in (None, 100):
            found = evaluate_retrieval(
                both,
                vectors=["raw", "stored"],
                fields=[field],
                min_class_size=MIN_CLASS_SIZE,
                query_side=projection,
                rerank=rerank,
                resampling=Resampling("none"),
            )
            cells += [shown(result) for result in found][0 if rerank is None else 2 :]
        print(f"| {field} | {' | '.join(cells)} |", flush=True)


def drawn(images: list[Floats], n: int, rng: np.random.Generator) -> Floats:
    """Return n unit vectors like those of some collections of unit images (n_images, d)."""
    every = np.concatenate(images)
    spread = (every - every.mean(axis=0)) / np.sqrt(len(every))
    parts = np.array_split(np.arange(n), len(images))
    rows = np.empty((n, every.shape[1]), dtype=np.float32)
    for part, X in zip(parts, images, strict=True):
        first, second = (X[rng.integers(0, len(X), len(part))] for _ in range(2))
        share = rng.uniform(0.5, 1, size=(len(part), 1)).astype(np.float32)
        noise = rng.normal(size=(len(part), len(every))).astype(np.float32) @ spread
        rows[part] = unit_rows(share * first + (1 - share) * second + NOISE * noise)
    return rows[rng.permutation(n)]


def index_figures(X: Floats, projection: Projection) -> None:
    """Print recall@10 of the index with the encoder's and with projected queries."""
    with tempfile.TemporaryDirectory() as folder, open_store(folder) as store:
        store.create("photos", {"raw": VectorSpec(X.shape[1])})
        for start in range(0, len(X), BATCH):
            rows = X[start : start + BATCH]
            ids = list(range(start, start + len(rows)))
            store.upsert("photos", ids, {"raw": rows}, [{}] * len(rows))
        started = time.perf_counter()
        store.optimize("photos")
        took = time.perf_counter() - started
        photos = ImageCollection.open(store, "photos")
        table = photos.table(["raw"])
        print(f"\nrecall@10, {len(X):,} points, embedded store; index built in {took:.0f} s")
        for rerank in (None, 100):
            side = QuerySide(projection, "raw", rerank)
            found = index_recall(photos, with_mapped_queries(table, side), side)
            for name, recalls in found["recall_at_10"].items():
                if name != "raw" or rerank is None:
                    told = ", ".join(f"{ef} {recall:.3f}" for ef, recall in recalls.items())
                    print(f"{name}: {told}; {found['enough']:g} needs {found['needs'][name]}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20_000, help="default 20,000")
    n = parser.parse_args().points
    texts, tables = _real_data.texts(), _real_data.collections()
    heads = ("field", "raw", "stored", "query side", "first 100 reranked")
    print(f"mAP / precision@1 / precision@10 x 100\n\n| {' | '.join(heads)} |")
    print(f"|{'---|' * len(heads)}")
    for table in tables:
        exact_figures(table, texts)
    X = drawn([table.unit("raw") for table in tables], n, np.random.default_rng(0))
    index_figures(X, centred(texts, X))


if __name__ == "__main__":
    main()
