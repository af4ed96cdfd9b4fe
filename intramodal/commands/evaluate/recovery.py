"""``intramodal evaluate recovery``."""

from __future__ import annotations

from typing import Any

import click

from intramodal.commands.options import (
    FILE,
    LIST,
    json_option,
    model_options,
    print_json,
    report_option,
    runs_option,
    store_option,
    template_option,
    whole_numbers,
)


@click.command("recovery")
@click.argument("target", metavar="COLLECTION[:VECTOR]")
@click.option("--model", help="Model for the texts; default: as the manifest says.")
@click.option(
    "--text-vectors", type=FILE, help="Ready text embeddings, not projected, instead of a model."
)
@click.option(
    "--anchors",
    default="imagenet",
    show_default=True,
    help="imagenet, wordnet, or a text file with one class name a line.",
)
@template_option
@click.option("--projection", type=FILE, help="The file a projected VECTOR was made with.")
@click.option(
    "--sizes",
    type=LIST,
    callback=whole_numbers,
    help="Numbers of anchors, comma-separated; default: shares of the dimensions, and all.",
)
@click.option(
    "--subsets",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Random orders of the anchors; each gives nested subsets.",
)
@click.option(
    "--pairs", type=click.IntRange(2), default=20_000, show_default=True, help="Of images, drawn."
)
@click.option("--seed", default=0, show_default=True, help="Of images, pairs and anchors.")
@report_option
@model_options
@store_option
@runs_option
@json_option
def recovery(as_json: bool, runs_url: str, **options: Any) -> None:
    """Show how well image-image similarities follow from image-text ones, by number of anchors.

    \b
    intramodal evaluate recovery photos
    intramodal evaluate recovery photos --text-vectors T.npy --sizes 64,128,256,512,1000
    """
    from intramodal.workflows.evaluate.recovery import RecoveryRequest, measure_recovery

    result = measure_recovery(RecoveryRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    _print_recovery(result)


def _print_recovery(result: dict[str, Any]) -> None:
    from intramodal.commands.printing import note, number, print_table

    columns = ("anchors>", "rank>", "free>", "condition>", "RMS error>", "± s.e.>")
    rows = [
        (
            *(f"{row['n_anchors']:,}", row["rank"], row["n_free"], f"{row['condition']:.2g}"),
            *(f"{row['rms']:.2g}", "–" if row["rms_error"] is None else f"{row['rms_error']:.1g}"),
            *(number(row["pearson"]), number(row["spearman"])),
            "determined" if row["is_determined"] else "not determined",
        )
        for row in result["curve"]
    ]
    title = (
        f"{result['n_images']:,} images of {result['dim']} dimensions, {result['n_texts']:,} "
        f"texts; similarities vary by {result['spread']:.3f}"
    )
    print_table((*columns, "Pearson>", "Spearman>", "similarities"), rows, title=title)
    click.echo(result["without_anchors"]["sentence"])
    if result["n_zero"]:
        note(f"left out: {result['n_zero']:,} points whose vector is zero")
    note(f"run {result['run_id']}")
