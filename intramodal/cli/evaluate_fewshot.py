"""``intramodal evaluate fewshot`` and ``intramodal evaluate fewshot-text``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.cli.options import (
    LIST,
    comma_list,
    json_option,
    labels_option,
    least_option,
    model_options,
    names,
    print_json,
    runs_option,
    store_option,
    vectors_option,
    whole_numbers,
)

_SHOTS = click.option(
    "--shots",
    default="1,2,4,8,16",
    show_default=True,
    type=LIST,
    callback=whole_numbers,
    help="Labelled images a class.",
)
_SEED = click.option(
    "--seed", default=0, show_default=True, help="Of the draws; nested and paired."
)
_SPLIT = click.option(
    "--split",
    metavar="FIELD",
    help="Shots from FIELD=train, tests from FIELD=test; default: all that are no shots.",
)
_TEST_SHARE = click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Without --split: share of every class that is drawn once, and tested with all shots.",
)
_CLASSES = click.option("--classes", is_flag=True, help="Every class's accuracy in the JSON, too.")


@click.command("fewshot")
@click.argument("collection")
@vectors_option
@labels_option
@_SHOTS
@click.option(
    "--episodes", type=click.IntRange(1), default=50, show_default=True, help="Draws of the shots."
)
@_SEED
@click.option(
    "--classifiers",
    default="prototype,lda",
    show_default=True,
    type=LIST,
    callback=names,
    help="Comma-separated: prototype, lda.",
)
@_SPLIT
@_TEST_SHARE
@least_option
@_CLASSES
@store_option
@runs_option
@json_option
def fewshot(as_json: bool, runs_url: str, **options: Any) -> None:
    """Classify with few labelled pictures a class, without text.

    \b
    intramodal evaluate fewshot photos --labels category --shots 1,4,16
    """
    from intramodal.workflows.evaluate.fewshot import FewshotRequest, evaluate_shots

    result = evaluate_shots(FewshotRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    _print(result)


def _print(result: dict[str, Any]) -> None:
    from intramodal.cli.output import note, number, print_table

    rows = []
    for field, entry in result["fields"].items():
        for vector, classifiers in entry["vectors"].items():
            for classifier, shots in classifiers.items():
                for n_shots, row in shots.items():
                    low, high = row["interval"] or (None, None)
                    interval = f"[{number(low)}, {number(high)}]"
                    counts = (row["n_classes"], number(row["n_test"], 0))
                    accuracy = number(row["accuracy"])
                    rows.append((field, vector, classifier, n_shots, accuracy, interval, *counts))
    columns = ("field", "vector", "classifier", "shots>", "accuracy>", "95% interval>")
    title = f"{result['n_episodes']} episodes; intervals over their draw"
    print_table((*columns, "classes>", "tested>"), rows, title=title)
    note(f"run {result['run_id']}")


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
@_SHOTS
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
@_SEED
@_SPLIT
@_TEST_SHARE
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
@_CLASSES
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
    _print(result)
