"""``intramodal adopt``."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.next_steps import (
    Name,
    note_again,
    note_fit,
    note_next,
    note_undeclared,
    say_collection,
    typed,
)
from intramodal.commands.options import FILE, model_options
from intramodal.commands.printing import named, say
from intramodal.commands.session import JobCommand, Session, session_options


@click.command(
    "adopt",
    cls=JobCommand,
    common=("vector", "made-by", "pictures", "projection", "shard"),
    job="ingest.adopt:adopt_collection",
)
@click.argument("collection", shell_complete=completion.collections)
@click.option(
    "--vector",
    shell_complete=completion.vector,
    help="Name of the vector; '' if it has no name; default: the one that no projection has made.",
)
@click.option("--made-by", help="Model that made the vector; may be left out with --shard.")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that the payload's `path` is relative to; a sample of the picture files is "
    "encoded and compared with the vectors.",
)
@click.option(
    "--projection",
    type=FILE,
    help="Projection file of that model; its texts are compared with the vectors.",
)
@click.option(
    "--shard",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Shard of Qdrant Edge that another program made: copied into the store first, as a new "
    "collection of that name. It is never opened where it is.",
)
@click.option("--move", is_flag=True, help="With --shard: rename the folder instead of copying.")
@click.option("--dry-run", is_flag=True, help="With --shard: show what would be done; do nothing.")
@model_options
@session_options
def command(  # noqa: PLR0913  a command has as many options as it has
    session: Session,
    collection: str,
    shard: Path | None,
    move: bool,
    dry_run: bool,
    projection: Path | None,
    device: str | None,
    precision: str | None,
    **knobs: Any,
) -> None:
    """Declare which model made the vectors of a collection that another program created.

    The dimension is checked for known models, and a sample of the vectors if --pictures or
    --projection is given. Writes the manifest into the collection's metadata; vectors and payload
    stay as they are.

    \b
    intramodal adopt products --vector image --made-by open_clip:ViT-B-32:openai
    intramodal adopt products --vector image --made-by demo --pictures ~/pictures
    intramodal adopt --shard ./edge_shard products --made-by open_clip:ViT-B-32:openai
    """
    from intramodal.ingest.encoders.registry import load_encoder
    from intramodal.projection.posterior import load_map

    _check_usage(knobs, shard, move=move, dry_run=dry_run)
    if shard is not None and dry_run:
        session.answer(_planned(session, shard, collection), _print_plan)
        return
    fitted = load_map(projection) if projection else None
    knobs |= {
        "projection": fitted,
        "encoder": partial(load_encoder, device=device, precision=precision),
    }
    if shard is None:
        _adopt_collection(session, collection, knobs)
        return
    _adopt_shard(session, shard, {"collection": collection, "move": move, **knobs})


def _check_usage(knobs: dict[str, Any], shard: Path | None, *, move: bool, dry_run: bool) -> None:
    if shard is None:
        if move or dry_run:
            name = "--move" if move else "--dry-run"
            raise click.UsageError(f"{name} is for --shard only; give both, or leave it out")
        if knobs["made_by"] is None:
            raise click.UsageError("Missing option '--made-by'.")
    elif knobs["made_by"] is None and knobs["pictures"] is not None:
        raise click.UsageError("--pictures needs --made-by, the model that encodes them")


def _adopt_collection(session: Session, collection: str, knobs: dict[str, Any]) -> None:
    from intramodal.ingest.adopt import adopt_collection

    with session.open() as at:
        photos = at.collection(collection)
        with at.ledger.run("adopt", parameters=session.stated()) as run:
            found = adopt_collection(photos, run=run, **knobs)
    session.answer({**found.to_dict(), "collection": collection, "run_id": run.id}, _print)


def _planned(session: Session, shard: Path, collection: str) -> dict[str, Any]:
    from intramodal.ingest.shard import plan_shard

    with ExitStack() as stack:
        store = stack.enter_context(session.open_store()) if session.has_store() else None
        return plan_shard(shard, store, collection=collection).to_dict()


def _adopt_shard(session: Session, shard: Path, knobs: dict[str, Any]) -> None:
    from intramodal.ingest.shard import adopt_shard, plan_shard

    plan_shard(shard, collection=knobs["collection"])  # refuses before a store is made
    with (
        session.open(creates=True) as at,
        at.ledger.run("adopt", parameters=session.stated()) as run,
    ):
        found = adopt_shard(shard, at.store, run=run, **knobs)
    session.answer({**found.to_dict(), "run_id": run.id}, _print_shard)


def _print_plan(plan: dict[str, Any]) -> None:
    vectors = ", ".join(f"{named(v)} ({of['size']})" for v, of in plan["vectors"].items())
    say(
        f"{plan['folder']} -> {plan['collection']}: vectors {vectors or 'none'}; a copy takes "
        f"{plan['bytes'] / 1e6:,.1f} MB"
    )
    note_again(without="--dry-run")


def _print_shard(result: dict[str, Any]) -> None:
    done = "moved" if result["is_moved"] else "copied"
    say(
        f"{result['folder']} {done} -> {result['collection']}: {result['points']:,} points, "
        f"vectors {', '.join(map(named, result['vectors'])) or 'none'}"
    )
    say_collection(result["collection"])
    if result["adopted"] is not None:
        _print(result["adopted"])
    else:
        note_undeclared(result["collection"], result["vectors"])


def _print(result: dict[str, Any]) -> None:
    say(
        f"{result['collection']}: vector {result['vector']!r} ({result['size']} dimensions) made "
        f"by {result['made_by']}"
    )
    if result["pictures"]:
        seen = result["pictures"]
        say(f"{seen['n']} images encoded again: median cosine {seen['median']:.4f}")
    if result["model_check"]:
        say(result["model_check"]["says"])
    fitted = click.get_current_context().params["projection"]
    if fitted is None:
        note_fit(result["made_by"])
    else:
        words = ("--projection", str(fitted), *typed(vector="--from"))
        note_next("backfill", Name(result["collection"]), *words)
