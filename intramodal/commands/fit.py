"""``intramodal fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands.options import (
    json_option,
    model_options,
    print_json,
    runs_option,
    store_option,
)


@click.command("fit")
@click.option(
    "--method",
    type=click.Choice(["pca", "isoclip"]),
    default="pca",
    show_default=True,
    help="PCA← of class-name texts, or the middle of the projectors' spectrum.",
)
@click.option("--model", help="Encoder whose text tower embeds the anchors, or whose projectors.")
@click.option(
    "--text-vectors",
    type=click.Path(path_type=Path),
    help="Ready text embeddings (.npy, one row an anchor) instead of --model; needs --made-by.",
)
@click.option(
    "--projectors",
    type=click.Path(path_type=Path),
    help="isoclip: ready matrices instead of --model (.safetensors with the tensors image and "
    "text, each dimensions x width); needs --made-by.",
)
@click.option("--made-by", help="Model that made --text-vectors or --projectors.")
@click.option(
    "--anchors",
    default="imagenet",
    show_default=True,
    help="imagenet, wordnet, or a text file with one class name a line.",
)
@click.option(
    "--template", default="a photo of a {}", show_default=True, help="{} is the class name."
)
@click.option(
    "--normalize-text/--no-normalize-text",
    default=True,
    show_default=True,
    help="Scale texts to unit length before their covariance.",
)
@click.option("--components", type=click.IntRange(1), help="Kept dimensions; default half.")
@click.option(
    "--center",
    metavar="COLLECTION[:VECTOR]",
    help="Subtract the mean of this collection's vectors first (centred PCA←).",
)
@click.option(
    "--k-top",
    type=click.IntRange(0),
    help="isoclip: strongest directions dropped; default as published for the model.",
)
@click.option(
    "--k-bottom",
    type=click.IntRange(0),
    help="isoclip: weakest directions dropped; default as published for the model.",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True, help="FILE.safetensors"
)
@model_options
@store_option
@runs_option
@json_option
@click.pass_context
def command(context: click.Context, /, as_json: bool, runs_url: str, **options: Any) -> None:
    """Fit a projection (PCA←, centred PCA←, IsoCLIP) and save it as one file.

    \b
    intramodal fit --model open_clip:ViT-B-32:openai -o pca.safetensors
    intramodal fit --text-vectors T.npy --made-by open_clip:ViT-B-32:openai -o pca.safetensors
    intramodal fit --method isoclip --model open_clip:ViT-B-32:openai -o isoclip.safetensors
    """
    _check_usage(context, options)
    from intramodal.workflows.fit import FitRequest, fit_projection

    result = fit_projection(FitRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    from intramodal.commands.printing import note, print_table

    for warning in result["warnings"]:
        note(f"warning: {warning}")
    columns = ("projection", "method", "fitted on", "dimensions", "vector", "fingerprint")
    dimensions = f"{result['dim_in']} > {result['dim_out']}"
    row = [result["projection"], result["method"], _basis(result), dimensions]
    print_table(columns, [[*row, result["vector"], result["fingerprint"][:12]]])


_ONLY_FOR = {
    "pca": ("text_vectors", "anchors", "template", "normalize_text", "components", "center"),
    "isoclip": ("projectors", "k_top", "k_bottom"),
}


def _check_usage(context: click.Context, options: dict[str, Any]) -> None:
    """Refuse options of the other method, and two sources or none."""
    method = options["method"]
    for other, names in _ONLY_FOR.items():
        given = [name for name in names if _is_typed(context, name)]
        if other != method and given:
            raise click.UsageError(
                f"--{given[0].replace('_', '-')} belongs to --method {other}, not to {method}"
            )
    ready = "text_vectors" if method == "pca" else "projectors"
    option = f"--{ready.replace('_', '-')}"
    if (options["model"] is None) == (options[ready] is None):
        raise click.UsageError(f"give either --model or {option}")
    if options[ready] is not None and options["made_by"] is None:
        raise click.UsageError(f"{option} needs --made-by, the model that made them")


def _is_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _basis(result: dict[str, Any]) -> str:
    if result["n_anchors"] is None:
        return f"projectors without top {result['k_top']}, bottom {result['k_bottom']}"
    return f"{result['n_anchors']:,} anchors of rank {result['rank']}"
