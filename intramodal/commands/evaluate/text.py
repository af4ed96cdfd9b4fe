"""``intramodal evaluate text``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.next_steps import note_run
from intramodal.commands.options import (
    SEED,
    cluster_option,
    label_file_options,
    labels_option,
    model_options,
    preference,
    projected_option,
    shard_key_option,
    template_option,
    text_options,
    where_option,
    wide_option,
)
from intramodal.commands.session import NOTHING_KEPT, JobCommand, Session, session_options


@click.command(
    "text",
    cls=JobCommand,
    common=("labels", "model", "projection"),
    kept=NOTHING_KEPT,
    job="evaluation.text_retrieval:evaluate_text_retrieval",
)
@click.argument("target", metavar="COLLECTION[:VECTOR]", shell_complete=completion.collections)
@labels_option
@label_file_options
@where_option
@template_option
@text_options("class in alphabetical order")
@projected_option
@preference(
    "--min-class-size",
    type=click.IntRange(1),
    help="Minimum number of images per class; smaller classes are left out.",
)
@cluster_option
@preference("--seed", type=SEED, help="Random seed of the interval.")
@model_options
@shard_key_option
@wide_option
@session_options
def text(  # noqa: PLR0913  one an option
    session: Session,
    target: str,
    labels: list[str],
    model: str | None,
    text_vectors: Path | None,
    projection: Path | None,
    cluster: str | None,
    device: str | None,
    precision: str | None,
    **knobs: Any,
) -> None:
    """Use the name of each class as a text query for its images (text-image retrieval).

    \b
    intramodal evaluate text photos --labels category
    intramodal evaluate text photos:pca --labels category --projection pca.safetensors
    """
    from intramodal.commands.target import RequiredTexts, Target
    from intramodal.evaluation.resampling import Resampling
    from intramodal.evaluation.text_retrieval import evaluate_text_retrieval

    with session.open() as at:
        photos = Target.open(at, target)
        texts = RequiredTexts(photos, model, text_vectors, device, precision, projection)
        with at.ledger.run(
            "evaluate-text", parameters=session.stated(), seed=knobs["seed"]
        ) as run:
            found = evaluate_text_retrieval(
                photos.collection,
                texts=texts,
                vector=photos.vector,
                fields=labels,
                projection=texts.load_projection(),
                resampling=Resampling(cluster),
                run=run,
                **knobs,
            )
    session.answer(found.to_dict(), _show)


def _show(result: dict[str, Any]) -> None:
    from intramodal.commands.columns import wide
    from intramodal.commands.printing import (
        interval,
        note_left_out,
        note_populations,
        number,
        print_by_distance,
        print_table,
        with_interval,
    )

    figures = ("hit@1", "r_precision", "mrr")
    rows = [
        (
            *(field, result["vector"], with_interval(row["map"], row["interval"])),
            *(number(row[name]) for name in figures),
            *(f"{row['n_classes']:,}", f"{row['n_gallery']:,}", interval(row["interval"])),
        )
        for field, row in result["fields"].items()
    ]
    columns = ("field", "vector", "mAP>", "R@1>", wide("R-prec>"), wide("MRR>"), "classes>")
    more = ("gallery>", wide("95% interval>"))
    print_table((*columns, *more), rows, title="texts against images")
    by_field = result["fields"].items()
    print_by_distance(result, ((field, result["vector"], row) for field, row in by_field))
    note_populations(list(result["fields"].values()))
    note_left_out(result, {})
    note_run(result)
