"""``intramodal evaluate fewshot``."""

from __future__ import annotations

from typing import Any

import click

from intramodal.commands.options import (
    LIST,
    classes_option,
    draws_option,
    json_option,
    labels_option,
    least_option,
    names,
    print_json,
    runs_option,
    shots_option,
    split_option,
    store_option,
    test_share_option,
    vectors_option,
)


@click.command("fewshot")
@click.argument("collection")
@vectors_option
@labels_option
@shots_option
@click.option(
    "--episodes", type=click.IntRange(1), default=50, show_default=True, help="Draws of the shots."
)
@draws_option
@click.option(
    "--classifiers",
    default="prototype,lda",
    show_default=True,
    type=LIST,
    callback=names,
    help="Comma-separated: prototype, lda.",
)
@split_option
@test_share_option
@least_option
@classes_option
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
    print_accuracy(result)


def print_accuracy(result: dict[str, Any]) -> None:
    """Print one row a field, vector, classifier and number of shots."""
    from intramodal.commands.printing import note, number, print_table

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
