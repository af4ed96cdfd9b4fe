"""``intramodal fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.cli.options import (
    json_option,
    model_options,
    print_json,
    runs_option,
    store_option,
)


@click.command("fit")
@click.option("--model", help="Encoder whose text tower embeds the anchors.")
@click.option(
    "--text-vectors",
    type=click.Path(path_type=Path),
    help="Ready text embeddings (.npy, one row an anchor) instead of --model; needs --made-by.",
)
@click.option("--made-by", help="Model that made --text-vectors.")
@click.option(
    "--anchors",
    default="imagenet",
    show_default=True,
    help="imagenet, wordnet, or a text file with one class name a line.",
)
@click.option(
    "--template", default="a photo of a {}", show_default=True, help="{} is the class name."
)
@click.option("--components", type=click.IntRange(1), help="Kept dimensions; default half.")
@click.option(
    "--center",
    metavar="COLLECTION[:VECTOR]",
    help="Subtract the mean of this collection's vectors first (centred PCA←).",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="FILE.safetensors"
)
@model_options
@store_option
@runs_option
@json_option
def command(as_json: bool, runs_url: str, **options: Any) -> None:
    """Fit PCA← from class-name texts and save it as one file.

    \b
    intramodal fit --model open_clip:ViT-B-32:openai -o pca.safetensors
    intramodal fit --text-vectors T.npy --made-by open_clip:ViT-B-32:openai -o pca.safetensors
    """
    if (options["model"] is None) == (options["text_vectors"] is None):
        raise click.UsageError("give either --model or --text-vectors")
    if options["text_vectors"] is not None and options["made_by"] is None:
        raise click.UsageError("--text-vectors needs --made-by, the model that made them")
    from intramodal.workflows.fit import FitRequest, fit_projection

    result = fit_projection(FitRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    from intramodal.cli.output import note, print_table

    for warning in result["warnings"]:
        note(f"warning: {warning}")
    columns = ("projection", "method", "anchors>", "rank>", "dimensions", "vector", "fingerprint")
    dimensions = f"{result['dim_in']} > {result['dim_out']}"
    names = ("projection", "method", "n_anchors", "rank")
    row = [result[name] for name in names]
    print_table(columns, [[*row, dimensions, result["vector"], result["fingerprint"][:12]]])
