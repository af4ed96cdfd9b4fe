"""``intramodal fit``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from intramodal.commands import completion
from intramodal.commands.next_steps import Name, label_file_words, note_next, say_made
from intramodal.commands.options import (
    FILE,
    LIST,
    anchors_option,
    comma_list,
    fit_rows_of,
    fit_rows_options,
    label_file_options,
    model_options,
    preference,
    shard_key_option,
    template_option,
    text_axes_of,
)
from intramodal.commands.outputs import Output
from intramodal.commands.session import JobCommand, Session, session_options
from intramodal.errors import IntramodalError
from intramodal.files import check_replaceable
from intramodal.types import listed


@click.command(
    "fit",
    cls=JobCommand,
    common=("out", "model", "text-vectors", "made-by", "labels", "method"),
    kept="no file was written; run the same command again to start over",
    job="projection.fit:fit_projection",
    settings=(
        "projection.anchors:load_anchors",
        "projection.fit:fit_centering",
        "projection.fit:fit_label_map",
        "projection.fit:fit_posterior",
        "projection.fit:fit_words",
        "evaluation.labelled_rows:labelled_rows",
    ),
)
@click.argument(
    "collection",
    required=False,
    metavar="[COLLECTION[:VECTOR]]",
    shell_complete=completion.collections,
)
@preference(
    "--method",
    type=click.Choice(["pca", "isoclip", "centered", "label", "posterior", "words"]),
    help="pca: PCA← of class-name texts; isoclip: the middle of the projectors' spectrum; "
    "centered: the mean of COLLECTION is subtracted, then --projection, if given, applied; with "
    "--labels, label (default): axes that separate classes, plus text axes; posterior: the "
    "chance of each class; with --words, words: axes between the names of a field's values.",
)
@click.option(
    "--words",
    metavar="FIELD|FILE",
    help="words: payload field of COLLECTION whose values are named, or a text file with one name "
    "per line; no label is read. Needs --projection, and --model or --text-vectors with one row "
    "per name in this order.",
)
@preference(
    "--word-weight",
    type=click.FloatRange(0, min_open=True),
    help="words: length of the axes between the names, that of the projection being 1; default: "
    "0.5, with --labels the best on the labelled images that are for fitting.",
)
@click.option(
    "--labels",
    metavar="FIELD,...",
    type=LIST,
    callback=comma_list,
    shell_complete=completion.fields,
    help="label, posterior: payload fields of COLLECTION to fit a map to, one file each: with "
    "several, {field} in --out stands for the name.",
)
@fit_rows_options("label, posterior")
@preference(
    "--label-weight",
    type=click.FloatRange(0, 1, min_open=True),
    help="label: share of the label axes in a vector's length; default: 0.5 below 100 labelled "
    "images, else 0.8.",
)
@preference(
    "--known",
    is_flag=True,
    help="posterior: the codes of points whose payload knows the label are certain of it; they "
    "cannot be judged then, so compare the map without it.",
)
@click.option(
    "--force",
    is_flag=True,
    help="posterior: fit also where a class has fewer than 10 labelled images.",
)
@click.option(
    "--projection",
    type=FILE,
    help="label, posterior: projection file whose directions are the text axes, instead of "
    "--text-vectors; without either they are the images' own principal axes. centered: whose "
    "directions are kept; without either all are.",
)
@click.option(
    "--model",
    help="Model whose text tower embeds the anchors (pca) or whose projectors are used (isoclip).",
)
@click.option(
    "--text-vectors",
    type=click.Path(path_type=Path),
    help="Precomputed text embeddings, one row per anchor, instead of --model; needs --made-by "
    "(pca).",
)
@click.option(
    "--projectors",
    type=click.Path(path_type=Path),
    help="isoclip: precomputed projectors instead of --model, a .safetensors file with the "
    "tensors image and text, each (dimensions x width); needs --made-by.",
)
@click.option(
    "--made-by",
    help="Model that made --text-vectors or --projectors; for a map of labels or words, that made "
    "the vectors of a COLLECTION which does not say: nothing is written there.",
)
@preference(
    "--recipe",
    type=click.Choice(["paper-text", "paper-table3", "paper-readme", "paper-fewshot"]),
    help="Class names, templates, scaling and centring as in the paper's text (paper-text, the "
    "default) or in its published code, instead of --anchors, --template and --normalize-text.",
)
@anchors_option
@template_option
@preference(
    "--normalize-text/--no-normalize-text",
    default=None,
    help="Scale the text embeddings to unit length before computing their covariance; default: "
    "they are scaled.",
)
@preference(
    "--components",
    type=click.IntRange(1),
    help="Number of dimensions to keep; default: half. label: number of label axes at most; "
    "default: 64.",
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
@label_file_options
@shard_key_option
@model_options
@session_options
@click.pass_context
def command(context: click.Context, /, session: Session, **options: Any) -> None:
    """Fit a map of vectors to texts (PCA←, IsoCLIP) or labels, and save it to a file.

    \b
    intramodal fit --model open_clip:ViT-B-32:openai -o pca.safetensors
    intramodal fit --text-vectors T.npy --made-by open_clip:ViT-B-32:openai -o pca.safetensors
    intramodal fit --recipe paper-table3 --model open_clip:ViT-B-32:openai -o table3.safetensors
    intramodal fit --method isoclip --model open_clip:ViT-B-32:openai -o isoclip.safetensors
    intramodal fit photos --method centered --projection pca.safetensors -o centered.safetensors
    intramodal fit photos --labels category --projection pca.safetensors -o category.safetensors
    intramodal fit photos --method posterior --labels category -o codes.safetensors
    intramodal fit photos --words category --projection pca.safetensors --model M -o w.safetensors
    """
    if options["words"] and context.get_parameter_source("method") is ParameterSource.DEFAULT:
        options["method"] = "words"
    elif options["labels"] and context.get_parameter_source("method") is ParameterSource.DEFAULT:
        options["method"] = "label"
    _check_usage(context, options)
    fits = {"words": _fit_words, **dict.fromkeys(_OF_LABELS, _fit_labels)}
    if options["method"] in fits:
        found = fits[options["method"]](session, options)
        session.answer(found, partial(_show_maps, options=options))
        return
    fit = _fit_centering if options["method"] == "centered" else _fit_texts
    session.answer(fit(session, options), _show)


def _fit_texts(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """Fit a projection to texts or projectors."""
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
    return {"projection": str(options["out"]), **projection.to_dict(), "run_id": run.id}


def _fit_centering(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """Fit a map that subtracts the mean of a collection."""
    from intramodal.projection.fit import fit_centering

    text = text_axes_of(options)
    with (
        session.open_ledger() as ledger,
        ledger.run("fit", parameters=session.given()) as run,
    ):
        center = _center(session, options["collection"])
        made = fit_centering(center, text=text)
        made.save(options["out"])
        run.log_fingerprint("projection", made.method, made.fingerprint, made.recipe)
    found = {"projection": str(options["out"]), **made.to_dict(), "center": dict(center.facts)}
    return {**found, "run_id": run.id}


def _fit_labels(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """Fit a map to the labels of each field."""
    from intramodal.evaluation.labelled_rows import labelled_rows

    places = _places(options["out"], options["labels"])
    name, how = _place(options)
    how |= fit_rows_of(options)
    text = text_axes_of(options)
    found = []
    with (
        session.open() as at,
        at.ledger.run("fit", parameters=session.given()) as run,
    ):
        photos = at.collection(name)
        for field, place in places.items():
            made = _fitted(labelled_rows(photos, field, **how), text, options)
            made.save(place)
            run.log_fingerprint("projection", made.method, made.fingerprint, made.recipe)
            found.append({"projection": str(place), **made.to_dict()})
    return {"maps": found, "run_id": run.id}


def _place(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of a collection, and which vector of which model if that is said."""
    name, has_vector, vector = options["collection"].partition(":")
    how = {"vector": vector} if has_vector else {}
    return name, how | ({"made_by": options["made_by"]} if options["made_by"] else {})


