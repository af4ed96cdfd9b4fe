"""``intramodal ingest``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.columns import column, id_column
from intramodal.commands.next_steps import (
    NEIGHBOURS,
    Name,
    line_from,
    note_again,
    note_fit,
    note_next,
    say_collection,
    unused,
)
from intramodal.commands.options import COUNT, SEED, model_options, preference, upload_options
from intramodal.commands.printing import note, print_table, printable, say
from intramodal.commands.session import (
    Session,
    SessionCommand,
    Uploads,
    Workspace,
    session_options,
)
from intramodal.errors import InputError

_COUNTS = ("written", "skipped", "updated", "projected", "failed", "pruned")
_KEPT = ("written", "skipped", "updated", "projected")
"""Counts of which at least one is not zero unless everything failed."""

_ALWAYS_SHOWN = ("written", "skipped", "failed")
"""Counts in the table even where they are zero."""

_MOST_SHOWN = 20
_LONGEST_PATH = 4096

PICTURES_DEFAULTS = {
    **dict.fromkeys(
        (
            *("projection", "dataset", "label_from", "split_file", "ground_truth"),
            *("workers", "decode_mb", "max_failures"),
            *("shards", "replicas", "write_consistency", "upload_streams", "shard_key"),
            *("augment_seed", "device", "precision"),
        )
    ),
    "batch_size": 32,
}
VECTORS_DEFAULTS = {"batch_size": 1000}
"""What a run records of options that were not given."""

_PICTURES_ONLY = (
    *("augment", "augment_seed", "ground_truth", "crop", "decode_mb", "text_images"),
    *("label_from", "split_file", "workers", "prune", "dry_run", "yes", "device", "precision"),
)
_VECTORS_ONLY = ("metadata", "id_column", "vector", "tensor", "vector_column")
_ONLY_VECTORS = (".npy", ".safetensors")
_MAY_BE_VECTORS = (*_ONLY_VECTORS, ".parquet")
_FILE = click.Path(path_type=Path)


@click.command(
    "ingest",
    cls=SessionCommand,
    common=("collection", "model", "made-by", "metadata", "label-from", "projection"),
    kept="what was written is kept; run the same command again to resume",
)
@click.argument("source")
@click.option(
    "--collection",
    shell_complete=completion.collections,
    required=True,
    help="Name of the collection; created if it does not exist.",
)
@click.option("--model", help="Encoder of the images, e.g. open_clip:ViT-B-32:openai or demo.")
@click.option(
    "--made-by", help="Model that made the precomputed vectors in SOURCE, instead of --model."
)
@click.option(
    "--metadata",
    type=_FILE,
    help="With --made-by: CSV, TSV, JSONL or Parquet file with one row per vector.",
)
@click.option(
    "--id-column",
    help="With --made-by: metadata column that holds the ids; default: `id`. Integer and UUID ids "
    "are kept; other ids are hashed to a UUID. Without metadata, ids are row numbers.",
)
@click.option(
    "--vector",
    help="With --made-by: name of the vector in the collection; default: the encoder's own, as "
    "the collection's metadata say, and raw in a new one.",
)
@click.option(
    "--tensor", help="With --made-by: tensor to read from a .safetensors file that holds several."
)
@click.option(
    "--vector-column",
    help="With --made-by: vector column of a .parquet file; default: vector or embedding.",
)
@click.option(
    "--projection",
    type=_FILE,
    help="Projection file made by `fit`; writes the projected vector along with the original one.",
)
@click.option(
    "--augment",
    is_flag=True,
    help="Also encode one augmented view of each image (random crop of half the area and more, "
    "flip), as few-shot papers do with shots, into raw_augmented and, with --projection, "
    "pca_augmented; see `evaluate fewshot --shots-from`.",
)
@click.option(
    "--augment-seed",
    type=SEED,
    help="With --augment: random seed of the views, with the id of the image's point; default: 0.",
)
@click.option("--dataset", help="Namespace of the point ids; default: the name of the collection.")
@click.option(
    "--label-from",
    help="Labels from the relative path: `parent` (the name of the parent folder) or a regular "
    "expression with named groups, e.g. '(?P<label>[^/]+)/(?P<shop>[^/]+)/'.",
)
@click.option(
    "--split-file",
    type=_FILE,
    help="CoOp split file (split_zhou_*.json) of the folder SOURCE: reads only the images that it "
    "lists, with their `split` (train, val, test), `label` and `class`.",
)
@click.option(
    "--ground-truth",
    type=_FILE,
    help="Ground truth of revisited Oxford or Paris (gnd_roxford5k.pkl) of the folder SOURCE, its "
    "jpg/: reads only the images that it names, with their `split` (gallery, query) and `name`.",
)
@click.option(
    "--crop",
    is_flag=True,
    help="With --ground-truth: crop each query to its box before encoding, as the published "
    "benchmark does; the paper's code does not.",
)
@preference(
    "--batch-size",
    type=click.IntRange(1),
    help="Number of images encoded at once (default: 32) or vectors written at once (default: "
    "1000).",
)
@preference(
    "--workers",
    type=click.IntRange(0, 1024),
    help="Number of threads that read and decode; default: as many as keep up with the model.",
)
@click.option(
    "--decode-mb",
    type=click.IntRange(1),
    help="Memory for decoded images in all threads together, in MB; a larger image is decoded "
    "alone; default: a quarter of what is free, 256 to 2048.",
)
@click.option(
    "--text-images",
    is_flag=True,
    help="Also read image formats that hold pixels as text: XPM, XBM and ASCII PNM.",
)
@click.option(
    "--max-failures",
    type=click.IntRange(0),
    help="Number of images or vectors that may fail before the command stops; default: no limit.",
)
@click.option(
    "--prune",
    is_flag=True,
    help="Delete the points of the data set whose image is no longer in the source; deletes "
    "nothing if parts of the source could not be read.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="With --prune: list the paths of the points that would be deleted, without writing "
    "anything or loading a model.",
)
@click.option(
    "--yes",
    is_flag=True,
    help="With --prune: confirm that more than a tenth of the data set is deleted; not needed for "
    "10 points or fewer.",
)
@click.option("--shards", type=COUNT, help="Number of shards of a new collection on a server.")
@click.option(
    "--replicas",
    type=COUNT,
    help="Number of copies of each shard of a new collection on a server.",
)
@click.option(
    "--write-consistency",
    type=COUNT,
    help="Number of replicas that must confirm each write to a new collection.",
)
@click.option(
    "--into-shard",
    "shard_key",
    metavar="KEY",
    help="Write, skip and prune only points under this shard key of a collection with custom "
    "sharding. 7 is the number, '\"7\"' in quotes the text.",
)
@upload_options
@model_options
@session_options
@click.pass_context
def command(ctx: click.Context, /, session: Session, **options: Any) -> None:
    """Write images, or precomputed vectors, into a collection.

    With --model, SOURCE is a folder, a CSV / TSV / JSONL / Parquet list with a `path` column, tar
    shards (shard-{000..009}.tar), or `-` for paths on stdin.
    With --made-by, SOURCE is a .npy (2-D, floats), .safetensors or .parquet file of precomputed
    vectors. What is already stored is skipped, so the same command resumes after an interruption.

    \b
    intramodal ingest ~/photos --collection photos --model open_clip:ViT-B-32:openai
    intramodal ingest list.csv --collection shop --model demo --projection pca.safetensors
    intramodal ingest pets/ --split-file split_zhou_OxfordPets.json --collection pets --model demo
    intramodal ingest jpg/ --ground-truth gnd_roxford5k.pkl --collection oxford --model demo
    intramodal ingest X.npy --metadata meta.csv --id-column sku --collection shop --made-by demo
    """
    given = {
        name
        for name in options
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    is_vectors = _holds_vectors(options, given)
    _check_prune(options, given, vectors=is_vectors)
    if options["dry_run"]:
        session.answer(_planned(options, session), _print_plan)
        return
    ingested = _ingested_vectors if is_vectors else _ingested_images
    done = ingested(session, options)
    session.answer(done, partial(_print, options=options))
    if done["failed"] and not any(done[name] for name in _KEPT):
        ctx.exit(1)


def _holds_vectors(options: dict[str, Any], given: set[str]) -> bool:
    """Return whether ready vectors are given; refuse options that contradict each other."""
    model, made_by = options["model"], options["made_by"]
    if {"model", "made_by"} <= given or (made_by is None and model is None):
        raise click.UsageError(
            "give either --model, to encode images (`intramodal models list` names some), or "
            "--made-by, the model that made the ready vectors in SOURCE"
        )
    # An option on the command line wins over one from the environment or the configuration.
    is_vectors = "made_by" in given or (made_by is not None and "model" not in given)
    suffix = Path(options["source"]).suffix.lower()
    if not is_vectors and suffix in _ONLY_VECTORS:
        raise click.UsageError(
            f"{options['source']} holds ready vectors; give --made-by, the model that made them, "
            f"instead of --model"
        )
    if is_vectors and suffix not in _MAY_BE_VECTORS:
        raise click.UsageError(
            f"--made-by is for ready vectors in {', '.join(_MAY_BE_VECTORS)} files, not for "
            f"{options['source']}; images are encoded with --model"
        )
    _refuse_unused(given, suffix, has_metadata=options["metadata"] is not None, vectors=is_vectors)
    return is_vectors


def _refuse_unused(given: set[str], suffix: str, *, has_metadata: bool, vectors: bool) -> None:
    unused = sorted(given.intersection(_PICTURES_ONLY if vectors else _VECTORS_ONLY))
    if unused:
        which = "images (--model)" if vectors else "ready vectors (--made-by)"
        raise click.UsageError(f"{_spelled(unused[0])} is for {which} only; leave it out")
    for name, wanted in (("tensor", ".safetensors"), ("vector_column", ".parquet")):
        if name in given and suffix != wanted:
            raise click.UsageError(f"{_spelled(name)} is for {wanted} files only; leave it out")
    if "id_column" in given and not has_metadata and suffix != ".parquet":
        raise click.UsageError("--id-column names a column of --metadata; give that file too")


def _check_prune(options: dict[str, Any], given: set[str], *, vectors: bool) -> None:
    # Also where a configuration file sets it: a dry run that writes would be worse than none.
    if options["dry_run"] and (vectors or not options["prune"]):
        raise click.UsageError("--dry-run is for --prune only; give both, or leave it out")
    if "augment_seed" in given and not options["augment"]:
        raise click.UsageError("--augment-seed is for --augment only; give both, or leave it out")
    if "crop" in given and options["ground_truth"] is None:
        raise click.UsageError("--crop is for --ground-truth only; give both, or leave it out")
    if "yes" in given and not options["prune"]:
        raise click.UsageError("--yes is for --prune only; give both, or leave it out")


def _spelled(name: str) -> str:
    return "--" + name.replace("_", "-")


def _source(options: dict[str, Any]) -> Any:
    """Open the pictures, once all names are known to be good."""
    from intramodal.ingest.sources.base import check_dataset
    from intramodal.ingest.sources.formats import open_source
    from intramodal.model_names import parse_name
    from intramodal.store.checks import check_name

    parse_name(options["model"])
    check_name(options["collection"])
    dataset = options["dataset"]
    check_dataset(options["collection"] if dataset is None else dataset)
    names = ("label_from", "split_file", "ground_truth", "crop")
    return open_source(options["source"], **{name: options[name] for name in names})


def _planned(options: dict[str, Any], session: Session) -> dict[str, Any]:
    """Return what a prune would delete; loads no model and opens no runs database."""
    from intramodal.ingest.prune import plan_prune
    from intramodal.store.collection import ImageCollection

    source = _source(options)
    with session.open_store() as store:
        photos = ImageCollection.open(store, options["collection"])
        return plan_prune(source, photos, dataset=options["dataset"]).to_dict()


def _ingested_images(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """Encode pictures, once all that an existing store says has been checked.

    The store is opened for writing after the model is loaded: one that cannot be loaded leaves
    nothing behind.
    """
    from intramodal.ingest.encoders.registry import load_encoder
    from intramodal.ingest.pipeline import images_collection, ingest_images

    source, projection = _source(options), _projection(options)
    if session.has_store():
        with session.open(creates=True) as at:
            _check_before_loading(at, options, projection)
    encoder = load_encoder(
        options["model"], device=options["device"], precision=options["precision"]
    )
    names = ("dataset", "batch_size", "workers", "decode_mb", "max_failures", "prune", "yes")
    knobs = {name: options[name] for name in names if options[name] is not None}
    seed = options["augment_seed"]
    knobs["text_images"] = options["text_images"]
    views = {"augment": options["augment"]} | ({} if seed is None else {"augment_seed": seed})
    with session.open(creates=True, uploads=_uploads(options)) as at:
        stated = _recorded(session, PICTURES_DEFAULTS, but=(*_VECTORS_ONLY, "made_by"))
        with at.ledger.run("ingest", parameters=stated) as run:
            photos = images_collection(
                at.store,
                options["collection"],
                encoder=encoder,
                projection=projection,
                dataset=options["dataset"],
                options=_cluster(options),
                **views,
            )
            done = ingest_images(
                source, photos, encoder=encoder, projection=projection, run=run, **views, **knobs
            )
    return {**done.to_dict(), "run_id": run.id}


def _check_before_loading(at: Workspace, options: dict[str, Any], projection: Any) -> None:
    from intramodal.ingest.images import check_projection, check_view
    from intramodal.store.default_vectors import own_vector

    if at.store.exists(options["collection"]):
        photos = at.collection(options["collection"])
        check_projection(photos, photos.origin(own_vector(photos)), projection)
        if not options["augment"]:
            check_view(photos, None)


def _ingested_vectors(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """Write ready vectors, once files, ids, the projection and the collection are checked."""
    from intramodal.ingest.pipeline import ingest_vectors, log_declared, vectors_collection
    from intramodal.ingest.vectors.load import check_target
    from intramodal.store.checks import check_name

    name, made_by = options["collection"], options["made_by"]
    check_name(name)
    if not made_by.strip():
        raise InputError("the model that made the vectors has no name; give --made-by MODEL")
    ready, projection = _ready(options), _projection(options)
    vector, vectors = _written(None, ready, projection, options)  # before a store is made
    knobs = {n: options[n] for n in ("batch_size", "max_failures") if options[n] is not None}
    with session.open(creates=True, uploads=_uploads(options)) as at:
        if at.store.exists(name):
            known = at.collection(name)
            vector, vectors = _written(known, ready, projection, options)
            check_target(known, vector, vectors)
        stated = _recorded(session, VECTORS_DEFAULTS, but=(*_PICTURES_ONLY, "model"))
        stated["vector"] = vector
        with at.ledger.run("ingest", parameters=stated) as run:
            log_declared(run, made_by)  # also where the store then refuses the collection
            shop = vectors_collection(
                at.store,
                name,
                vectors,
                vector=vector,
                dataset=options["dataset"],
                options=_cluster(options),
            )
            done = ingest_vectors(
                ready,
                shop,
                vector=vector,
                made_by=made_by,
                projection=projection,
                run=run,
                **knobs,
            )
    return {**done.to_dict(), "ids": ready.ids_from, "run_id": run.id}


def _written(
    known: Any, ready: Any, projection: Any, options: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the vector of the rows, and all that are written, in a collection or in a new one."""
    from intramodal.ingest.adopt import declared
    from intramodal.ingest.vectors.load import check_vectors, vectors_of
    from intramodal.store.default_vectors import ingested_vectors

    vector, filled = ingested_vectors(known, projection, options["vector"])
    made_by = declared(options["made_by"])
    vectors = vectors_of(ready, made_by, vector, projection, filled=filled)
    check_vectors(vectors)
    return vector, vectors


