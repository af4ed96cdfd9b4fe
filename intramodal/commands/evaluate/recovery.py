"""``intramodal evaluate recovery``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.next_steps import note_run, say_made
from intramodal.commands.options import (
    COUNT,
    LIST,
    SEED,
    anchors_option,
    label_file_options,
    model_options,
    preference,
    projected_option,
    report_option,
    shard_key_option,
    template_option,
    text_options,
    where_option,
    whole_numbers,
)
from intramodal.commands.printing import note, note_where, number, print_table, say
from intramodal.commands.session import (
    NOTHING_KEPT,
    JobCommand,
    Session,
    Workspace,
    figures_kept,
    session_options,
)


@click.command(
    "recovery",
    cls=JobCommand,
    common=("model", "text-vectors", "anchors", "report"),
    kept=NOTHING_KEPT,
    job="evaluation.recovery:recovery_curve",
    settings="projection.anchors:load_anchors",
)
@click.argument("target", metavar="COLLECTION[:VECTOR]", shell_complete=completion.collections)
@label_file_options
@where_option
@text_options("anchor")
@anchors_option
@template_option
@projected_option
@preference(
    "--sizes",
    type=LIST,
    callback=whole_numbers,
    help="Numbers of anchors, comma-separated; default: fractions of the dimensions, and all.",
)
@preference(
    "--subsets",
    type=COUNT,
    help="Number of random orders of the anchors; each gives nested subsets.",
)
@preference("--pairs", type=click.IntRange(2), help="Number of image pairs that are drawn.")
@preference("--seed", type=SEED, help="Random seed of the drawn images, pairs and anchors.")
@report_option
@model_options
@shard_key_option
@session_options
def recovery(session: Session, target: str, report: Path | None, **options: Any) -> None:
    """Recover image-image similarities from image-text ones, by number of anchors.

    \b
    intramodal evaluate recovery photos
    intramodal evaluate recovery photos --text-vectors T.npy --sizes 64,128,256,512,1000
    """
    from intramodal.commands.target import Target, TextSource
    from intramodal.evaluation.recovery import recovery_curve
    from intramodal.files import check_place
    from intramodal.projection.anchors import load_anchors

    check_place(report)
    with session.open() as at:
        photos = Target.open(at, target)
        stated = {**session.stated(), "collection": photos.collection.name}
        with at.ledger.run("evaluate-recovery", parameters=stated, seed=options["seed"]) as run:
            source = [options[name] for name in ("model", "text_vectors", "device", "precision")]
            found = recovery_curve(
                photos.collection,
                texts=TextSource(photos, *source),
                vector=photos.vector,
                where=options["where"],
                anchors=load_anchors(options["anchors"], options["template"]),
                projection=_projection(photos, options["projection"]),
                sizes=options["sizes"],
                subsets=options["subsets"],
                pairs=options["pairs"],
                seed=options["seed"],
                run=run,
            )
            if report is not None:
                _write_report(found.to_dict(), at, run, report)
    session.answer(found.to_dict(), partial(_print_recovery, report=report))


def _projection(photos: Any, path: Path | None) -> Any:
    if path is None or not photos.is_projected:
        return None
    from intramodal.projection.projection import Projection

    return Projection.load(path)


def _write_report(result: dict[str, Any], at: Workspace, run: Any, report: Path) -> None:
    from intramodal.reports.pages import RecoveryPage
    from intramodal.reports.report import render_report

    command = " ".join(at.ledger.get(str(run.id)).command)
    with figures_kept(run, "runs show"):
        render_report(RecoveryPage(result, command), report)


def _print_recovery(result: dict[str, Any], report: Path | None) -> None:
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
    say(result["without_anchors"]["sentence"])
    note_where(result)
    if result["n_zero"]:
        note(f"left out: {result['n_zero']:,} points whose vector is zero")
    if report is not None:
        say_made("report", report)
    note_run(result)