def _fit_words(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """Fit axes between the names of a field's values."""
    from intramodal.evaluation.labelled_rows import images_of, labelled_rows, word_weight
    from intramodal.projection.fit import fit_words
    from intramodal.projection.projection import Projection

    base = Projection.load(options["projection"])
    name, how = _place(options)
    with (
        session.open() as at,
        at.ledger.run("fit", parameters=session.given()) as run,
    ):
        photos = at.collection(name)
        values, field = _values(photos, options)
        fit = partial(
            fit_words,
            _texts_of(values, options),
            values=values,
            field=field,
            base=base,
            images=images_of(photos, **how),
        )
        weighed = {} if options["word_weight"] is None else {"weight": options["word_weight"]}
        if options["labels"]:
            rows = labelled_rows(photos, options["labels"][0], **how, **fit_rows_of(options))
            weight = word_weight(rows, lambda weight: fit(weight=weight))
            weighed = {"weight": weight, "chosen_on": rows.labels}
        made = fit(**weighed)
        made.save(options["out"])
        run.log_fingerprint("projection", made.method, made.fingerprint, made.recipe)
    found = {"projection": str(options["out"]), **made.to_dict(), "words": made.recipe["words"]}
    return {"maps": [found], "run_id": run.id}


def _values(photos: Any, options: dict[str, Any]) -> tuple[Any, str]:
    """Return the named values with their template, and the field they are of."""
    from intramodal.evaluation.labelled_rows import value_names
    from intramodal.projection.anchors import TEMPLATE, AnchorSet

    template, words = options["template"] or TEMPLATE, options["words"]
    if Path(words).is_file():
        return AnchorSet.from_file(words, template=template), Path(words).stem
    return AnchorSet(tuple(value_names(photos, words)), template), words


def _texts_of(values: Any, options: dict[str, Any]) -> Any:
    """Return the texts of the values, (n, d)."""
    if options["text_vectors"] is not None:
        from intramodal.ingest.vectors.matrices import read_matrix

        return read_matrix(options["text_vectors"])
    from intramodal.ingest.encoders.registry import load_encoder

    on = {"device": options["device"], "precision": options["precision"]}
    return load_encoder(options["model"], **on)


def _fitted(rows: Any, text: Any, options: dict[str, Any]) -> Any:
    from intramodal.projection.fit import fit_label_map, fit_posterior

    if options["method"] == "posterior":
        how = {"known": options["known"], "force": options["force"]}
        return fit_posterior(rows, text=text, **how)
    weight, components = options["label_weight"], options["components"]
    return fit_label_map(rows, text=text, label_weight=weight, components=components)


def _places(out: Path, fields: Sequence[str]) -> dict[str, Path]:
    """Return the file of each field's map."""
    if len(fields) > 1 and _FIELD not in out.name:
        raise click.UsageError(
            f"{len(fields)} fields give as many files; write {_FIELD} where their names differ, "
            f"for example --out '{_FIELD}.safetensors'"
        )
    plain = {field: re.sub(r"[^\w-]+", "_", field).strip("_") for field in fields}
    found = {field: out.with_name(out.name.replace(_FIELD, plain[field])) for field in fields}
    for place in found.values():
        check_replaceable(place)
    if len(set(found.values())) < len(fields):
        raise click.UsageError("two of the fields give files of one name; fit them one by one")
    return found


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
    say_made("projection", result["projection"])
    for name in _fillable(result)[:1]:
        note_next("backfill", Name(name), "--projection", result["projection"])


def _fillable(result: dict[str, Any]) -> list[str]:
    """Return collections of an embedded store that wait for this projection."""
    from intramodal.projection.projection import Projection
    from intramodal.store.outline import collections_for

    store = click.get_current_context().params["session"].store
    try:
        return collections_for(store, Projection.load(result["projection"]))
    except IntramodalError:  # the projection is fitted all the same
        return []


def _show_maps(result: dict[str, Any], options: dict[str, Any]) -> None:
    from intramodal.commands.columns import id_column
    from intramodal.commands.printing import note, print_table, printable

    rows = []
    for one in result["maps"]:
        field, fitted_on = _fitted_on(one)
        dimensions = f"{one['dim_in']} > {one['dim_out']}"
        row = [one["projection"], field, fitted_on, dimensions, one["vector"]]
        rows.append([*row, one["fingerprint"][:12]])
        for warning in one["warnings"]:
            note(printable(f"warning: {warning}"))
    columns = ("projection", "field", "fitted on", "dimensions>", "vector")
    print_table((*columns, id_column("fingerprint")), rows)
    if any(one["labels"] for one in result["maps"]):
        note("rows for fitting never judge these maps: every evaluation leaves them out")
    for one in result["maps"]:
        say_made("projection", one["projection"])
    for one in result["maps"]:
        _note_use(one, options)


def _note_use(one: dict[str, Any], options: dict[str, Any]) -> None:
    """Note how to store a map, or to try it where the collection does not say its model.

    Codes have no query side, and names in a file belong to no field.
    """
    name, has_vector, vector = options["collection"].partition(":")
    if options["made_by"] is None:
        source = ["--from", vector] if has_vector else []
        note_next("backfill", Name(name), "--projection", one["projection"], *source)
    elif one["method"] != "posterior" and not Path(options["words"] or "").is_file():
        of = ["--vectors", vector or "''"] if has_vector else []
        side = ["--query-side", one["projection"]]
        labels = ["--labels", listed(_fitted_on(one)[0]), *label_file_words()]
        note_next("compare", Name(name), *of, *side, *labels)


def _fitted_on(one: dict[str, Any]) -> tuple[str, str]:
    """Return the field of a map, and what it was fitted to."""
    words, labels = one.get("words"), one["labels"]
    if words:
        return words["field"], f"{len(words['values']):,} names, weight {words['weight']:g}"
    counts = labels["counts"].values()
    return labels["field"], f"{sum(counts):,} labels of {len(counts):,} classes"


_FIELD = "{field}"
_OF_RECIPE = ("anchors", "template", "normalize_text")
_OF_LABELS = ("label", "posterior")
_READS_ROWS = ("labels", "fit_share", "fit_rows", "projection", "labels_from", "id_column")
_ONLY_FOR = {
    "pca": ("recipe", "anchors", "normalize_text", "center"),
    "isoclip": ("projectors", "k_top", "k_bottom"),
    "label": ("label_weight", *_READS_ROWS),
    "posterior": ("force", "known", *_READS_ROWS),
    "words": ("words", "word_weight", *_READS_ROWS),
    "centered": ("projection",),
}
_ALSO_FOR = {
    "text_vectors": ("pca", "centered", *_OF_LABELS, "words"),
    "template": ("pca", "words"),
    "components": ("pca", "label"),
    "model": ("pca", "isoclip", "words"),
    "made_by": ("pca", "isoclip", *_OF_LABELS, "words"),
}
"""Options of several methods."""


def _check_usage(context: click.Context, options: dict[str, Any]) -> None:
    """Refuse options of other methods, and two sources or none."""
    method = options["method"]
    for name, methods in _methods().items():
        if method not in methods and _is_typed(context, name):
            belongs = " or ".join(methods)
            raise click.UsageError(f"{_flag(name)} belongs to --method {belongs}, not to {method}")
    _check_place(context, options)
    _check_recipe(context, options["recipe"])
    if method == "centered":
        if options["collection"] is None:
            raise click.UsageError("--method centered needs a collection, whose mean it subtracts")
        return
    if method in (*_OF_LABELS, "words"):
        (_check_words if method == "words" else _check_rows)(options)
        return
    ready = "text_vectors" if method == "pca" else "projectors"
    if (options["model"] is None) == (options[ready] is None):
        raise click.UsageError(f"give either --model or {_flag(ready)}")
    if options[ready] is not None and options["made_by"] is None:
        raise click.UsageError(f"{_flag(ready)} needs --made-by, the model that made them")


def _methods() -> dict[str, list[str]]:
    """Return the methods of every option that is not for all of them."""
    found: dict[str, list[str]] = {name: list(methods) for name, methods in _ALSO_FOR.items()}
    for method, names in _ONLY_FOR.items():
        for name in names:
            found.setdefault(name, []).append(method)
    return found


def _check_place(context: click.Context, options: dict[str, Any]) -> None:
    """Refuse a collection that is not read, and a shard key without one."""
    reads = options["method"] in (*_OF_LABELS, "words", "centered")
    if options["collection"] is not None and not reads:
        raise click.UsageError(
            "a collection is for --labels, --words and --method centered; the mean of one is "
            "subtracted from what --model fits with --center COLLECTION"
        )
    if not reads and options["center"] is None and _is_typed(context, "shard_key"):
        raise click.UsageError(
            "--shard-key is for --center and --labels only: nothing else reads points"
        )


def _check_rows(options: dict[str, Any]) -> None:
    """Refuse a fit to labels without collection or field, and what contradicts itself."""
    if options["collection"] is None or not options["labels"]:
        raise click.UsageError(
            f"--method {options['method']} needs a collection and --labels, for example: "
            f"intramodal fit photos --labels category"
        )


def _check_words(options: dict[str, Any]) -> None:
    """Refuse words without what they are laid beside, and what contradicts itself."""
    if None in (options["collection"], options["words"], options["projection"]):
        raise click.UsageError(
            "--method words needs a collection, --words and --projection, for example: intramodal "
            "fit photos --words category --projection pca.safetensors --model MODEL"
        )
    if (options["model"] is None) == (options["text_vectors"] is None):
        raise click.UsageError("give either --model or --text-vectors, for the names of --words")
    if options["labels"] and (len(options["labels"]) > 1 or options["word_weight"] is not None):
        raise click.UsageError(
            "--labels names the one field on whose labels the weight of --words is chosen; leave "
            "out the others, and --word-weight"
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_recipe(context: click.Context, recipe: str | None) -> None:
    decided = [name for name in _OF_RECIPE if recipe and _is_typed(context, name)]
    if decided:
        raise click.UsageError(
            f"--recipe {recipe} already decides on names, templates and scaling; leave out "
            f"--{decided[0].replace('_', '-')}, or the recipe"
        )


def _is_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _basis(result: dict[str, Any]) -> str:
    if "center" in result:
        return f"the mean of {result['center']['n']:,} points"
    if result["n_anchors"] is None:
        return f"projectors without top {result['k_top']}, bottom {result['k_bottom']}"
    return f"{result['n_anchors']:,} anchors of rank {result['rank']}"
