"""``intramodal evaluate retrieval``."""

from __future__ import annotations

from typing import Any

import click

from intramodal.commands.options import (
    LIST,
    cluster_option,
    json_option,
    labels_option,
    least_option,
    max_queries_option,
    print_json,
    runs_option,
    sample_option,
    sides_options,
    store_option,
    vectors_option,
    whole_numbers,
)


@click.command("retrieval")
@click.argument("collection")
@vectors_option
@labels_option
@sides_options
@least_option
@click.option(
    "--ties",
    type=click.Choice(["expected", "sklearn", "best", "worst", "id"]),
    default="expected",
    show_default=True,
    help="Order of equal scores.",
)
@click.option(
    "--ks",
    default="1,5,10",
    show_default=True,
    type=LIST,
    callback=whole_numbers,
    help="Places for recall@k, precision@k and hit@k (hit@1 is R@1).",
)
@click.option("--classes", is_flag=True, help="Every class's mean AP in the JSON, too.")
@cluster_option
@sample_option
@max_queries_option
@click.option("--seed", default=0, show_default=True, help="Of the interval and of what is drawn.")
@click.option("--device", help="Rank there, for example on cuda; default: on the CPU, by numba.")
@store_option
@runs_option
@json_option
def retrieval(as_json: bool, runs_url: str, **options: Any) -> None:
    """Rank exactly, over the full gallery: every picture asks all others, or two sets.

    \b
    intramodal evaluate retrieval photos --vectors raw,pca --labels category,season
    intramodal evaluate retrieval photos --labels category --split split
    """
    from intramodal.workflows.evaluate.retrieval import RetrievalRequest, evaluate_collection

    result = evaluate_collection(RetrievalRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    _print_retrieval(result, 1 if 1 in options["ks"] else None)


def _print_retrieval(result: dict[str, Any], k: int | None) -> None:
    from intramodal.commands.printing import (
        interval,
        note,
        note_left_out,
        note_populations,
        number,
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
    vectors = [row for entry in result["fields"].values() for row in entry["vectors"].values()]
    note_populations(vectors)
    note_left_out(result, result["fields"])
    note(f"run {result['run_id']}")
