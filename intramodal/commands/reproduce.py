"""``intramodal reproduce``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.columns import state_column
from intramodal.commands.next_steps import note_again, note_run, say_made
from intramodal.commands.options import (
    FILE,
    LIST,
    comma_list,
    model_options,
    preference,
    split_option,
)
from intramodal.commands.printing import note, number, print_table, say
from intramodal.commands.session import JobCommand, Session, session_options

_RECIPES = ("paper-text", "paper-table3", "paper-readme", "paper-fewshot")


@click.command(
    "reproduce",
    cls=JobCommand,
    common=("data", "models", "methods", "limit", "on", "label", "out", "dry-run"),
    kept="finished cells and what was ingested are kept; run the same command again to resume",
    job="paper.reproduce:reproduce",
    settings="paper.plan:plan_reproduction",
    renamed={"data": "root", "label": "labels"},
)
@click.argument("table")
@click.option(
    "--data",
    metavar="ROOT",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that holds the data sets, each in the layout that docs/paper.md describes.",
)
@click.option(
    "--datasets",
    type=LIST,
    callback=comma_list,
    help="Data sets, comma-separated; default: those of the table.",
)
@click.option(
    "--models",
    type=LIST,
    callback=comma_list,
    help="Models, comma-separated, each by name or NAME=ENCODER for weights of your own, e.g. "
    "slip_b16=slip:slip_base_100ep.pt; default: those of the table.",
)
@click.option(
    "--methods",
    type=LIST,
    callback=comma_list,
    help="Methods, comma-separated, e.g. original,pca,isoclip; default: those of the table.",
)
@preference(
    "--recipe",
    type=click.Choice(_RECIPES),
    help="Recipe that projections are fitted by; default: the one the authors used for the table.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="Number of images per class and split: a quick look, marked as such everywhere.",
)
@click.option(
    "--crop",
    is_flag=True,
    help="Crop the queries of ROxford and RParis to their boxes, as their benchmark does and the "
    "authors do not.",
)
@click.option(
    "--augment",
    is_flag=True,
    help="Take few-shot shots from one augmented view of each image, for CLIP, as the authors do.",
)
@click.option(
    "--on",
    shell_complete=completion.collections,
    metavar="COLLECTION",
    help="Measure this collection instead of the paper's data sets; needs --label.",
)
@preference(
    "--label",
    shell_complete=completion.fields,
    type=LIST,
    callback=comma_list,
    help="With --on: payload fields that hold the labels, comma-separated.",
)
@split_option
@click.option(
    "--vector",
    shell_complete=completion.vector,
    help="With --on: named vector of the encoder's own output; default: the one that no "
    "projection has made.",
)
@click.option(
    "--projection",
    type=FILE,
    help="Saved projection to take for PCA←, instead of fitting one by --recipe.",
)
@preference("--batch-size", type=click.IntRange(1), help="Number of images encoded at once.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reproduced"),
    show_default=True,
    help="Folder for the tables (.md, .tex, .csv, .json, .html) and for fitted projections.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only list the cells, what is missing on disk, and what encoding costs.",
)
@model_options
@session_options
def command(  # noqa: PLR0913  one an option
    session: Session,
    table: str,
    data: Path | None,
    on: str | None,
    label: list[str],
    projection: Path | None,
    out: Path,
    dry_run: bool,
    **knobs: Any,
) -> None:
    """Reproduce a table or figure of the paper, or the same on a collection of your own.

    TABLE is table1, table2, table3, figure2, figure5, figure6, bdd100k or recovery. Cells that
    are done are kept: the same command resumes.

    \b
    intramodal reproduce table3 --data datasets --models clip_b32 --dry-run
    intramodal reproduce table3 --data datasets --models clip_b32 --limit 5
    intramodal reproduce table2 --on photos --label category
    """
    from intramodal.paper.plan import plan_reproduction
    from intramodal.paper.reproduce import reproduce
    from intramodal.projection.projection import Projection

    if on is None and data is None:
        raise click.UsageError("give --data, the folder of the data sets, or --on COLLECTION")
    if on is not None and not label:
        raise click.UsageError("--on needs --label, the payload fields that hold the labels")
    encoding = {name: knobs.pop(name) for name in ("device", "precision", "batch_size")}
    if dry_run and on is None and not session.has_store():
        session = replace(session, store=":memory:", runs=":memory:")  # a look makes nothing
    with session.open(creates=on is None) as at:
        given = {
            "root": data,
            "work": out / "work",
            "on": at.collection(on) if on else None,
            "labels": label,
            "projection": Projection.load(projection) if projection else None,
            "ledger": at.ledger,
            **knobs,
        }
        plan = plan_reproduction(table, at.store, **given)
        if dry_run:
            session.answer(plan.to_dict(), _show_plan)
            return
        found = reproduce(plan, **encoding)
        command = shlex.join(at.ledger.get(str(found.run_id)).command)
    files = found.write(out, command=command)
    session.answer({**found.to_dict(), "files": [str(file) for file in files]}, _show)
    if found.n_failed:
        raise click.exceptions.Exit(1)


def _show(result: dict[str, Any]) -> None:
    for grid in result["tables"]:
        for line in (grid["banner"], grid["caption"]):
            if line:
                say(line)
        rows = [
            (" · ".join(row["head"]), name, *_places(cell, grid["decimals"]))
            for row in grid["rows"]
            for name, cell in row["places"].items()
        ]
        print_table(("row", "column", "ours>", "paper>", "difference>"), rows, title=grid["title"])
        for remark in grid["notes"]:
            note(remark)
    for file in result["files"]:
        say_made("written", file)
    if result["n_failed"]:
        note_again()  # what is done is kept
    note_run(result)


def _places(place: dict[str, Any], decimals: int) -> tuple[str, str, str]:
    ours = number(place["value"], decimals) + ("*" if place["state"] == "partial" else "")
    if place["state"] == "failed":
        ours = "failed"
    difference = number(place["difference"], decimals, sign=True)
    return ours, number(place["reference"], decimals), difference


def _show_plan(result: dict[str, Any]) -> None:
    n_done = sum(cell["state"] == "done" for cell in result["cells"])
    say(f"{result['title']}: {result['n_cells']} cells, {n_done} done")
    rows = [
        (
            one["dataset"],
            one["model"],
            "–" if one["n_images"] is None else f"{one['n_images']:,}",
            "–" if one["n_to_encode"] is None else f"{one['n_to_encode']:,}",
            f"{one['n_to_invert']:,}",
            "–" if one["seconds"] is None else f"{one['seconds'] / 60:,.0f} min",
        )
        for one in result["images"]
    ]
    counts = ("images>", "to encode>", "to invert>", "about>")
    print_table(("data set", "model", *counts), rows)
    cells = [
        (cell["dataset"], cell["model"], cell["experiment"], cell["method"], cell["state"])
        for cell in result["cells"]
    ]
    heads = ("data set", "model", "experiment", "method", state_column("state"))
    print_table(heads, cells, title="cells")
    missing = [one["missing"] for one in result["images"]]
    conditions = [f"{one['model']}: {one['condition']}" for one in result["images"]]
    told = [*missing, *(text for text in conditions if not text.endswith(": "))]
    for reason in dict.fromkeys(text for text in told if text):
        note(reason)
    if not any(missing):
        note_again(without="--dry-run")
