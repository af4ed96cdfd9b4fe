"""The main job on shipped pictures, offline."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.demo import pictures_list
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.ingest.sources.formats import open_source
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection
from intramodal.types import Encoder, PointId
from intramodal.workflows.compare import CompareRequest, compare_in
from intramodal.workflows.ingest import IngestRequest, ingest_in
from intramodal.workflows.workspace import Workspace, open_workspace

COLLECTION = "demo"
FIELDS = ("identity", "subgroup", "category", "vendor")
CLUSTER = "code_point"
"""The same drawing idea by four vendors is one piece of evidence, not four."""

ABOUT = (
    "What this is: emoji drawn by four vendors, encoded by a small shipped model. Its image tower "
    "was trained on ImageNet's labels and is locked; its text tower was fitted to the names of "
    "other emoji and of ImageNet's classes, and nothing shown here was used to train it. It shows "
    "how the tool works and, in small, what the paper reports: concepts gain and style loses. It "
    "is not a benchmark, and its figures say nothing about your model or your pictures."
)


def run_demo(out: Path, *, store: str | None = None, runs: str | None = None) -> dict[str, Any]:
    """Ingest, fit, compare and report; returns what ``--json`` prints.

    Running it again in the same folder encodes nothing and compares again. Store and runs
    database are in `out` unless they are named.
    """
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    store, runs = store or str(out / "store"), runs or str(out / "runs.db")
    report, projection, texts = (
        out / name for name in ("report.html", "pca.safetensors", "texts.npy")
    )
    with open_workspace(store, runs, creates=True) as workspace:
        ingested = _ingested(workspace, store, runs, projection, texts)
        request = CompareRequest(
            collection=COLLECTION,
            store=store,
            runs=runs,
            labels=list(FIELDS),
            cluster=CLUSTER,
            projection=projection,
            text_vectors=texts,
            report=report,
            pictures=pictures_list().parent,
            title="Emoji by four vendors: raw against PCA←",
            about=ABOUT,
        )
        result = compare_in(workspace, request)
        first = next(workspace.store.scroll(COLLECTION, batch_size=1)).ids[0]
    return {
        **result,
        "n_images": ingested["written"] + ingested["skipped"] + ingested["updated"],
        "n_failed": ingested["failed"],
        "report": str(report),
        "about": ABOUT,
        "seconds": round(time.perf_counter() - started, 3),
        "next": _next(store, runs, out, first),
    }


def _next(store: str, runs: str, out: Path, point: PointId) -> list[str]:
    """Return commands that look further, as a shell takes them."""
    places = ("--store", store, "--runs", runs)
    page = ("--pictures", str(pictures_list().parent), "--html", str(out / "search.html"))
    commands = (
        ("runs", "list", "--runs", runs),
        ("search", COLLECTION, "--id", str(point), *places, *page),
    )
    return [shlex.join(["intramodal", *command]) for command in commands]


def _ingested(
    workspace: Workspace, store: str, runs: str, projection_file: Path, texts: Path
) -> dict[str, Any]:
    encoder = load_encoder("demo")
    request = IngestRequest(
        source=str(pictures_list()),
        collection=COLLECTION,
        model=encoder.name,
        store=store,
        runs=runs,
        projection=projection_file,
    )
    projection = _projection(projection_file, texts, encoder)
    source = open_source(request.source, label_from=None)
    return ingest_in(workspace, request, source, encoder, projection)


def _projection(path: Path, texts: Path, encoder: Encoder) -> Projection:
    """Fit once, then load: a second fit may differ in its last bits and so in its identity."""
    if not (path.is_file() and texts.is_file()):
        anchors = AnchorSet.imagenet()
        embedded = encoder.encode_texts(anchors.prompts())
        np.save(texts, embedded, allow_pickle=False)
        if not path.is_file():
            fitted = Projection.from_text(
                embedded,
                anchors=anchors,
                encoder=encoder.name,
                encoder_fingerprint=encoder.fingerprint,
            )
            fitted.save(path)
    return Projection.load(path)
