"""The store's own answers, judged beside the exact ranking; recorded as a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from intramodal.errors import InputError
from intramodal.evaluation.index_search import IndexResult, IndexSearch, evaluate_index
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.progress import tracked
from intramodal.runs import Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.types import VectorTable
from intramodal.workflows.evaluate.subsets import Mask, Sides
from intramodal.workflows.evidence import log_origins, read_labelled, stated
from intramodal.workflows.workspace import open_workspace, recorded


@dataclass(frozen=True)
class IndexRequest:
    """What to ask the store; the options of ``intramodal evaluate index``."""

    collection: str
    store: str
    runs: str
    labels: list[str]
    searches: list[str] = field(default_factory=lambda: ["raw", "pca", "pca:raw"])
    k: int = 100
    candidates: int | None = None
    exact: bool = False
    ef: int | None = None
    rescore: bool | None = None
    oversampling: float | None = None
    queries: str | None = None
    gallery: str | None = None
    split: str | None = None
    min_class_size: int = 2
    timed: int = 200
    seed: int = 0


def evaluate_searches(request: IndexRequest) -> dict[str, Any]:
    """Judge every search by every field; returns what ``--json`` prints."""
    sides = Sides.parse(request.queries, request.gallery, request.split)
    parts = [parse_search(text) for text in request.searches]
    vectors = list(dict.fromkeys(name for part in parts for name in part.values()))
    with open_workspace(request.store, request.runs) as workspace:
        collection = ImageCollection.open(workspace.store, request.collection)
        with recorded(workspace, "evaluate-index", stated(request), seed=request.seed) as run:
            everything = read_labelled(collection, vectors, [*request.labels, *sides.fields])
            table, split = sides.apply(everything)
            where = sides.gallery.where if sides.gallery else None
            pairs = [(name, part) for name in request.labels for part in parts]
            rows = [
                _judged(request, collection, table, name, _search(request, part, where), split)
                for name, part in tracked(pairs, "search", total=len(pairs))
            ]
            log_origins(run, workspace.ledger, collection)
            for row in rows:
                _log(run, row)
    return {
        "collection": request.collection,
        "k": request.k,
        "exact": request.exact,
        "params": _params(request),
        "n_points": len(everything),
        "rows": rows,
        "run_id": run.id,
    }


def parse_search(text: str) -> dict[str, str]:
    """Read ``V``, ``FIRST:V`` (two stages) or ``V+W`` (fused).

    Examples
    --------
    >>> parse_search("pca:raw")
    {'vector': 'raw', 'prefetch': 'pca'}
    """
    first, colon, second = text.partition(":")
    one, plus, other = text.partition("+")
    if colon and first and second and not plus:
        return {"vector": second, "prefetch": first}
    if plus and one and other and not colon:
        return {"vector": one, "fuse": other}
    if colon or plus or not text:
        raise InputError(
            f"a search is a vector, FIRST:SECOND in two stages, or ONE+OTHER fused, got {text!r}"
        )
    return {"vector": text}


def _search(request: IndexRequest, part: Mapping[str, str], where: Filter | None) -> IndexSearch:
    return IndexSearch(
        k=request.k,
        candidates=request.candidates,
        exact=request.exact,
        params=_params(request),
        where=where,
        **part,
    )


def _params(request: IndexRequest) -> dict[str, Any]:
    given = {"rescore": request.rescore, "oversampling": request.oversampling}
    quantization = {name: value for name, value in given.items() if value is not None}
    return {
        **({} if request.ef is None else {"hnsw_ef": request.ef}),
        **({"quantization": quantization} if quantization else {}),
    }


def _judged(
    request: IndexRequest,
    collection: ImageCollection,
    table: VectorTable,
    name: str,
    search: IndexSearch,
    split: tuple[Mask, Mask] | None,
) -> dict[str, Any]:
    least = request.min_class_size
    found: IndexResult = evaluate_index(
        collection,
        table,
        search,
        field=name,
        split=split,
        min_class_size=least,
        n_timed=request.timed,
        seed=request.seed,
    )
    exact = evaluate_retrieval(
        table, vector=search.vector, field=name, split=split, ks=(), min_class_size=least
    )
    return {**found.to_dict(), "exact_map": None if search.fuse else exact.map}


def _log(run: Run, row: Mapping[str, Any]) -> None:
    about = {"vector": row["search"], "field": row["field"], "n": row["n_queries"]}
    run.log_metric(f"mAP@{row['k']}", row["map_at_k"], interval=row["map_interval"], **about)
    run.log_metric(f"recall@{row['k']}", row["recall"], **about)
    for name in ("p50", "p95", "p99"):
        run.log_metric(f"latency {name}, ms", row["latency_ms"][name], **about)
