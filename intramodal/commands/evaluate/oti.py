"""``intramodal evaluate oti``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands.options import (
    LIST,
    cluster_option,
    comma_list,
    json_option,
    labels_option,
    least_option,
    max_queries_option,
    model_options,
    print_json,
    runs_option,
    sides_options,
    store_option,
)


@click.command("oti")
@click.argument("target", metavar="COLLECTION[:VECTOR]")
@labels_option
@click.option(
    "--vectors",
    type=LIST,
    callback=comma_list,
    help="To compare with, comma-separated; default: VECTOR and those projected from it.",
)
@click.option("--model", help="Its text tower is asked; default: the model that made the vector.")
@click.option(
    "--to",
    metavar="NAME",
    help="Keep the texts in the collection, as a named vector: needs a key that may write.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the texts in this file; default ./.intramodal/oti-COLLECTION-VECTOR.safetensors.",
)
@click.option(
    "--template", default="a photo of {}", show_default=True, help="{} is the pseudo-word."
)
@click.option(
    "--steps", type=click.IntRange(1), default=150, show_default=True, help="Of AdamW, a picture."
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Pictures at once; halved where memory runs out.",
)
@max_queries_option
@sides_options
@least_option
@cluster_option
@click.option(
    "--seed",
    default=42,
    show_default=True,
    help="Of the words' starts, the draw of queries and the resampling.",
)
@model_options
@store_option
@runs_option
@json_option
def oti(as_json: bool, runs_url: str, **options: Any) -> None:
    """Let texts that stand for pictures ask (textual inversion, OTI: a rival).

    A pseudo-word in "a photo of {}" is moved until its text is nearest to the picture's stored
    vector; nothing is encoded again. That takes about a second a picture on a CPU: stopped at any
    moment, the same command goes on.

    \b
    intramodal evaluate oti photos --labels category --max-queries 500
    intramodal evaluate oti photos --labels category --split split --to oti
    """
    from intramodal.workflows.evaluate.oti import OtiRequest, evaluate_oti

    if options["to"] is not None and options["out"] is not None:
        raise click.UsageError("--to and --out exclude each other")
    result = evaluate_oti(OtiRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    _print(result)


def _print(result: dict[str, Any]) -> None:
    from intramodal.commands.printing import (
        interval,
        note,
        note_left_out,
        note_populations,
        number,
        print_table,
    )

    rows = [
        (
            *(field, vector, number(figures["map"]), interval(figures["interval"])),
            *(number(figures["hit@1"]), *_difference(entry["differences"].get(vector))),
            *(f"{entry['n_queries']:,}", f"{entry['n_gallery']:,}"),
        )
        for field, entry in result["fields"].items()
        for vector, figures in entry["vectors"].items()
    ]
    columns = ("field", "vector", "mAP>", "95% interval>", "R@1>", "oti less this>")
    counts = ("95% interval>", "p>", "queries>", "gallery>")
    print_table((*columns, *counts), rows, title=result["protocol"])
    texts = result["texts"]
    click.echo(
        f"{texts['n']:,} pictures have a text, {texts['n_new']:,} of them new; its cosine to the "
        f"picture: {number(texts['cosine_before'], 3)} at the start, "
        f"{number(texts['cosine_after'], 3)} now"
    )
    note_populations([row for e in result["fields"].values() for row in e["vectors"].values()])
    note_left_out(result, result["fields"])
    note(f"texts in {texts.get('file') or 'vector ' + repr(texts['vector'])}")
    note(f"run {result['run_id']}")


def _difference(row: dict[str, Any] | None) -> tuple[str, str, str]:
    """Return difference, interval and p-value; dashes for the texts themselves."""
    from intramodal.commands.printing import number
    from intramodal.evaluation.verdict import p_value

    if row is None:
        return "–", "–", "–"
    low, high = (number(end, sign=True) for end in row["interval"])
    return number(row["delta"], sign=True), f"[{low}, {high}]", p_value(row["p_adjusted"])