def _ready(options: dict[str, Any]) -> Any:
    from intramodal.ingest.vectors.ready import open_ready

    dataset = options["dataset"]
    return open_ready(
        Path(options["source"]),
        dataset=options["collection"] if dataset is None else dataset,
        is_told=dataset is not None,
        table=options["metadata"],
        id_column=options["id_column"],
        tensor=options["tensor"],
        vector_column=options["vector_column"],
    )


def _projection(options: dict[str, Any]) -> Any:
    if options["projection"] is None:
        return None
    from intramodal.projection.posterior import load_map

    return load_map(options["projection"])


def _uploads(options: dict[str, Any]) -> Uploads:
    return Uploads(options["upload_streams"], options["nodes"])


def _cluster(options: dict[str, Any]) -> dict[str, int]:
    """Return the settings of a new collection on several nodes, as far as they are given."""
    given = {
        "shard_number": options["shards"],
        "replication_factor": options["replicas"],
        "write_consistency_factor": options["write_consistency"],
    }
    return {name: value for name, value in given.items() if value is not None}


def _recorded(
    session: Session, defaults: Mapping[str, Any], *, but: tuple[str, ...]
) -> dict[str, Any]:
    """Return the options of pictures, or of ready vectors, as a run records them."""
    kept = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in session.options.items()
        if key not in but and value is not None
    }
    return {**defaults, **kept}


