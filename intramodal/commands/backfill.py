"""``intramodal backfill``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from intramodal.commands import completion
from intramodal.commands.next_steps import (
    NEIGHBOURS,
    Name,
    note_again,
    note_next,
    say_collection,
    say_made,
    typed,
    unused,
)
from intramodal.commands.options import (
    SEED,
    payload_filter,
    preference,
    shard_key_option,
    upload_options,
)
from intramodal.commands.printing import named, note, print_state, print_table, printable, say
from intramodal.commands.session import JobCommand, Session, Uploads, session_options
from intramodal.types import listed

QUANTIZATIONS = ("none", "scalar", "binary", "turbo")
DATATYPES = ("float32", "float16", "turbo4", "turbo8", "turbo16")
"""Those of `ingest.backfill.new_vector`, which is too slow to import for a help text."""

_MOST_SHOWN = 20
_ALONE = ("verify", "recompute", "rollback")
_STORED = ("on_disk", "quantize", "datatype")
_UNSUITABLE = {
    "verify": (
        *_STORED,
        *("new_collection", "made_by", "throttle", "batch_size", "wait", "yes", "dry_run"),
        *("upload_streams", "nodes"),
    ),
    "recompute": (*_STORED, "new_collection", "made_by", "wait", "yes", "seed", "nodes"),
    "rollback": (
        *_STORED,
        *("projection", "source", "new_collection", "made_by", "throttle", "batch_size"),
        *("wait", "seed", "upload_streams", "nodes"),
    ),
    "new_collection": ("yes",),
    "": (),
}
"""Options that say nothing beside another one; those of a backfill in place under ""."""


@click.command(
    "backfill",
    cls=JobCommand,
    common=("projection", "from", "to", "verify", "rollback", "dry-run"),
    kept="points that were written keep their vector; run the same command again to resume",
    job="ingest.backfill.in_place:backfill",
    settings="ingest.backfill.copy:copy_collection",
    renamed={"wait": "reindex"},
)
@click.argument("collection", shell_complete=completion.collections)
@click.option(
    "--projection",
    type=click.Path(path_type=Path),
    help="Projection file made by `fit`; required except with --rollback.",
)
@click.option(
    "--from",
    "source",
    shell_complete=completion.vector,
    help="Vector to project; '' if it has no name; default: the encoder's own, as the "
    "collection's metadata say.",
)
@click.option(
    "--to",
    "vector",
    shell_complete=completion.vector,
    help="Vector to fill; default: the one that this projection is filling or has filled, else "
    "the projection's own name, e.g. pca.",
)
@click.option(
    "--made-by",
    help="Model that made the --from vector; adopts the collection first (see `adopt`).",
)
@click.option(
    "--new-collection",
    metavar="NAME",
    help="Copy everything into a new collection that also has the vector, then switch aliases; "
    "for servers before 1.18.",
)
@click.option(
    "--verify",
    type=click.IntRange(1),
    metavar="N",
    help="Recompute N points and compare, without changing anything; exit code 1 if some are "
    "stale.",
)
@click.option(
    "--recompute",
    multiple=True,
    metavar="FILTER",
    callback=payload_filter,
    help="Recompute points that match FIELD=VALUE[,VALUE...] or id=ID[,ID...], or `all`; "
    "repeatable.",
)
@click.option(
    "--rollback",
    is_flag=True,
    help="Undo the backfill: remove the vector, or switch aliases back from a copy.",
)
@click.option(
    "--yes",
    is_flag=True,
    help="With --rollback: also if the copy holds points that the original lacks, or the server "
    "is below 1.19. Otherwise: use a vector name again that such a server has removed.",
)
@preference("--batch-size", type=click.IntRange(1), help="Number of points per request.")
@preference(
    "--throttle",
    type=click.FloatRange(min=0, min_open=True),
    help="Maximum number of points per second.",
)
@preference(
    "--wait/--no-wait",
    default=None,
    help="Wait until the index is rebuilt, if there was one; for a server's at most ten minutes "
    "(as long as it takes where a copy's aliases are to be switched).",
)
@click.option(
    "--on-disk/--in-memory",
    default=None,
    help="Whether searches read the new vector from disk; default: as the --from vector.",
)
@click.option(
    "--quantize",
    type=click.Choice(QUANTIZATIONS),
    help="Quantization of the new vector for searches; default: as the --from vector, but never "
    "product.",
)
@click.option(
    "--datatype",
    type=click.Choice(DATATYPES),
    help="Type of the new vector's numbers; default: that of the --from vector if it is a float.",
)
@preference(
    "--seed",
    type=SEED,
    help="Random seed of the sample that is compared, by --verify or after a copy.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the plan with its costs without changing anything."
)
@upload_options
@shard_key_option
@session_options
@click.pass_context
def command(ctx: click.Context, /, session: Session, collection: str, **options: Any) -> None:
    """Add the projected vector to a collection, computed from its stored vectors.

    Nothing is encoded again, and other vectors and payload stay as they are. The same command
    resumes after an interruption.

    \b
    intramodal backfill photos --projection pca.safetensors
    intramodal backfill photos --projection pca.safetensors --verify 1000
    intramodal backfill photos --projection pca.safetensors --recompute label=cat,dog
    intramodal backfill photos --projection pca.safetensors --new-collection photos_v2
    intramodal backfill photos --rollback
    """
    from intramodal.projection.posterior import load_map

    _check_combination(ctx, options)
    where = {"vector": options["vector"], "source": options["source"]}
    if options["rollback"]:
        done = _rolled_back(session, collection, options)
    else:
        job = _planned if options["dry_run"] else _backfilled
        job = job if options["verify"] is None else _verified
        projection = load_map(options["projection"])
        done = job(session, collection, projection, where, options)
    session.answer(done, partial(_print, options=options))
    if done.get("stale") or _all_failed(done):
        ctx.exit(1)


def _all_failed(done: dict[str, Any]) -> bool:
    """Return whether a backfill in place had points to project, and could project none."""
    counts = [done.get(name, 0) for name in ("projected", "skipped", "copied")]
    return done.get("unprojectable", 0) > 0 and not any(counts)


def _backfilled(
    session: Session, name: str, projection: Any, where: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    from intramodal.ingest.backfill.points import log_projection
    from intramodal.store.default_vectors import own_vector
    from intramodal.store.model_check import warn_of_wrong_model

    uploads = Uploads(options["upload_streams"], options["nodes"])
    with session.open(uploads=uploads) as at:
        photos = _opened(at.store, name)
        if options["made_by"] is not None:
            from intramodal.ingest.adopt import declare_model

            declare_model(photos, own_vector(photos, options["source"]), options["made_by"])
        with at.ledger.run("backfill", parameters=_recorded(session)) as run:
            log_projection(run, projection)
            check = warn_of_wrong_model(photos, projection, options["source"])
            done = _run(photos, projection, where, options, run)
    return {**done.to_dict(), "model_check": check.to_dict(), "run_id": run.id}


def _run(
    photos: Any, projection: Any, where: dict[str, Any], options: dict[str, Any], run: Any
) -> Any:
    """Call the job: in place, for some points anew, or into a copy."""
    from intramodal.ingest.backfill.copy import copy_collection
    from intramodal.ingest.backfill.in_place import backfill, recompute

    pace = {"batch_size": options["batch_size"], "throttle": options["throttle"], "run": run}
    if options["recompute"]:
        return recompute(photos, projection, where=options["recompute"], **where, **pace)
    pace |= {"reindex": options["wait"], **_stored(options)}
    new = options["new_collection"]
    if new is None:
        return backfill(photos, projection, yes=options["yes"], **where, **pace)
    seed = options["seed"]
    return copy_collection(photos, projection, new_collection=new, seed=seed, **where, **pace)


def _planned(
    session: Session, name: str, projection: Any, where: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    from intramodal.store.default_vectors import own_vector
    from intramodal.store.model_check import warn_of_wrong_model

    with session.open_store() as store:
        photos = _opened(store, name)
        if options["made_by"] is not None:
            from intramodal.ingest.adopt import declared
            from intramodal.model_names import check_dimension, warn_of_custom_name

            # In this object only: a plan changes nothing in the store.
            origin = declared(options["made_by"])
            source = own_vector(photos, options["source"])
            check_dimension(origin.encoder, repr(source), photos.vector_spec(source).size)
            warn_of_custom_name(origin.encoder)
            photos.manifest = photos.manifest.with_vector(source, origin)
        plan = _plan(photos, projection, where, options)
        check = warn_of_wrong_model(photos, projection, options["source"])
    return {**plan.to_dict(), "model_check": check.to_dict()}


def _plan(photos: Any, projection: Any, where: dict[str, Any], options: dict[str, Any]) -> Any:
    from intramodal.ingest.backfill.plan import plan_backfill, plan_copy, plan_recompute

    if options["recompute"]:
        return plan_recompute(photos, projection, where=options["recompute"], **where)
    new = options["new_collection"]
    if new is None:
        return plan_backfill(photos, projection, yes=options["yes"], **where, **_stored(options))
    return plan_copy(photos, projection, new_collection=new, **where, **_stored(options))


def _stored(options: dict[str, Any]) -> dict[str, Any]:
    """Return how the new vector is wanted to be stored."""
    return {name: options[name] for name in _STORED}


def _verified(
    session: Session, name: str, projection: Any, where: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    from intramodal.ingest.backfill.verify import verify_vector

    # Not recorded as a run: it writes nothing, and must work with a read-only key.
    with session.open_store() as store:
        n, seed = options["verify"], options["seed"]
        return verify_vector(_opened(store, name), projection, n=n, seed=seed, **where).to_dict()


def _rolled_back(session: Session, name: str, options: dict[str, Any]) -> dict[str, Any]:
    from intramodal.ingest.backfill.rollback import rollback_vector

    if options["dry_run"]:
        with session.open_store() as store:
            photos = _opened(store, name)
            return rollback_vector(photos, vector=options["vector"], dry_run=True).to_dict()
    with session.open() as at:
        photos = _opened(at.store, name)
        with at.ledger.run("backfill", parameters=_recorded(session)) as run:
            done = rollback_vector(photos, vector=options["vector"], yes=options["yes"])
    return {**done.to_dict(), "run_id": run.id}


def _opened(store: Any, name: str) -> Any:
    """Open a collection under its own name: what changes it must not follow a moved alias."""
    from intramodal.store.collection import ImageCollection
    from intramodal.store.own_name import under_own_name

    return under_own_name(ImageCollection.open(store, name))


def _recorded(session: Session) -> dict[str, str]:
    unset = (None, (), False)
    return {key: str(value) for key, value in session.options.items() if value not in unset}


def _check_combination(ctx: click.Context, options: dict[str, Any]) -> None:
    modes = [mode for mode in _ALONE if options[mode]]
    if len(modes) > 1:
        raise click.UsageError(f"give one of {_flags(modes)}")
    mode = modes[0] if modes else "new_collection" if options["new_collection"] else ""
    # What a configuration file sets for all commands must not be in the way of this one.
    typed = [
        name
        for name in _UNSUITABLE[mode]
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if typed:
        raise click.UsageError(f"{_flags([mode])} takes no {_flags(typed)}")
    if mode != "rollback" and options["projection"] is None:
        raise click.UsageError("Missing option '--projection'.")


def _flags(names: list[str]) -> str:
    spelled = {"source": "from", "nodes": "node"}
    return " and ".join(f"--{spelled.get(name, name).replace('_', '-')}" for name in names)


def _print(result: dict[str, Any], options: dict[str, Any]) -> None:
    failures = result.get("failures", [])
    for failure in failures[:_MOST_SHOWN]:
        note(printable(f"{failure['stage']}: {failure['item']}: {failure['reason']}"))
    if len(failures) > _MOST_SHOWN:
        more = len(failures) - _MOST_SHOWN
        note(f"... and {more:,} more; see intramodal runs show {result['run_id']}")
    print_table(("", ""), [(key.replace("_", " "), _cell(result[key])) for key in _shown(result)])
    check = result.get("model_check", {})
    for sentence in (*result.get("notes", ()), check.get("says"), result.get("sentence")):
        if sentence and "stale" in result:
            print_state("stale" if result["stale"] else "ok", sentence)
        elif sentence:
            say(sentence)
    _print_next(result, options)


def _print_next(result: dict[str, Any], options: dict[str, Any]) -> None:
    """Say where the vector is, and how to look at it; after a dry run, how to do it."""
    name = Name(result.get("new_collection") or result["collection"])
    same = ("--projection", str(options["projection"]), *typed(source="--from", vector="--to"))
    if options["dry_run"]:
        note_again(without="--dry-run")
    elif "stale" in result:
        if result["stale"]:
            note_next("backfill", name, *same, "--recompute", "all")
        elif result["checked"] > NEIGHBOURS:
            _note_compare(name, result)
    elif "projected" in result and not _all_failed(result):
        say_made("vector", named(result["vector"]))
        say_collection(name)
        note_next("backfill", name, *same, "--verify", "1000")
        if sum(result.get(count, 0) for count in ("projected", "skipped")) > NEIGHBOURS:
            _note_compare(name, result)


def _note_compare(name: Name, result: dict[str, Any]) -> None:
    pair = ",".join(listed(result[which]) for which in ("source", "vector"))
    note_next("compare", name, "--vectors", pair, "-o", unused("judge.html"))


def _shown(result: dict[str, Any]) -> list[str]:
    hidden = ("failures", "notes", "sentence", "is_plan", "model_check", "replicas", "reason")
    return [key for key, value in result.items() if key not in hidden and value not in (None, [])]


def _cell(value: object) -> str:
    if isinstance(value, list):
        shown = [f"{item:,}" if isinstance(item, int) else str(item) for item in value]
        return ", ".join(shown[:_MOST_SHOWN]) + (", ..." if len(shown) > _MOST_SHOWN else "")
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value) or "''"
