"""``intramodal evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.cli.evaluate_fewshot import fewshot, fewshot_text
from intramodal.cli.evaluate_oti import oti
from intramodal.cli.evaluate_search import index, text
from intramodal.cli.options import (
    LIST,
    cluster_option,
    json_option,
    labels_option,
    least_option,
    max_queries_option,
    model_options,
    print_json,
    runs_option,
    sample_option,
    sides_options,
    store_option,
    vectors_option,
    whole_numbers,
)

FILE = click.Path(path_type=Path, dir_okay=False)

_REPORT = click.option(
    "-o", "--report", type=FILE, help="Also write tables and plots as one page: FILE.html"
)
_TEMPLATE = click.option(
    "--template", default="a photo of a {}", show_default=True, help="{} is the class name."
)


@click.group("evaluate")
def command() -> None:
    """Measure vectors: retrieval, few-shot accuracy, misalignment, recovery."""


command.add_command(fewshot)
command.add_command(fewshot_text)
command.add_command(index)
command.add_command(oti)
command.add_command(text)


@command.command("retrieval")
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
    from intramodal.cli.evaluated import interval, note_left_out, note_populations
    from intramodal.cli.output import note, number, print_table

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


@command.command("misalignment")
@click.argument("targets", nargs=-1, required=True, metavar="COLLECTION[:VECTOR]...")
@labels_option
@click.option(
    "--texts", is_flag=True, help="Compare with the class names, too, encoded by each model."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Model for the texts; default: as each manifest says. Once, or once a collection.",
)
@click.option(
    "--text-vectors",
    type=FILE,
    multiple=True,
    help="Ready text embeddings, not projected, instead. Once, or once a collection.",
)
@_TEMPLATE
@click.option(
    "--projection",
    "projections",
    type=FILE,
    multiple=True,
    help="Also show `raw` after this projection, and with the mean adjusted; projects the texts "
    "for a vector that it made.",
)
@click.option(
    "--bins", type=click.IntRange(1), default=80, show_default=True, help="Of the histograms."
)
@click.option(
    "--max-pairs",
    type=click.IntRange(2),
    help="Sample so many pairs, with standard errors; default all pairs.",
)
@click.option("--seed", default=0, show_default=True, help="Of the sample.")
@click.option(
    "--map/--no-map",
    "with_map",
    default=True,
    show_default=True,
    help="Also rank exactly, as evaluate retrieval does; takes longest on large collections.",
)
@_REPORT
@model_options
@store_option
@runs_option
@json_option
def misalignment(as_json: bool, runs_url: str, **options: Any) -> None:
    """Compare cosines of same- and other-class pairs, and of images and texts, side by side.

    VECTOR is `raw` unless it is named. The paper finds these indicators alike in models with and
    without an image-image loss; mAP is shown beside them, and decides.

    \b
    intramodal evaluate misalignment clip siglip siglip2 dino --labels category --texts
    intramodal evaluate misalignment photos --labels category --projection pca.safetensors
    """
    from intramodal.workflows.evaluate.misalignment import (
        MisalignmentRequest,
        measure_collections,
    )

    lists = ("targets", "models", "text_vectors", "projections")
    options |= {name: list(options[name]) for name in lists}
    result = measure_collections(MisalignmentRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    _print_misalignment(result)


_BY_CLASS = {
    "map": "mAP>",
    "auc": "AUC>",
    "overlap": "overlap>",
    "d_prime": "d'>",
    "same_mean": "same class>",
    "other_mean": "other class>",
}
_BY_MODALITY = {
    "gap": "gap>",
    "overlap": "I-I/T-I overlap>",
    "image_mean": "image-image>",
    "text_mean": "text-image>",
}


def _print_misalignment(result: dict[str, Any]) -> None:
    from intramodal.cli.output import note, print_table

    # Without texts there is no second modality, and no column for it.
    beside = _BY_MODALITY if any(row["modality"] for row in result["rows"]) else {}
    rows = [
        (
            *(row["collection"], row["vector"], row["field"]),
            *(_with_error(row, name) for name in _BY_CLASS),
            *(_with_error(row["modality"], name) for name in beside),
        )
        for row in result["rows"]
    ]
    columns = ("collection", "vector", "field", *_BY_CLASS.values(), *beside.values())
    title = "all pairs"
    if result["max_pairs"] is not None:
        title = f"at most {result['max_pairs']:,} pairs, ± standard errors of their draw"
    print_table(columns, rows, title=title)
    note(f"run {result['run_id']}")


def _with_error(row: dict[str, Any] | None, name: str) -> str:
    from intramodal.cli.output import number

    if row is None:
        return number(None)
    error = row["standard_errors"].get(name)
    return number(row[name], 3) + (f" ± {error:.3f}" if error is not None else "")


@command.command("recovery")
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
@_TEMPLATE
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
@_REPORT
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
    from intramodal.cli.output import note, number, print_table

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
