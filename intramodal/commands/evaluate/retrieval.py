"""``intramodal evaluate retrieval``."""

from __future__ import annotations

from typing import Any

import click

from intramodal.commands.options import (
    LIST,
    cluster_option,
    labels_option,
    least_option,
    max_queries_option,
    sample_option,
    shard_key_option,
    sides_options,
    vectors_option,
    where_option,
    whole_numbers,
)
from intramodal.commands.session import JobCommand, Session, session_options


@click.command("retrieval", cls=JobCommand, job="evaluation.retrieval:evaluate_retrieval")
@click.argument("collection")
@vectors_option
@labels_option
@where_option
@sides_options
@least_option
@click.option(
    "--ties",
    type=click.Choice(["expected", "sklearn", "best", "worst", "id"]),
    help="How equal scores are ranked: mean over all orders (expected), as scikit-learn does, "
    "best or worst case, or by id.",
)
@click.option(
    "--ks",
    type=LIST,
    callback=whole_numbers,
    help="Cut-offs of recall@k, precision@k, hit@k and ndcg@k, comma-separated (hit@1 is R@1).",
)
@click.option(
    "--classes", is_flag=True, help="Also include the mean AP of each class in the JSON."
)
@cluster_option
@sample_option
@max_queries_option
@click.option(
    "--seed", type=int, help="Random seed of the interval, and of drawn points and queries."
)
@click.option("--device", help="Device that ranks, e.g. cuda; default: the CPU, with numba.")
@shard_key_option
@session_options
def retrieval(  # noqa: PLR0913  one an option
    session: Session,
    collection: str,
    labels: list[str],
    queries: str | None,
    gallery: str | None,
    split: str | None,
    cluster: str | None,
    classes: bool,
    **knobs: Any,
) -> None:
    """Rank the full gallery exactly, for each image or for a separate set of queries.

    \b
    intramodal evaluate retrieval photos --vectors raw,pca --labels category,season
    intramodal evaluate retrieval photos --labels category --split split
    """
    from intramodal.evaluation.resampling import Resampling
    from intramodal.evaluation.retrieval import evaluate_retrieval
    from intramodal.evaluation.tasks import Sides

    sides = Sides.parse(queries, gallery, split)
    with session.open() as at:
        photos = at.collection(collection)
        with at.ledger.run(
            "evaluate-retrieval", parameters=session.stated(), seed=knobs["seed"]
        ) as run:
            found = evaluate_retrieval(
                photos,
                fields=labels,
                sides=sides,
                resampling=Resampling(cluster),
                run=run,
                **knobs,
            )
    k = 1 if 1 in knobs["ks"] else None
    session.answer(found.to_dict(classes=classes), lambda result: _show(result, k))


def _show(result: dict[str, Any], k: int | None) -> None:
    from intramodal.commands.printing import (
        interval,
        note,
        note_left_out,
        note_populations,
        number,
        print_by_distance,
        print_table,
    )

    names = (*(("hit@1",) if k else ()), "r_precision", "ndcg", "mrr")
    heads = {"hit@1": "R@1", "r_precision": "R-prec", "ndcg": "nDCG", "mrr": "MRR"}
    columns = ("field", "vector", "mAP>", "95% interval>", *(f"{heads[name]}>" for name in names))
    rows = [
        (
            *(field, vector, number(figures["map"]), interval(figures["interval"])),
            *(number(figures[name]) for name in names),
            *(f"{figures['tie_width']:.1e}", f"{entry['n_queries']:,}"),
            *(f"{entry['n_gallery']:,}", f"{entry['n_without_positives']:,}"),
        )
        for field, entry in result["fields"].items()
        for vector, figures in entry["vectors"].items()
    ]
    counts = ("tie width>", "queries>", "gallery>", "without positives>")
    print_table((*columns, *counts), rows, title=result["protocol"])
    vectors = [
        (field, vector, figures)
        for field, entry in result["fields"].items()
        for vector, figures in entry["vectors"].items()
    ]
    print_by_distance(result, vectors)
    note_populations([figures for *_, figures in vectors])
    note_left_out(result, result["fields"])
    note(f"run {result['run_id']}")
