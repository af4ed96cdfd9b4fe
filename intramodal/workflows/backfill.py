"""The projected vector for a collection that exists, recorded as a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from intramodal.ingest.backfill import backfill, plan_backfill
from intramodal.projection.artifact import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import declared_fingerprint
from intramodal.workflows.workspace import open_workspace, reach_store, recorded


@dataclass(frozen=True)
class BackfillRequest:
    """What to project and where to; the options of ``intramodal backfill``."""

    collection: str
    projection: Path
    store: str
    runs: str
    source: str = "raw"
    vector: str | None = None
    made_by: str | None = None
    batch_size: int = 1000
    throttle: float | None = None
    dry_run: bool = False


def backfill_collection(request: BackfillRequest) -> dict[str, Any]:
    """Project the stored vectors into a new named vector; returns what ``--json`` prints."""
    projection = Projection.load(request.projection)
    if request.dry_run:
        return _plan(request, projection)
    parameters = {key: str(value) for key, value in asdict(request).items() if value is not None}
    with open_workspace(request.store, request.runs) as workspace:
        collection = ImageCollection.open(workspace.store, request.collection)
        if request.made_by is not None:
            declare_model(collection, request.source, request.made_by)
        with recorded(workspace, "backfill", parameters) as run:
            run.log_fingerprint(
                "projection", projection.method, projection.fingerprint, projection.recipe
            )
            summary = backfill(
                collection,
                projection,
                vector=request.vector,
                source=request.source,
                batch_size=request.batch_size,
                throttle=request.throttle,
                run=run,
            )
        return {**summary.to_dict(), "run_id": run.id}


def declare_model(collection: ImageCollection, vector: str, made_by: str) -> None:
    """Record which model made a vector, unless the manifest already agrees."""
    origin = _declared(made_by)
    known = collection.manifest.vectors.get(vector)
    if known is None or not known.agrees_with(origin):
        collection.declare(vector, origin)


def _declared(made_by: str) -> VectorOrigin:
    return VectorOrigin(made_by, declared_fingerprint(made_by))


def adopt_collection(name: str, *, vector: str, made_by: str, store: str) -> dict[str, Any]:
    """Declare which model made a foreign collection's vector."""
    with reach_store(store) as opened:
        collection = ImageCollection.open(opened, name)
        size = collection.vector_spec(vector).size
        declare_model(collection, vector, made_by)
    return {"collection": name, "vector": vector, "size": size, "made_by": made_by}


def _plan(request: BackfillRequest, projection: Projection) -> dict[str, Any]:
    with reach_store(request.store) as store:
        collection = ImageCollection.open(store, request.collection)
        if request.made_by is not None:
            # In this object only: a plan changes nothing in the store.
            collection.manifest = collection.manifest.with_vector(
                request.source, _declared(request.made_by)
            )
        plan = plan_backfill(collection, projection, vector=request.vector, source=request.source)
        return plan.to_dict()
