"""``intramodal evaluate fewshot``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.next_steps import note_run
from intramodal.commands.options import (
    COUNT,
    LIST,
    classes_option,
    draws_option,
    label_file_options,
    labels_option,
    least_option,
    lengths_option,
    names,
    preference,
    protocol_option,
    shard_key_option,
    shots_from_option,
    shots_option,
    split_option,
    test_share_option,
    vectors_option,
    where_option,
    wide_option,
)
from intramodal.commands.session import NOTHING_KEPT, JobCommand, Session, session_options


@click.command(
    "fewshot",
    cls=JobCommand,
    common=("labels", "vectors", "shots", "split"),
    kept=NOTHING_KEPT,
    job="evaluation.fewshot:evaluate_fewshot",
)
@click.argument("collection", shell_complete=completion.collections)
@vectors_option
@labels_option
@label_file_options
@where_option
@shots_option
@protocol_option
@lengths_option
@shots_from_option
@preference(
    "--episodes",
    type=COUNT,
    help="Number of episodes, each with its own random draw of the shots; default: 50, with "
    "--protocol paper 3.",
)
@draws_option
@preference(
    "--classifiers",
    type=LIST,
    callback=names,
    help="Classifiers to evaluate, comma-separated: prototype, lda.",
)
@split_option
@test_share_option
@least_option
@classes_option
@shard_key_option
@wide_option
@session_options
def fewshot(
    session: Session,
    collection: str,
    labels: list[str],
    split: str | None,
    projections: list[Path],
    classes: bool,
    **knobs: Any,
) -> None:
    """Classify with a few labelled images per class, without text.

    \b
    intramodal evaluate fewshot photos --labels category --shots 1,4,16
    intramodal evaluate fewshot pets --labels class --split split --protocol paper --vectors raw
    """
    from intramodal.evaluation.fewshot import evaluate_fewshot
    from intramodal.evaluation.tasks import Sides
    from intramodal.projection.projection import Projection

    knobs["projections"] = [Projection.load(path) for path in projections]
    sides = Sides.parse(None, None, split)
    with session.open() as at:
        photos = at.collection(collection)
        stated = session.stated()
        with at.ledger.run("evaluate-fewshot", parameters=stated, seed=knobs["seed"]) as run:
            found = evaluate_fewshot(photos, fields=labels, sides=sides, run=run, **knobs)
    session.answer(found.to_dict(classes=classes), print_accuracy)


def print_accuracy(result: dict[str, Any]) -> None:
    """Print one row a field, vector, classifier and number of shots."""
    from intramodal.commands.columns import wide
    from intramodal.commands.printing import (
        interval,
        note,
        note_held_out,
        note_where,
        number,
        print_by_distance,
        print_table,
        say_label_evidence,
        with_interval,
    )

    rows = []
    for field, entry in result["fields"].items():
        for vector, classifiers in entry["vectors"].items():
            for classifier, shots in classifiers.items():
                for n_shots, row in shots.items():
                    ends = row["interval"]
                    figures = (with_interval(row["accuracy"], ends), interval(ends))
                    counts = (row["n_classes"], number(row["n_test"], 0))
                    rows.append((field, vector, classifier, n_shots, *figures, *counts))
    columns = ("field", "vector", "classifier", "shots>", "accuracy>", wide("95% interval>"))
    title = f"{result['n_episodes']} episodes; intervals over their draw"
    if result["protocol"] == "paper":
        title = f"protocol of the paper: mean of {result['n_episodes']} seeds, intervals over them"
    print_table((*columns, wide("classes>"), "tested>"), rows, title=title)
    for sentence in _empty(result):
        note(sentence)
    print_by_distance(result, ())
    for field, beside in result.get("label_evidence", {}).items():
        say_label_evidence((field, one) for one in beside.values())
    note_where(result)
    note_held_out(result)
    note_run(result)


def _empty(result: dict[str, Any]) -> list[str]:
    """Return, once per field and number of shots, why rows have no accuracy."""
    return list(
        dict.fromkeys(
            f"no accuracy of {field!r} with {n_shots} shots: {row['reason']}"
            for field, entry in result["fields"].items()
            for classifiers in entry["vectors"].values()
            for shots in classifiers.values()
            for n_shots, row in shots.items()
            if row["reason"] is not None
        )
    )