def _print(result: dict[str, Any], options: dict[str, Any]) -> None:
    for failure in result["failures"][:_MOST_SHOWN]:
        note(printable(f"{failure['stage']}: {failure['item']}: {failure['reason']}"))
    if result["failed"] > _MOST_SHOWN:
        more = result["failed"] - _MOST_SHOWN
        note(f"... and {more:,} more; see intramodal runs show {result['run_id']}")
    if result.get("ids") == "row numbers":
        note("there is no metadata: ids are the row numbers, from 0")
    for sentence in result["notes"]:
        note(printable(sentence))
    for vector in result["stale"]:
        name = Name(result["collection"])
        line = line_from("backfill", name, "--projection", "FILE", "--to", vector)
        note(printable(f"computes stale codes anew (FILE is the map that made them): {line}"))
    counted = [name for name in _COUNTS if result[name] or name in _ALWAYS_SHOWN]
    heads = [column(f"{name}>") for name in (*counted, "seconds")]
    columns = [column("collection"), *heads, id_column("run")]
    counts = [f"{result[name]:,}" for name in counted]
    seconds = f"{result['seconds']:.1f}"
    print_table(columns, [[result["collection"], *counts, seconds, result["run_id"]]])
    _print_next(result, options)


def _print_next(result: dict[str, Any], options: dict[str, Any]) -> None:
    """Say where the points are, and how to get and to judge a projection of them."""
    if not any(result[name] for name in _KEPT):
        return
    say_collection(result["collection"])
    if options["projection"] is None:
        note_fit(options["made_by"] or options["model"])
    elif sum(result[name] for name in _KEPT[:-1]) > NEIGHBOURS:
        source = Path(options["source"])
        pictures = ("--pictures", str(source)) if source.is_dir() else ()
        words = ("compare", Name(result["collection"]), "-o", unused("judge.html"), *pictures)
        note_next(*words)


def _print_plan(plan: dict[str, Any]) -> None:
    for path in plan["would_prune"]:
        say(printable(path, limit=_LONGEST_PATH))
    n, listed = plan["n_would_prune"], len(plan["would_prune"])
    if n > listed:
        note(f"... and {n - listed:,} more")
    if plan["gap"] is not None:
        note(f"nothing would be deleted, as the source may hold more images: {plan['gap']}")
    next_step = "; give --yes to delete that many" if plan["needs_yes"] else ""
    say(
        f"{n:,} of {plan['n_dataset']:,} points of data set {plan['dataset']!r} would be deleted"
        f"{next_step}"
    )
    if n and plan["gap"] is None:
        note_again(*(("--yes",) if plan["needs_yes"] else ()), without="--dry-run")
