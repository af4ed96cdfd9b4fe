"""``intramodal evaluate retrieval``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intramodal.commands import completion
from intramodal.commands.next_steps import note_run
from intramodal.commands.options import (
    LIST,
    SEED,
    cluster_option,
    label_file_options,
    least_option,
    max_queries_option,
    optional_labels_option,
    preference,
    query_side_of,
    query_side_options,
    sample_option,
    shard_key_option,
    sides_options,
    vectors_option,
    where_option,
    whole_numbers,
    wide_option,
)
from intramodal.commands.session import NOTHING_KEPT, JobCommand, Session, session_options

if TYPE_CHECKING:
    from intramodal.evaluation.tasks import Sides

_SIDE = ("query_side", "rerank")
_BY_LABELS = ("labels", "min_class_size", "ties", "sample", "max_queries", "device", *_SIDE)
_REVISITED = ("ground_truth", "name_field")
"""Options of one protocol alone."""


@click.command(
    "retrieval",
    cls=JobCommand,
    common=("labels", "vectors", "split", "where"),
    kept=NOTHING_KEPT,
    job="evaluation.retrieval:evaluate_retrieval",
    settings="evaluation.revisited:evaluate_revisited",
)
@click.argument("collection", shell_complete=completion.collections)
@vectors_option
@optional_labels_option
@preference(
    "--protocol",
    type=click.Choice(["labels", "revisited"]),
    help="labels (default): relevant is what shares a label; revisited: as revisited Oxford and "
    "Paris, with --ground-truth in place of --labels.",
)
@click.option(
    "--ground-truth",
    type=click.Path(path_type=Path),
    help="Protocol revisited: pickle or JSON with imlist, qimlist and gnd, e.g. "
    "gnd_roxford5k.pkl, or the judgments that `judge` writes.",
)
@preference(
    "--name-field",
    shell_complete=completion.field,
    metavar="FIELD",
    help="Protocol revisited: payload field with the image's file name or path, or id.",
)
@label_file_options
@where_option
@sides_options
@query_side_options
@least_option
@preference(
    "--ties",
    type=click.Choice(["expected", "sklearn", "best", "worst", "id"]),
    help="How equal scores are ranked: mean over all orders (expected), as scikit-learn does, "
    "best or worst case, or by id.",
)
@preference(
    "--ks",
    type=LIST,
    callback=whole_numbers,
    help="Cut-offs of recall@k, precision@k, hit@k and ndcg@k, comma-separated (hit@1 is R@1); "
    "protocol revisited: of mP@k.",
)
@preference(
    "--classes",
    is_flag=True,
    help="Also include the mean AP of each class in the JSON; protocol revisited: each query's.",
)
@cluster_option
@sample_option
@max_queries_option
@preference(
    "--seed", type=SEED, help="Random seed of the interval, and of drawn points and queries."
)
@preference("--device", help="Device that ranks, e.g. cuda; default: the CPU, with numba.")
@shard_key_option
@wide_option
@session_options
@click.pass_context
def retrieval(  # noqa: PLR0913  one an option
    ctx: click.Context,
    /,
    session: Session,
    collection: str,
    queries: str | None,
    gallery: str | None,
    split: str | None,
    classes: bool,
    protocol: str | None,
    **knobs: Any,
) -> None:
    """Rank the full gallery exactly, for each image or for a separate set of queries.

    \b
    intramodal evaluate retrieval photos --labels category,season
    intramodal evaluate retrieval photos --vectors raw,pca,isoclip --labels category
    intramodal evaluate retrieval photos --labels category --split split
    intramodal evaluate retrieval oxford --protocol revisited --ground-truth gnd_roxford5k.pkl
    """
    from intramodal.evaluation.tasks import Sides

    _check_protocol(ctx, knobs, protocol)
    sides = Sides.parse(queries, gallery, split)
    if protocol == "revisited":
        result = _revisited(session, collection, sides, knobs, classes=classes)
        session.answer(result, _show_revisited)
        return
    result = _by_labels(session, collection, sides, knobs, classes=classes)
    session.answer(result, lambda found: _show(found, knobs["ks"]))


def _check_protocol(ctx: click.Context, knobs: dict[str, Any], protocol: str | None) -> None:
    """Raise `click.UsageError` for options of the other protocol, and for what is missing."""
    is_revisited = protocol == "revisited"
    source = click.core.ParameterSource.COMMANDLINE
    for name in _BY_LABELS if is_revisited else _REVISITED:
        if ctx.get_parameter_source(name) is source:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"{option} does not apply to the revisited protocol, where the ground truth says "
                f"what is relevant; leave it out"
                if is_revisited
                else f"{option} is for the revisited protocol; add --protocol revisited, or leave "
                f"it out"
            )
    if is_revisited and knobs["ground_truth"] is None:
        raise click.UsageError(
            "the revisited protocol needs --ground-truth, such as gnd_roxford5k.pkl; give it"
        )
    if not is_revisited and knobs["labels"] is None:
        raise click.UsageError(
            "give --labels, the payload fields that say what is relevant, or --protocol revisited"
        )


def _by_labels(
    session: Session, collection: str, sides: Sides, knobs: dict[str, Any], *, classes: bool
) -> dict[str, Any]:
    from intramodal.evaluation.resampling import Resampling
    from intramodal.evaluation.retrieval import evaluate_retrieval

    own = {name: knobs[name] for name in knobs if name not in ("labels", "cluster", *_REVISITED)}
    own |= {"query_side": query_side_of(knobs)}
    with session.open() as at:
        photos = at.collection(collection)
        stated = session.stated(but=_REVISITED)
        with at.ledger.run("evaluate-retrieval", parameters=stated, seed=knobs["seed"]) as run:
            found = evaluate_retrieval(
                photos,
                fields=knobs["labels"],
                sides=sides,
                resampling=Resampling(knobs["cluster"]),
                run=run,
                **own,
            )
    return found.to_dict(classes=classes)


def _revisited(
    session: Session, collection: str, sides: Sides, knobs: dict[str, Any], *, classes: bool
) -> dict[str, Any]:
    from intramodal.evaluation.resampling import Resampling
    from intramodal.evaluation.revisited import evaluate_revisited
    from intramodal.ground_truth import read_ground_truth

    truth = read_ground_truth(knobs["ground_truth"])
    own = {name: knobs[name] for name in ("vectors", "name_field", "where", "ks", "seed")}
    with session.open() as at:
        photos = at.collection(collection)
        stated = session.stated(but=_BY_LABELS)
        stated |= {"ground_truth_fingerprint": truth.fingerprint}
        with at.ledger.run("evaluate-retrieval", parameters=stated, seed=knobs["seed"]) as run:
            found = evaluate_revisited(
                photos,
                ground_truth=truth,
                sides=sides,
                resampling=Resampling(knobs["cluster"]),
                run=run,
                **own,
            )
    return found.to_dict(classes=classes)


def _show(result: dict[str, Any], ks: Sequence[int]) -> None:
    from intramodal.commands.columns import Column, wide
    from intramodal.commands.printing import (
        interval,
        note_left_out,
        note_populations,
        number,
        print_by_distance,
        print_table,
        say_label_evidence,
        with_interval,
    )

    k = max(ks, default=None)
    heads: dict[str, str | Column] = {
        **({f"precision@{k}": f"precision@{k}>"} if k else {}),
        **({"hit@1": wide("R@1>")} if 1 in ks else {}),
        **{"r_precision": wide("R-prec>"), "ndcg": wide("nDCG>"), "mrr": wide("MRR>")},
    }
    rows = [
        (
            *(field, vector, with_interval(figures["map"], figures["interval"])),
            *(number(figures[name]) for name in heads),
            *(f"{entry['n_queries']:,}", interval(figures["interval"])),
            *(f"{figures['tie_width']:.1e}", f"{entry['n_gallery']:,}"),
            f"{entry['n_without_positives']:,}",
        )
        for field, entry in result["fields"].items()
        for vector, figures in entry["vectors"].items()
    ]
    more = ("95% interval>", "tie width>", "gallery>", "without positives>")
    shown: tuple[str | Column, ...] = ("mAP>", *heads.values(), "queries>", *map(wide, more))
    print_table(("field", "vector", *shown), rows, title=result["protocol"])
    vectors = [
        (field, vector, figures)
        for field, entry in result["fields"].items()
        for vector, figures in entry["vectors"].items()
    ]
    print_by_distance(result, vectors)
    say_label_evidence((field, row.get("label_evidence")) for field, *_, row in vectors)
    note_populations([figures for *_, figures in vectors])
    note_left_out(result, result["fields"])
    note_run(result)


def _show_revisited(result: dict[str, Any]) -> None:
    from intramodal.commands.columns import column, wide
    from intramodal.commands.printing import (
        interval,
        note,
        note_held_out,
        note_populations,
        note_where,
        number,
        print_by_distance,
        print_table,
        say_label_evidence,
        with_interval,
    )
    from intramodal.ground_truth import DIFFICULTIES

    vectors = [
        (difficulty, vector, figures)
        for difficulty, entry in result["fields"].items()
        for vector, figures in entry["vectors"].items()
    ]
    at_k = [name for name in vectors[0][2] if name.startswith("mP@")]
    rows = [
        (
            *(difficulty, vector, with_interval(figures["map"], figures["interval"])),
            *(number(figures[name]) for name in at_k),
            interval(figures["interval"]),
        )
        for difficulty, vector, figures in vectors
    ]
    heads = [column(f"{name}>") for name in at_k]
    columns = [*map(column, ("protocol", "vector", "mAP>")), *heads, wide("95% interval>")]
    entry = next(iter(result["fields"].values()))
    n_queries = entry["n_queries"] + entry["n_without_positives"]
    title = f"revisited: {n_queries:,} queries, gallery of {entry['n_gallery']:,}"
    print_table(columns, rows, title=f"{title}, ties {result['ties']}")
    print_by_distance(result, vectors)
    say_label_evidence((name, row["label_evidence"]) for name, *_, row in vectors)
    note_populations([figures for *_, figures in vectors])
    note_where(result)
    note_held_out(result)
    for difficulty, entry in result["fields"].items():
        if entry["n_without_positives"]:
            note(
                f"left out of {difficulty}: {entry['n_without_positives']:,} queries without a "
                f"relevant image"
            )
    for difficulty in DIFFICULTIES:
        if difficulty not in result["fields"]:
            note(f"left out: {difficulty}, where no query has a relevant image")
    if result["n_unnamed"]:
        note(f"left out: {result['n_unnamed']:,} points that the ground truth does not name")
    if result["n_incomplete"]:
        note(f"left out: {result['n_incomplete']:,} points lack one of the vectors")
    if result["n_cropped"] is not None:
        crop = "cropped to their boxes" if result["n_cropped"] else "whole images, not cropped"
        note(f"queries: {crop}")
    note_run(result)
