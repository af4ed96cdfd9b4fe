"""``intramodal evaluate misalignment``."""

from __future__ import annotations

from typing import Any

import click

from intramodal.commands.options import (
    FILE,
    json_option,
    labels_option,
    model_options,
    print_json,
    report_option,
    runs_option,
    store_option,
    template_option,
)


@click.command("misalignment")
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
@template_option
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
@report_option
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
    from intramodal.commands.printing import note, print_table

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
    from intramodal.commands.printing import number

    if row is None:
        return number(None)
    error = row["standard_errors"].get(name)
    return number(row[name], 3) + (f" ± {error:.3f}" if error is not None else "")
