"""Ready vectors into a collection, recorded as a run; needs no model and no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from intramodal.errors import InputError
from intramodal.ingest.pipeline import RAW
from intramodal.ingest.vectors.load import (
    DEFAULT_BATCH,
    check_target,
    ingest_vectors,
    vectors_of,
)
from intramodal.ingest.vectors.ready import ReadyVectors, open_ready
from intramodal.projection.projection import Projection
from intramodal.runs.run import Run
from intramodal.store.base import VectorSpec
from intramodal.store.checks import check_name, check_spec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import declared_fingerprint
from intramodal.workflows.workspace import (
    Uploads,
    Workspace,
    cluster_options,
    open_workspace,
    recorded,
)

Vectors = dict[str, tuple[int, VectorOrigin]]


@dataclass(frozen=True)
class VectorsRequest:
    """Which vectors, made by which model, to where; the options of ``intramodal ingest``."""

    source: str
    collection: str
    made_by: str
    store: str
    runs: str
    metadata: Path | None = None
    id_column: str | None = None
    vector: str = RAW
    tensor: str | None = None
    vector_column: str | None = None
    projection: Path | None = None
    dataset: str | None = None
    batch_size: int = DEFAULT_BATCH
    max_failures: int | None = None
    shards: int | None = None
    replicas: int | None = None
    write_consistency: int | None = None
    upload_streams: int | None = None
    nodes: tuple[str, ...] = ()
    shard_key: str | None = None


def ingest_ready_vectors(request: VectorsRequest) -> dict[str, Any]:
    """Write ready vectors into a collection; returns what ``--json`` prints.

    Files, ids and the projection are checked before the store is opened, and everything that the
    collection knows before anything is written.
    """
    check_name(request.collection)
    if not request.made_by.strip():
        raise InputError("the model that made the vectors has no name; give --made-by MODEL")
    ready = open_ready(
        Path(request.source),
        dataset=request.collection if request.dataset is None else request.dataset,
        is_told=request.dataset is not None,
        table=request.metadata,
        id_column=request.id_column,
        tensor=request.tensor,
        vector_column=request.vector_column,
    )
    projection = Projection.load(request.projection) if request.projection else None
    origin = VectorOrigin(request.made_by, declared_fingerprint(request.made_by))
    vectors = vectors_of(ready, origin, request.vector, projection)
    for name, (size, _) in vectors.items():
        check_spec(name, VectorSpec(size))
    uploads = Uploads(request.upload_streams, request.nodes, request.shard_key)
    with open_workspace(request.store, request.runs, creates=True, uploads=uploads) as workspace:
        return _ingest(workspace, request, ready, vectors, projection)


def _ingest(
    workspace: Workspace,
    request: VectorsRequest,
    ready: ReadyVectors,
    vectors: Vectors,
    projection: Projection | None,
) -> dict[str, Any]:
    known = None
    if workspace.store.exists(request.collection):
        known = ImageCollection.open(workspace.store, request.collection)
        check_target(known, request.vector, vectors)
    with recorded(workspace, "ingest", _parameters(request)) as run:
        _log_identities(run, request, projection)
        collection = _prepared(workspace, request, known, vectors)
        summary = ingest_vectors(
            ready,
            collection,
            vector=request.vector,
            projection=projection,
            batch_size=request.batch_size,
            max_failures=request.max_failures,
            run=run,
        )
        if not collection.origin(request.vector).is_complete:
            collection.finish_vector(request.vector)
    ids = "row numbers" if ready.id_column is None else f"column {ready.id_column}"
    return {**summary.to_dict(), "ids": ids, "run_id": run.id}


def _prepared(
    workspace: Workspace,
    request: VectorsRequest,
    known: ImageCollection | None,
    vectors: Vectors,
) -> ImageCollection:
    """Create the collection, or add the vector that it lacks."""
    if known is None:
        return ImageCollection.create(
            workspace.store,
            request.collection,
            vectors,
            dataset=request.dataset,
            options=cluster_options(request),
        )
    if request.vector not in known.info().vectors:
        known.add_vector(request.vector, *vectors[request.vector])
    return known


def _log_identities(run: Run, request: VectorsRequest, projection: Projection | None) -> None:
    declared = {"declared": True}
    run.log_fingerprint(
        "encoder", request.made_by, declared_fingerprint(request.made_by), declared
    )
    if projection is not None:
        method, recipe = projection.method, projection.recipe
        run.log_fingerprint("projection", method, projection.fingerprint, recipe)


def _parameters(request: VectorsRequest) -> dict[str, Any]:
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(request).items()
        if value is not None
    }
