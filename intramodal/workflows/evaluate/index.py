"""The store's own answers, judged beside the exact ranking; recorded as a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from intramodal.errors import InputError
from intramodal.evaluation.index import Denominator, IndexResult, IndexSearch, evaluate_index
from intramodal.evaluation.resampling import Resampling
from intramodal.evaluation.retrieval import RetrievalResult, evaluate_retrieval
from intramodal.evaluation.tasks import FieldFilter, Mask, Sides, read_labelled
from intramodal.progress import tracked
from intramodal.runs.run import Run
from intramodal.runs.scores import MEDIA_TYPE, SCORES, QueryScores, pack_scores
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.types import VectorTable
from intramodal.workflows.evidence import CLASSES, cluster_fields, log_map, log_origins, stated
from intramodal.workflows.workspace import open_workspace, recorded

Split = tuple[Mask, Mask] | None
Exact = Mapping[tuple[str, str], RetrievalResult]
"""Exact results by field and vector."""


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
    indexed_only: bool = False
    ignore_quantization: bool = False
    rescore: bool | None = None
    oversampling: float | None = None
    queries: str | None = None
    gallery: str | None = None
    split: str | None = None
    min_class_size: int = 2
    denominator: Denominator = "relevant"
    classes: bool = False
    cluster: str | None = None
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
            fields = [*request.labels, *sides.fields, *cluster_fields(request.cluster)]
            everything = read_labelled(collection, vectors, fields)
            table, split = sides.apply(everything)
            where = sides.gallery.where if isinstance(sides.gallery, FieldFilter) else None
            pairs = [(name, part) for name in request.labels for part in parts]
            exact = {pair: _exact(request, table, *pair, split) for pair in _plain(pairs)}
            results = [
                _judged(request, collection, table, name, _search(request, part, where), split)
                for name, part in tracked(pairs, "search", total=len(pairs))
            ]
            log_origins(run, workspace.ledger, collection)
            _keep(run, results, exact)
    return {
        "collection": request.collection,
        "k": request.k,
        "exact": request.exact,
        "params": _params(request),
        "n_points": len(everything),
        "n_incomplete": everything.n_incomplete,
        "rows": [_row(result, exact, with_classes=request.classes) for result in results],
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
    given = {
        "ignore": request.ignore_quantization or None,
        "rescore": request.rescore,
        "oversampling": request.oversampling,
    }
    quantization = {name: value for name, value in given.items() if value is not None}
    return {
        **({} if request.ef is None else {"hnsw_ef": request.ef}),
        **({"indexed_only": True} if request.indexed_only else {}),
        **({"quantization": quantization} if quantization else {}),
    }


def _plain(pairs: Sequence[tuple[str, Mapping[str, str]]]) -> list[tuple[str, str]]:
    """Return the fields and vectors of all searches that have an exact ranking, once each."""
    return list(dict.fromkeys((name, p["vector"]) for name, p in pairs if "fuse" not in p))


def _exact(
    request: IndexRequest,
    table: VectorTable,
    name: str,
    vector: str,
    split: Split,
) -> RetrievalResult:
    """Return the exact figures, equal scores in the order of ids, as a store gives them."""
    return evaluate_retrieval(
        table,
        vectors=[vector],
        fields=[name],
        sides=split,
        ks=(),
        ties="id",
        min_class_size=request.min_class_size,
        resampling=Resampling(request.cluster),
        seed=request.seed,
    )[name, vector]


def _judged(
    request: IndexRequest,
    collection: ImageCollection,
    table: VectorTable,
    name: str,
    search: IndexSearch,
    split: Split,
) -> IndexResult:
    return evaluate_index(
        collection,
        table,
        search,
        field=name,
        split=split,
        min_class_size=request.min_class_size,
        denominator=request.denominator,
        cluster=request.cluster,
        n_timed=request.timed,
        seed=request.seed,
    )


def _row(result: IndexResult, exact: Exact, *, with_classes: bool) -> dict[str, Any]:
    """Return what is shown of a search: its own figures, and what the vector is capable of."""
    found = exact.get((result.field, result.search.vector))
    beside = found.to_dict() if found and not result.search.fuse else {}
    return {
        **(_with_classes(result) if with_classes else result.to_dict()),
        "exact_map": beside.get("map"),
        "exact_interval": beside.get("interval"),
    }


def _keep(run: Run, results: Sequence[IndexResult], exact: Exact) -> None:
    """Record the figures, and the scores of every query and class."""
    for found in exact.values():
        log_map(run, found, "mAP exact")
    for result in results:
        _log(run, result)
    scores = [
        QueryScores(result.field, result.search.name, result.query_ids, result.scores)
        for result in results
    ]
    run.save_artefact(SCORES, pack_scores(scores), MEDIA_TYPE)
    run.save_artefact(CLASSES, {"rows": [_with_classes(result) for result in results]})


def _with_classes(result: IndexResult) -> dict[str, Any]:
    means = result.class_mean().items()
    classes = {str(name): {"ap": ap, "n_queries": n} for name, (ap, n) in means}
    return {**result.to_dict(), "classes": classes}


def _log(run: Run, result: IndexResult) -> None:
    row, k = result.to_dict(), result.search.k
    about = {"vector": row["search"], "field": row["field"], "n": row["n_queries"]}
    over = "" if result.denominator == "relevant" else f", over {row['denominator']}"
    run.log_metric(f"mAP@{k}{over}", row["map_at_k"], interval=row["interval"], **about)
    for name, value in zip(("least", "most"), row["map_interval"], strict=True):
        run.log_metric(f"mAP at {name}, by {k} answers", value, **about)
    run.log_metric(f"recall@{k}", row["recall"], **about)
    timed = {**about, "n": row["latency_ms"]["n"]}
    for name in ("p50", "p95", "p99"):
        run.log_metric(f"latency {name}, ms", row["latency_ms"][name], **timed)
