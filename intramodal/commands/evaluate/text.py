"""``intramodal evaluate text``."""

from __future__ import annotations

from typing import Any

import click

from intramodal.commands.options import (
    FILE,
    cluster_option,
    json_option,
    labels_option,
    model_options,
    print_json,
    runs_option,
    store_option,
)


@click.command("text")
@click.argument("target", metavar="COLLECTION[:VECTOR]")
@labels_option
@click.option(
    "--template", default="a photo of a {}", show_default=True, help="{} is the class name."
)
@click.option("--model", help="Encodes the texts; default: the model that made the vector.")
@click.option(
    "--text-vectors",
    type=FILE,
    help="Ready embeddings instead, one a class in the order of their names; not projected.",
)
@click.option("--projection", type=FILE, help="The file a projected vector was made with.")
@click.option(
    "--min-class-size",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Images; smaller classes are left out.",
)
@cluster_option
@click.option("--seed", default=0, show_default=True, help="Of the interval.")
@model_options
@store_option
@runs_option
@json_option
def text(as_json: bool, runs_url: str, **options: Any) -> None:
    """Let the name of every class ask for its images (text-image retrieval).

    \b
    intramodal evaluate text photos --labels category
    intramodal evaluate text photos:pca --labels category --projection pca.safetensors
    """
    from intramodal.workflows.evaluate.text_retrieval import TextRetrievalRequest, evaluate_texts

    result = evaluate_texts(TextRetrievalRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    _print_text(result)


def _print_text(result: dict[str, Any]) -> None:
    from intramodal.commands.printing import (
        interval,
        note,
        note_left_out,
        note_populations,
        number,
        print_table,
    )

    figures = ("hit@1", "r_precision", "mrr")
    rows = [
        (
            *(field, result["vector"], number(row["map"]), interval(row["interval"])),
            *(number(row[name]) for name in figures),
            *(f"{row['n_classes']:,}", f"{row['n_gallery']:,}"),
        )
        for field, row in result["fields"].items()
    ]
    columns = ("field", "vector", "mAP>", "95% interval>", "R@1>", "R-prec>", "MRR>")
    print_table((*columns, "classes>", "gallery>"), rows, title="texts against images")
    note_populations(list(result["fields"].values()))
    note_left_out(result, {})
    note(f"run {result['run_id']}")
