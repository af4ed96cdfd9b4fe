"""The projected vector for a collection that exists: added, copied, checked, mended or undone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from intramodal.errors import InputError
from intramodal.ingest.backfill.copy import copy_with_projection
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.plan import plan_backfill, plan_copy, plan_recompute
from intramodal.ingest.backfill.rollback import rollback
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.projection.projection import Projection
from intramodal.runs.run import Run
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.filters import parse_filter
from intramodal.store.model_check import warn_of_wrong_model
from intramodal.workflows.adopt import declare_model, declared
from intramodal.workflows.workspace import Uploads, open_workspace, reach_store, recorded


@dataclass(frozen=True)
class BackfillRequest:
    """What to project and where to; the options of ``intramodal backfill``."""

    collection: str
    store: str
    runs: str
    projection: Path | None = None
    source: str = "raw"
    vector: str | None = None
    made_by: str | None = None
    batch_size: int = 1000
    throttle: float | None = None
    new_collection: str | None = None
    verify: int | None = None
    recompute: tuple[str, ...] = field(default=())
    rollback: bool = False
    yes: bool = False
    wait: bool = True
    seed: int = 0
    dry_run: bool = False
    upload_streams: int | None = None
    nodes: tuple[str, ...] = ()


def backfill_collection(request: BackfillRequest) -> dict[str, Any]:
    """Do what the request asks for; returns what ``--json`` prints."""
    if request.rollback:
        return _rollback(request)
    projection = _projection(request)
    if request.verify is not None:
        return _verify(request, projection)
    if request.dry_run:
        return _plan(request, projection)
    uploads = Uploads(request.upload_streams, request.nodes)
    with open_workspace(request.store, request.runs, uploads=uploads) as workspace:
        collection = _opened(workspace.store, request.collection)
        if request.made_by is not None:
            declare_model(collection, request.source, request.made_by)
        with recorded(workspace, "backfill", _parameters(request)) as run:
            run.log_fingerprint(
                "projection", projection.method, projection.fingerprint, projection.recipe
            )
            check = warn_of_wrong_model(collection, projection, request.source)
            done = _run(request, collection, projection, run)
        return {**done, "model_check": check.to_dict(), "run_id": run.id}


def _run(
    request: BackfillRequest, collection: ImageCollection, projection: Projection, run: Run
) -> dict[str, Any]:
    where: dict[str, Any] = {"vector": request.vector, "source": request.source}
    pace: dict[str, Any] = {"batch_size": request.batch_size, "throttle": request.throttle}
    if request.recompute:
        wanted = parse_filter(request.recompute)
        return recompute(collection, projection, wanted, **where, **pace, run=run).to_dict()
    pace["reindex"] = request.wait
    if request.new_collection is None:
        return backfill(collection, projection, **where, **pace, run=run).to_dict()
    new = request.new_collection
    return copy_with_projection(
        collection, projection, new, **where, **pace, seed=request.seed, run=run
    ).to_dict()


def _plan(request: BackfillRequest, projection: Projection) -> dict[str, Any]:
    where: dict[str, Any] = {"vector": request.vector, "source": request.source}
    with reach_store(request.store) as store:
        collection = _opened(store, request.collection)
        if request.made_by is not None:
            # In this object only: a plan changes nothing in the store.
            collection.manifest = collection.manifest.with_vector(
                request.source, declared(request.made_by)
            )
        plan = _planned(request, collection, projection, where)
        check = warn_of_wrong_model(collection, projection, request.source)
        return {**plan, "model_check": check.to_dict()}


def _planned(
    request: BackfillRequest,
    collection: ImageCollection,
    projection: Projection,
    where: dict[str, Any],
) -> dict[str, Any]:
    if request.recompute:
        wanted = parse_filter(request.recompute)
        return plan_recompute(collection, projection, wanted, **where).to_dict()
    if request.new_collection is None:
        return plan_backfill(collection, projection, **where).to_dict()
    return plan_copy(collection, projection, request.new_collection, **where).to_dict()


def _verify(request: BackfillRequest, projection: Projection) -> dict[str, Any]:
    # Not recorded as a run: it writes nothing, and must work with a read-only key.
    with reach_store(request.store) as store:
        return verify_vector(
            _opened(store, request.collection),
            projection,
            request.verify or 1,
            vector=request.vector,
            source=request.source,
            seed=request.seed,
        ).to_dict()


def _rollback(request: BackfillRequest) -> dict[str, Any]:
    if request.dry_run:
        with reach_store(request.store) as store:
            collection = _opened(store, request.collection)
            return rollback(collection, vector=request.vector, dry_run=True).to_dict()
    with open_workspace(request.store, request.runs) as workspace:
        collection = _opened(workspace.store, request.collection)
        with recorded(workspace, "backfill", _parameters(request)) as run:
            done = rollback(collection, vector=request.vector, yes=request.yes)
        return {**done.to_dict(), "run_id": run.id}


def _opened(store: Store, name: str) -> ImageCollection:
    """Open a collection under its own name: what changes it must not follow a moved alias."""
    return ImageCollection.open(store, store.aliases().get(name, name))


def _projection(request: BackfillRequest) -> Projection:
    if request.projection is None:
        raise InputError("a backfill needs --projection FILE, made by `intramodal fit`")
    return Projection.load(request.projection)


def _parameters(request: BackfillRequest) -> dict[str, Any]:
    unset = (None, (), False)
    return {key: str(value) for key, value in asdict(request).items() if value not in unset}
