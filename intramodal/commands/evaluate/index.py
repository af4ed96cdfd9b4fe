"""``intramodal evaluate index``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.next_steps import note_run
from intramodal.commands.options import (
    COUNT,
    LIST,
    SEED,
    cluster_option,
    exact_option,
    label_file_options,
    labels_option,
    least_option,
    max_queries_option,
    names_if_given,
    preference,
    query_side_of,
    query_side_options,
    shard_key_option,
    sides_options,
    where_option,
)
from intramodal.commands.session import NOTHING_KEPT, JobCommand, Session, session_options


@click.command(
    "index",
    cls=JobCommand,
    common=("labels", "searches", "k"),
    kept=NOTHING_KEPT,
    job="evaluation.index:evaluate_index",
    renamed={"timed": "n_timed"},
)
@click.argument("collection", shell_complete=completion.collections)
@preference(
    "--searches",
    shell_complete=completion.vectors,
    type=LIST,
    callback=names_if_given,
    help="Searches to evaluate, comma-separated: a vector; FIRST:SECOND (candidates of the first, "
    "ranked by the second); ONE+OTHER (two rankings, fused by rank), with "
    "weights as ONE=3+OTHER=1; default: the encoder's own vector, its projection, and both in two "
    "stages, e.g. raw,pca,pca:raw.",
)
@labels_option
@query_side_options
@preference("-k", type=COUNT, help="Number of results per query.")
@preference(
    "--candidates",
    type=click.IntRange(1),
    help="Number of candidates in a two-stage or fused search; default: four times -k.",
)
@exact_option
@preference(
    "--ef",
    type=click.IntRange(1),
    help="Size of the candidate list in an HNSW search (hnsw_ef), e.g. 128.",
)
@preference("--indexed-only", is_flag=True, help="Leave out points that are not in the index yet.")
@preference(
    "--ignore-quantization",
    is_flag=True,
    help="Search the index with the original vectors instead of the quantised ones.",
)
@preference(
    "--rescore/--no-rescore",
    default=None,
    help="Rescore the results of a quantised search with the original vectors.",
)
@preference(
    "--oversampling",
    type=click.FloatRange(1.0),
    help="Factor by which a quantised search fetches more candidates than results, e.g. 2.0.",
)
@label_file_options
@where_option
@sides_options
@least_option
@max_queries_option
@preference(
    "--denominator",
    type=click.Choice(["relevant", "min"]),
    help="Denominator of mAP@k in the JSON: all relevant images, or min(k, relevant).",
)
@preference(
    "--classes", is_flag=True, help="Also include the mean AP@k of each class in the JSON."
)
@cluster_option
@preference(
    "--timed",
    type=COUNT,
    help="Number of queries that are sent one by one to measure the latency.",
)
@preference(
    "--seed", type=SEED, help="Random seed of the drawn and timed queries, and of the interval."
)
@shard_key_option
@session_options
def index(  # noqa: PLR0913  one an option
    session: Session,
    collection: str,
    searches: list[str] | None,
    labels: list[str],
    candidates: int | None,
    exact: bool,
    ef: int | None,
    indexed_only: bool,
    ignore_quantization: bool,
    rescore: bool | None,
    oversampling: float | None,
    queries: str | None,
    gallery: str | None,
    split: str | None,
    classes: bool,
    cluster: str | None,
    timed: int,
    query_side: Path | None,
    rerank: int | None,
    **knobs: Any,
) -> None:
    """Separate the loss of the index from that of the model, searching as in production.

    Recall is measured against the exact top k. --json also has nDCG@k, the exact mAP and mAP@k
    with their intervals, bounds of the full mAP, and further latencies. mAP@k over all relevant
    images is a lower bound of the full mAP.

    \b
    intramodal evaluate index photos --labels category
    intramodal evaluate index photos --labels category --searches raw,pca,pca:raw,raw+pca
    intramodal evaluate index photos --labels category -k 10 --ef 64
    intramodal evaluate index photos --labels category -k 10 --query-side pca.safetensors
    """
    from intramodal.evaluation.index import evaluate_index
    from intramodal.evaluation.resampling import Resampling
    from intramodal.evaluation.tasks import Sides

    sides = Sides.parse(queries, gallery, split)
    quantization = {
        "ignore": ignore_quantization or None,
        "rescore": rescore,
        "oversampling": oversampling,
    }
    params = _given(
        hnsw_ef=ef,
        indexed_only=indexed_only or None,
        quantization=_given(**quantization) or None,
    )
    how: Any = {"candidates": candidates, "exact": exact, "params": params}
    projection = query_side_of({"query_side": query_side, "rerank": rerank})
    with session.open() as at:
        photos = at.collection(collection)
        asked = [replace(one, **how) for one in _asked(photos, searches, projection, rerank)]
        with at.ledger.run(
            "evaluate-index", parameters=session.stated(), seed=knobs["seed"]
        ) as run:
            found = evaluate_index(
                photos,
                searches=asked,
                fields=labels,
                sides=sides,
                n_timed=timed,
                resampling=Resampling(cluster),
                run=run,
                **knobs,
            )
    session.answer(found.to_dict(classes=classes), _show)


def _asked(
    photos: Any, searches: list[str] | None, projection: Any, rerank: int | None
) -> list[Any]:
    """Return the searches that are named, or the usual ones, and that of the query side."""
    from intramodal.evaluation.index import usual_searches
    from intramodal.evaluation.index_search import IndexSearch

    if searches is None:
        found = usual_searches(photos, own_only=projection is not None)
    else:
        found = [IndexSearch.parse(text) for text in searches]
    if projection is None:
        return found
    return [*found, IndexSearch(found[0].vector, query_side=projection, rerank=rerank)]


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _show(result: dict[str, Any]) -> None:
    from intramodal.commands.printing import (
        note_left_out,
        number,
        print_by_distance,
        print_table,
        say_label_evidence,
    )

    k = result["k"]
    heads = (f"precision@{k}>", "precision@1>", f"recall@{k}>", "p95 ms>")
    rows = [
        (
            *(row["field"], row["search"]),
            *(number(row[name], 3) for name in ("precision_at_k", "precision_at_1", "recall")),
            number(row["latency_ms"]["p95"], 2),
        )
        for row in result["rows"]
    ]
    print_table(
        ("field", "search", *heads), rows, title=f"the store's first {k} results per query"
    )
    exact = [
        (row["field"], row["search"], {**row, "map": row["exact_map"]}) for row in result["rows"]
    ]
    print_by_distance(result, exact)
    say_label_evidence(
        (row["field"], one)
        for row in result["rows"]
        for one in (row["label_evidence"] or {}).values()
    )
    note_left_out(result, {})
    note_run(result)
