"""A projection from a model's text tower, or from ready text embeddings, into one file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.errors import InputError
from intramodal.ingest.encoders import load_encoder
from intramodal.ingest.vectors.matrices import read_matrix
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.artifact import Projection
from intramodal.runs import RunLedger
from intramodal.store.collection import ImageCollection
from intramodal.types import Encoder, Floats, declared_fingerprint, unit_rows
from intramodal.workflows.workspace import reach_store


@dataclass(frozen=True)
class FitRequest:
    """What to fit from; the options of ``intramodal fit``."""

    out: Path
    runs: str
    store: str
    model: str | None = None
    text_vectors: Path | None = None
    made_by: str | None = None
    anchors: str = "imagenet"
    template: str = "a photo of a {}"
    components: int | None = None
    center: str | None = None
    device: str | None = None
    precision: str | None = None


def fit_projection(request: FitRequest) -> dict[str, Any]:
    """Fit PCA← (centred if asked), save it, and return what ``--json`` prints."""
    anchors = load_anchors(request.anchors, request.template)
    parameters = {key: str(value) for key, value in asdict(request).items() if value is not None}
    with (
        RunLedger.open(request.runs) as ledger,
        ledger.run("fit", parameters=parameters) as run,
    ):
        text, name, fingerprint = _text_embeddings(request, anchors)
        center = _corpus_mean(request) if request.center else None
        projection = Projection.from_text(
            text,
            anchors=anchors,
            encoder=name,
            encoder_fingerprint=fingerprint,
            n_components=request.components,
            center=center,
        )
        projection.save(request.out)
        run.log_fingerprint(
            "projection", projection.method, projection.fingerprint, projection.recipe
        )
        return {**describe_projection(projection, request.out), "run_id": run.id}


def fit_for_encoder(encoder: Encoder, anchors: AnchorSet, n: int | None = None) -> Projection:
    """Fit PCA← from an encoder's own text tower."""
    return Projection.from_text(
        encoder.encode_texts(anchors.prompts()),
        anchors=anchors,
        encoder=encoder.name,
        encoder_fingerprint=encoder.fingerprint,
        n_components=n,
    )


def load_anchors(which: str, template: str) -> AnchorSet:
    """Return a built-in anchor set (imagenet, wordnet) or the names in a file."""
    if which == "imagenet":
        return AnchorSet.imagenet(template=template)
    if which == "wordnet":
        return AnchorSet.imagenet("wordnet", template=template)
    return AnchorSet.from_file(Path(which), template=template)


def describe_projection(projection: Projection, path: Path) -> dict[str, Any]:
    """Return the facts about a saved projection that a person or a script needs."""
    return {
        "projection": str(path),
        "method": projection.method,
        "dim_in": projection.dim_in,
        "dim_out": projection.dim_out,
        "vector": projection.default_vector,
        "fingerprint": projection.fingerprint,
        "encoder": projection.encoder,
        "n_anchors": projection.recipe["n_anchors"],
        "rank": projection.recipe["rank"],
        "warnings": list(projection.warnings()),
    }


def _text_embeddings(request: FitRequest, anchors: AnchorSet) -> tuple[Floats, str, str]:
    if request.text_vectors is not None:
        made_by = str(request.made_by)
        return read_matrix(request.text_vectors), made_by, declared_fingerprint(made_by)
    encoder = load_encoder(str(request.model), device=request.device, precision=request.precision)
    return encoder.encode_texts(anchors.prompts()), encoder.name, encoder.fingerprint


def _corpus_mean(request: FitRequest) -> Floats:
    name, _, vector = str(request.center).partition(":")
    total: Any = 0.0
    n = 0
    with reach_store(request.store) as store:
        collection = ImageCollection.open(store, name)
        for page in collection.scroll(vectors=[vector or "raw"]):
            X = page.vectors[vector or "raw"]
            X = unit_rows(X[np.isfinite(X).all(axis=1)])
            total = total + X.sum(axis=0, dtype=np.float64)
            n += len(X)
    if n == 0:
        raise InputError(f"collection {name!r} has no vectors {vector or 'raw'!r} to average")
    return np.asarray(total / n, dtype=np.float32)
