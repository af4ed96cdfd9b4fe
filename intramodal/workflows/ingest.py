"""Pictures into a collection, recorded as a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from intramodal.ingest.encoders.names import parse_name
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.ingest.lookup import plan_prune
from intramodal.ingest.pipeline import RAW, check_dataset, check_projection, encoder_origin, ingest
from intramodal.ingest.sources.base import Source
from intramodal.ingest.sources.formats import open_source
from intramodal.projection.projection import Projection
from intramodal.runs.run import Run
from intramodal.store.checks import check_name
from intramodal.store.collection import ImageCollection
from intramodal.store.open import is_directory
from intramodal.store.origins import check_fitted_for, projected_origin
from intramodal.types import Encoder
from intramodal.workflows.workspace import (
    Uploads,
    Workspace,
    cluster_options,
    open_workspace,
    reach_store,
    recorded,
)


@dataclass(frozen=True)
class IngestRequest:
    """What to ingest, with which model, to where; the options of ``intramodal ingest``."""

    source: str
    collection: str
    model: str
    store: str
    runs: str
    projection: Path | None = None
    dataset: str | None = None
    label_from: str | None = None
    batch_size: int = 32
    workers: int | None = None
    max_failures: int | None = None
    prune: bool = False
    yes: bool = False
    dry_run: bool = False
    shards: int | None = None
    replicas: int | None = None
    write_consistency: int | None = None
    upload_streams: int | None = None
    nodes: tuple[str, ...] = ()
    shard_key: str | None = None
    device: str | None = None
    precision: str | None = None


def ingest_pictures(request: IngestRequest) -> dict[str, Any]:
    """Encode the pictures of a source into a collection; returns what ``--json`` prints.

    Names, source, and what an existing store says about the collection are checked before the
    model is loaded; the store is opened for writing after it, so that a model that cannot be
    loaded leaves nothing behind. A dry run loads no model and opens no runs database.
    """
    parse_name(request.model)
    check_name(request.collection)
    check_dataset(request.collection if request.dataset is None else request.dataset)
    source = open_source(request.source, label_from=request.label_from)
    if request.dry_run:
        with reach_store(request.store) as store:
            collection = ImageCollection.open(store, request.collection)
            return plan_prune(source, collection, dataset=request.dataset).to_dict()
    projection = Projection.load(request.projection) if request.projection else None
    if _is_there(request.store):
        with open_workspace(request.store, request.runs, creates=True) as workspace:
            _check_before_loading(workspace, request, projection)
    encoder = load_encoder(request.model, device=request.device, precision=request.precision)
    uploads = Uploads(request.upload_streams, request.nodes, request.shard_key)
    with open_workspace(request.store, request.runs, creates=True, uploads=uploads) as workspace:
        return ingest_in(workspace, request, source, encoder, projection)


def _is_there(store: str) -> bool:
    """Return whether a store can hold anything already; opening a directory would make it."""
    return not is_directory(store) or Path(store).exists()


def ingest_in(
    workspace: Workspace,
    request: IngestRequest,
    source: Source,
    encoder: Encoder,
    projection: Projection | None,
) -> dict[str, Any]:
    """Encode an open source with a loaded encoder, as one run."""
    with recorded(workspace, "ingest", _parameters(request)) as run:
        collection = _ensure_collection(workspace, request, encoder, projection)
        _log_identities(run, encoder, projection)
        summary = ingest(
            source,
            collection,
            encoder,
            projection=projection,
            dataset=request.dataset,
            batch_size=request.batch_size,
            workers=request.workers,
            max_failures=request.max_failures,
            prune=request.prune,
            yes=request.yes,
            run=run,
        )
    return {**summary.to_dict(), "run_id": run.id}


def _ensure_collection(
    workspace: Workspace, request: IngestRequest, encoder: Encoder, projection: Projection | None
) -> ImageCollection:
    """Open or create the collection with `raw` and, if asked for, the projected vector."""
    raw = encoder_origin(encoder)
    vectors = {RAW: (encoder.dim, raw)}
    if projection is not None:
        check_fitted_for(projection, raw)
        origin = projected_origin(projection, raw, RAW)
        vectors[projection.default_vector] = (projection.dim_out, origin)
    return ImageCollection.ensure(
        workspace.store,
        request.collection,
        vectors,
        dataset=request.dataset,
        options=cluster_options(request),
    )


def _log_identities(run: Run, encoder: Encoder, projection: Projection | None) -> None:
    """Record the encoder, the device and precision it ran with, and the projection."""
    facts = {**encoder.identity, "precision": encoder.precision, "device": encoder.device}
    run.log_fingerprint("encoder", encoder.name, encoder.fingerprint, facts)
    if projection is not None:
        method, recipe = projection.method, projection.recipe
        run.log_fingerprint("projection", method, projection.fingerprint, recipe)


def _check_before_loading(
    workspace: Workspace, request: IngestRequest, projection: Projection | None
) -> None:
    if workspace.store.exists(request.collection):
        collection = ImageCollection.open(workspace.store, request.collection)
        check_projection(collection, collection.origin(RAW), projection)


def _parameters(request: IngestRequest) -> dict[str, Any]:
    plain = asdict(request)
    plain["projection"] = str(request.projection) if request.projection else None
    return plain
