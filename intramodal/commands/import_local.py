"""``intramodal import-local``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from intramodal.commands.next_steps import note_again, note_points, say_collection
from intramodal.commands.options import as_list, preference
from intramodal.commands.printing import named, note, print_table, printable
from intramodal.commands.session import JobCommand, Session, Workspace, session_options


@click.command(
    "import-local",
    cls=JobCommand,
    common=("collection", "dry-run"),
    job="ingest.import_local:import_local",
    renamed={"names": "collections"},
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--collection",
    "names",
    multiple=True,
    callback=as_list,
    metavar="NAME",
    help="Collection to import; default: all. Repeatable.",
)
@preference("--batch-size", type=click.IntRange(1), help="Points per request, at most.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be imported, and what not; write nothing."
)
@session_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    session: Session,
    folder: Path,
    names: list[str],
    batch_size: int,
    dry_run: bool,
) -> None:
    """Stream the collections of qdrant-client's local mode into the store.

    FOLDER is what QdrantClient(path=...) was given; it is only read, and no client may have it
    open. Ids, vectors, payload, metadata and aliases keep their names; sparse vectors and
    multivectors are listed and left out. Points that the store has are compared and left as they
    are, so that the same command resumes after an interruption.

    \b
    intramodal import-local ./qdrant_data --dry-run
    intramodal import-local ./qdrant_data --collection products
    """
    from intramodal.ingest.import_local import import_local
    from intramodal.store.local_mode import LocalMode

    if dry_run:
        session.answer(_planned(session, folder, names), _print_plan)
        return
    LocalMode(folder)  # refuses another directory before a store is made
    with session.open(creates=True) as at:
        with at.ledger.run("import-local", parameters=session.stated()) as run:
            done = import_local(
                folder, at.store, collections=names or None, batch_size=batch_size, run=run
            )
        session.answer({**done.to_dict(), "run_id": run.id}, partial(_print, at=at))
    if done.failed and not any(one.written or one.skipped for one in done.collections):
        ctx.exit(1)


def _planned(session: Session, folder: Path, names: list[str]) -> dict[str, Any]:
    from intramodal.ingest.import_local import plan_import_local

    with ExitStack() as stack:
        store = stack.enter_context(session.open_store()) if session.has_store() else None
        plan = plan_import_local(folder, store, collections=names or None)
    return {"folder": str(folder), "collections": [one.to_dict() for one in plan]}


def _print_plan(plan: Mapping[str, Any]) -> None:
    rows = [
        (
            one["collection"],
            f"{one['points']:,}",
            ", ".join(f"{named(v)} ({of['size']})" for v, of in one["vectors"].items()),
            one["problem"] or ("resume" if one["is_there"] else "import"),
        )
        for one in plan["collections"]
    ]
    print_table(("collection", "points>", "vectors", "what happens"), rows)
    _note_left_out(plan)
    if not any(one["problem"] for one in plan["collections"]):
        note_again(without="--dry-run")


def _print(result: Mapping[str, Any], at: Workspace) -> None:
    rows = [
        (one["collection"], f"{one['written']:,}", f"{one['skipped']:,}", f"{one['differing']:,}")
        for one in result["collections"]
    ]
    print_table(("collection", "written>", "already there>", "of them different>"), rows)
    _note_left_out(result)
    for text in result["notes"]:
        note(text)
    for failure in result["failures"][:_MOST_SHOWN]:
        note(printable(f"{failure['item']}: {failure['reason']}"))
    if result["failed"] > _MOST_SHOWN:
        note(f"and {result['failed'] - _MOST_SHOWN:,} more (intramodal runs show)")
    imported = [one["collection"] for one in result["collections"]]
    for name in imported:
        say_collection(name)
    for name in imported:
        note_points(at.collection(name), name)


_MOST_SHOWN = 20


def _note_left_out(result: Mapping[str, Any]) -> None:
    for one in result["collections"]:
        for name, what in one["left_out"].items():
            note(f"not imported: {name!r} of {one['collection']!r} is {what}")
