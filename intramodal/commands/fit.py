"""``intramodal fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.options import model_options, preference, shard_key_option
from intramodal.commands.outputs import Output
from intramodal.commands.session import JobCommand, Session, session_options


@click.command(
    "fit",
    cls=JobCommand,
    common=("out", "model", "text-vectors", "made-by", "method"),
    kept="no file was written; run the same command again to start over",
    job="projection.fit:fit_projection",
    settings="projection.anchors:load_anchors",
)
@preference(
    "--method",
    type=click.Choice(["pca", "isoclip"]),
    help="pca: PCA← of class-name texts; isoclip: the middle of the projectors' spectrum.",
)
@click.option(
    "--model",
    help="Model whose text tower embeds the anchors (pca) or whose projectors are used (isoclip).",
)
@click.option(
    "--text-vectors",
    type=click.Path(path_type=Path),
    help="Precomputed text embeddings, one row per anchor, instead of --model; needs --made-by.",
)
@click.option(
    "--projectors",
    type=click.Path(path_type=Path),
    help="isoclip: precomputed projectors instead of --model, a .safetensors file with the "
    "tensors image and text, each (dimensions x width); needs --made-by.",
)
@click.option("--made-by", help="Model that made --text-vectors or --projectors.")
@preference(
    "--recipe",
    type=click.Choice(["paper-text", "paper-table3", "paper-readme", "paper-fewshot"]),
    help="Class names, templates, scaling and centring as in the paper's text (paper-text, the "
    "default) or in its published code, instead of --anchors, --template and --normalize-text.",
)
@click.option(
    "--anchors",
    help="Class names that serve as anchors: imagenet, wordnet, or a text file with one name per "
    "line.",
)
@preference("--template", help="Prompt for the texts; {} stands for the class name.")
@preference(
    "--normalize-text/--no-normalize-text",
    default=None,
    help="Scale the text embeddings to unit length before computing their covariance; default: "
    "they are scaled.",
)
@preference(
    "--components", type=click.IntRange(1), help="Number of dimensions to keep; default: half."
)
@click.option(
    "--center",
    shell_complete=completion.collections,
    metavar="COLLECTION[:VECTOR]",
    help="Collection whose mean vector is subtracted first (centred PCA←), e.g. photos:raw.",
)
@preference(
    "--k-top",
    type=click.IntRange(0),
    help="isoclip: number of strongest directions to drop; default: as published for the model.",
)
@preference(
    "--k-bottom",
    type=click.IntRange(0),
    help="isoclip: number of weakest directions to drop; default: as published for the model.",
)
@click.option(
    "-o",
    "--out",
    type=Output("projection"),
    required=True,
    help="Projection file to write, e.g. pca.safetensors.",
)
@shard_key_option
@model_options
@session_options
@click.pass_context
def command(context: click.Context, /, session: Session, **options: Any) -> None:
    """Fit a projection (PCA←, centred PCA←, IsoCLIP) and save it to a file.

    \b
    intramodal fit --model open_clip:ViT-B-32:openai -o pca.safetensors
    intramodal fit --text-vectors T.npy --made-by open_clip:ViT-B-32:openai -o pca.safetensors
    intramodal fit --recipe paper-table3 --model open_clip:ViT-B-32:openai -o table3.safetensors
    intramodal fit --method isoclip --model open_clip:ViT-B-32:openai -o isoclip.safetensors
    """
    _check_usage(context, options)
    from intramodal.projection.fit import fit_projection

    with (
        session.open_ledger() as ledger,
        ledger.run("fit", parameters=session.given()) as run,
    ):
        anchors, center = _anchors(session, options)
        projection = fit_projection(
            _source(options),
            method=options["method"],
            made_by=options["made_by"],
            recipe=options["recipe"],
            anchors=anchors,
            normalize_text=None if options["recipe"] else options["normalize_text"],
            components=options["components"],
            center=center,
            k_top=options["k_top"],
            k_bottom=options["k_bottom"],
        )
        projection.save(options["out"])
        run.log_fingerprint(
            "projection", projection.method, projection.fingerprint, projection.recipe
        )
    found = {"projection": str(options["out"]), **projection.to_dict(), "run_id": run.id}
    session.answer(found, _show)


def _anchors(session: Session, options: dict[str, Any]) -> tuple[Any, Any]:
    """Return the anchors and the centre of PCA←."""
    if options["method"] != "pca":
        return None, None
    from intramodal.projection.anchors import load_anchors

    is_recipe = options["recipe"] is not None
    anchors = None if is_recipe else load_anchors(options["anchors"], options["template"])
    return anchors, _center(session, options["center"]) if options["center"] else None


def _center(session: Session, place: str) -> Any:
    """Return the mean that ``COLLECTION[:VECTOR]`` names; ``COLLECTION:`` is an unnamed vector."""
    from intramodal.store.collection import ImageCollection
    from intramodal.store.default_vectors import own_vector
    from intramodal.store.origins import center_of

    name, has_vector, vector = place.partition(":")
    with session.open_store() as store:
        photos = ImageCollection.open(store, name)
        return center_of(photos, own_vector(photos, vector if has_vector else None))


def _source(options: dict[str, Any]) -> Any:
    """Return the encoder, the ready text embeddings or the ready projectors."""
    if options["method"] == "pca" and options["text_vectors"] is not None:
        from intramodal.ingest.vectors.matrices import read_matrix

        return read_matrix(options["text_vectors"])
    if options["method"] == "isoclip" and options["projectors"] is not None:
        from intramodal.projection.isoclip import read_projectors

        return read_projectors(options["projectors"])
    from intramodal.ingest.encoders.registry import load_encoder

    return load_encoder(options["model"], device=options["device"], precision=options["precision"])


def _show(result: dict[str, Any]) -> None:
    from intramodal.commands.columns import id_column
    from intramodal.commands.printing import note, print_table

    for warning in result["warnings"]:
        note(f"warning: {warning}")
    columns = ("projection", "fitted on", "dimensions>", "vector", id_column("fingerprint"))
    dimensions = f"{result['dim_in']} > {result['dim_out']}"
    row = [result["projection"], _basis(result), dimensions, result["vector"]]
    print_table(columns, [[*row, result["fingerprint"][:12]]])


_OF_RECIPE = ("anchors", "template", "normalize_text")
_ONLY_FOR = {
    "pca": ("text_vectors", "recipe", *_OF_RECIPE, "components", "center"),
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
    if options["center"] is None and _is_typed(context, "shard_key"):
        raise click.UsageError("--shard-key is for --center only: nothing else reads points")
    _check_recipe(context, options["recipe"])
    ready = "text_vectors" if method == "pca" else "projectors"
    option = f"--{ready.replace('_', '-')}"
    if (options["model"] is None) == (options[ready] is None):
        raise click.UsageError(f"give either --model or {option}")
    if options[ready] is not None and options["made_by"] is None:
        raise click.UsageError(f"{option} needs --made-by, the model that made them")


def _check_recipe(context: click.Context, recipe: str | None) -> None:
    decided = [name for name in _OF_RECIPE if recipe and _is_typed(context, name)]
    if decided:
        raise click.UsageError(
            f"--recipe {recipe} already decides on names, templates and scaling; leave out "
            f"--{decided[0].replace('_', '-')}, or the recipe"
        )


def _is_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _basis(result: dict[str, Any]) -> str:
    if result["n_anchors"] is None:
        return f"projectors without top {result['k_top']}, bottom {result['k_bottom']}"
    return f"{result['n_anchors']:,} anchors of rank {result['rank']}"
