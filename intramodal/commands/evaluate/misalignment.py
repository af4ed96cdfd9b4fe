"""``intramodal evaluate misalignment``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.columns import Column, column, wide
from intramodal.commands.next_steps import note_run, say_made
from intramodal.commands.options import (
    COUNT,
    FILE,
    SEED,
    as_list,
    label_file_options,
    labels_option,
    model_options,
    preference,
    report_option,
    shard_key_option,
    template_option,
    where_option,
    wide_option,
)
from intramodal.commands.session import (
    NOTHING_KEPT,
    JobCommand,
    Session,
    Workspace,
    figures_kept,
    session_options,
)
from intramodal.errors import InputError


@click.command(
    "misalignment",
    cls=JobCommand,
    common=("labels", "texts", "projection", "report"),
    kept=NOTHING_KEPT,
    job="evaluation.misalignment:measure_misalignment",
)
@click.argument(
    "targets",
    nargs=-1,
    required=True,
    metavar="COLLECTION[:VECTOR]...",
    callback=as_list,
    shell_complete=completion.collections,
)
@labels_option
@label_file_options
@where_option
@preference(
    "--texts", is_flag=True, help="Also compare with the class names, encoded by each model."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    callback=as_list,
    help="Model that encodes the texts; default: the model that made the vector. Give it once, or "
    "once per collection.",
)
@click.option(
    "--text-vectors",
    type=FILE,
    multiple=True,
    callback=as_list,
    help="Precomputed text embeddings (not projected), one row per class in alphabetical order, "
    "instead of --model. Give it once, or once per collection.",
)
@template_option
@click.option(
    "--projection",
    "projections",
    type=FILE,
    multiple=True,
    callback=as_list,
    help="Projection file; adds `raw` after this projection, without and with the mean adjusted, "
    "and projects the texts for a vector that it made. Repeatable.",
)
@preference("--bins", type=COUNT, help="Number of bins per histogram.")
@preference(
    "--max-pairs",
    type=click.IntRange(2),
    help="Number of pairs to sample, with standard errors; default: all pairs.",
)
@preference("--seed", type=SEED, help="Random seed of the sampled pairs.")
@preference(
    "--map/--no-map",
    "with_map",
    default=None,
    help="Also compute the exact mAP, as `evaluate retrieval` does; slow for large collections.",
)
@report_option
@model_options
@shard_key_option
@wide_option
@session_options
def misalignment(
    session: Session,
    targets: tuple[str, ...],
    labels: list[str],
    projections: tuple[Path, ...],
    report: Path | None,
    **options: Any,
) -> None:
    """Compare cosines of same-class and other-class pairs, and of images and texts.

    VECTOR is by default the encoder's own. The paper finds that these indicators are alike for
    models with and without an image-image loss; rely on the mAP shown next to them.

    \b
    intramodal evaluate misalignment clip siglip siglip2 dino --labels category --texts
    intramodal evaluate misalignment photos --labels category --projection pca.safetensors
    """
    from intramodal.commands.target import Target
    from intramodal.evaluation.misalignment import measure_misalignment, require_used
    from intramodal.files import check_place
    from intramodal.projection.projection import Projection

    check_place(report)
    maps = [Projection.load(path) for path in projections]
    names = ("where", "template", "bins", "max_pairs", "with_map", "seed")
    knobs = {name: options[name] for name in names}
    with session.open() as at:
        opened = [Target.open(at, text) for text in targets]
        measured = _measured(opened, options)
        require_used(maps, measured)
        collections = dict.fromkeys(target.collection.name for target in opened)
        stated = {**session.stated(), "collection": ", ".join(collections)}
        with at.ledger.run(
            "evaluate-misalignment", parameters=stated, seed=options["seed"]
        ) as run:
            found = measure_misalignment(
                measured,
                fields=labels,
                projections=maps,
                with_bands=report is not None,
                run=run,
                **knobs,
            )
            if report is not None:
                _write_report(found.to_dict(), at, run, report)
    session.answer(found.to_dict(), partial(_print_misalignment, report=report))


def _measured(targets: list[Any], options: dict[str, Any]) -> list[Any]:
    """Return every target with the texts that it is compared with, if any are asked for."""
    from intramodal.commands.target import TextSource
    from intramodal.evaluation.misalignment import VectorOf

    models, files = options["models"], options["text_vectors"]
    if not (options["texts"] or models or files):
        return [VectorOf(target.collection, target.vector) for target in targets]
    models = _spread(models, len(targets), "--model")
    files = _spread(files, len(targets), "--text-vectors")
    on = (options["device"], options["precision"])
    return [
        VectorOf(target.collection, target.vector, TextSource(target, model, file, *on))
        for target, model, file in zip(targets, models, files, strict=True)
    ]


def _spread(given: tuple[Any, ...], n: int, option: str) -> list[Any]:
    """Return one value a target: the single one for all, or as many as there are."""
    if len(given) > 1 and len(given) != n:
        raise InputError(
            f"{option} is given {len(given)} times for {n} collections; give it once, or once "
            f"for each in the same order"
        )
    return list(given) * n if len(given) == 1 else list(given) or [None] * n


def _write_report(result: dict[str, Any], at: Workspace, run: Any, report: Path) -> None:
    from intramodal.reports.pages import MisalignmentPage
    from intramodal.reports.report import render_report

    command = " ".join(at.ledger.get(str(run.id)).command)
    with figures_kept(run, "runs show"):
        render_report(MisalignmentPage(result, command), report)


_BY_CLASS: dict[str, Column] = {
    "map": column("mAP>"),
    "auc": column("AUC>"),
    "overlap": column("overlap>"),
    "d_prime": wide("d'>"),
    "same_mean": wide("same class>"),
    "other_mean": wide("other class>"),
}


_BY_MODALITY: dict[str, Column] = {
    "gap": column("gap>"),
    "overlap": wide("I-I/T-I overlap>"),
    "image_mean": wide("image-image>"),
    "text_mean": wide("text-image>"),
}


def _print_misalignment(result: dict[str, Any], report: Path | None) -> None:
    from intramodal.commands.printing import (
        note_held_out,
        note_where,
        print_table,
        say_label_evidence,
    )

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
    figures = [*_BY_CLASS.values(), *beside.values()]
    columns = [*map(column, ("collection", "vector", "field")), *figures]
    title = "all pairs"
    if result["max_pairs"] is not None:
        title = f"at most {result['max_pairs']:,} pairs, ± standard errors of their draw"
    print_table(columns, rows, title=title)
    say_label_evidence((row["field"], row["label_evidence"]) for row in result["rows"])
    note_where(result)
    note_held_out(result)
    if report is not None:
        say_made("report", report)
    note_run(result)


def _with_error(row: dict[str, Any] | None, name: str) -> str:
    from intramodal.commands.printing import number

    if row is None:
        return number(None)
    error = row["standard_errors"].get(name)
    return number(row[name], 3) + (f" ± {error:.3f}" if error is not None else "")
