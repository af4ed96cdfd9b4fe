"""``intramodal evaluate fewshot-text``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands.evaluate.fewshot import print_accuracy
from intramodal.commands.options import (
    LIST,
    classes_option,
    comma_list,
    draws_option,
    json_option,
    labels_option,
    least_option,
    model_options,
    names,
    print_json,
    runs_option,
    shots_option,
    split_option,
    store_option,
    test_share_option,
)


@click.command("fewshot-text")
@click.argument("target", metavar="COLLECTION[:VECTOR]")
@labels_option
@click.option(
    "--methods",
    default="zero-shot,coder-zero-shot,tip-adapter,tip-x,coder,ape,lda+text,prototype+text",
    show_default=True,
    type=LIST,
    callback=names,
    help="Comma-separated; also prototype and lda, which use no text.",
)
@click.option(
    "--by",
    type=LIST,
    callback=comma_list,
    help="Vectors by which prototype, lda and their +text forms compare images; default VECTOR.",
)
@shots_option
@click.option(
    "--episodes", type=click.IntRange(1), default=10, show_default=True, help="Draws of the shots."
)
@click.option(
    "--validation",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="Further images a class that tune the constants; 0 takes the published ones.",
)
@click.option(
    "--preset",
    default="imagenet",
    show_default=True,
    help="Data set whose published constants and ranges are taken.",
)
@draws_option
@split_option
@test_share_option
@least_option
@click.option(
    "--template", default="a photo of a {}.", show_default=True, help="{} is the class name."
)
@click.option("--model", help="Encodes the texts; default: the model that made the vector.")
@click.option(
    "--text-vectors",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Ready embeddings instead, one a class in the order of their names.",
)
@click.option(
    "--class-texts",
    type=click.Path(path_type=Path, dir_okay=False),
    help='Further texts for CODER, as JSON: {class: [texts]}, or {class: {"names": [synonyms], '
    '"attributes": [texts]}}; classes without any have their name alone.',
)
@classes_option
@model_options
@store_option
@runs_option
@json_option
def fewshot_text(as_json: bool, runs_url: str, **options: Any) -> None:
    """Classify with few labelled pictures a class and the class names: the rival methods.

    \b
    intramodal evaluate fewshot-text photos --labels category --by raw,pca
    """
    from intramodal.workflows.evaluate.fewshot_text import (
        FewshotTextRequest,
        evaluate_with_texts,
    )

    result = evaluate_with_texts(FewshotTextRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    print_accuracy(result)
