"""``intramodal export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.next_steps import say_made
from intramodal.commands.options import FILE, preference, shard_key_option
from intramodal.commands.outputs import Output
from intramodal.commands.session import JobCommand, Session, session_options


@click.command(
    "export",
    cls=JobCommand,
    common=("vector", "projection", "out"),
    kept="no file was written, and an earlier one is as it was; run the same command again to "
    "start over",
    job="ingest.vectors.export:export_vector",
    settings="projection.portable_map:export_projection",
)
@click.argument("collection", required=False, shell_complete=completion.collections)
@preference(
    "--vector",
    shell_complete=completion.vector,
    help="Named vector to export; default: the projection of the encoder's own vector, that "
    "itself where there is none.",
)
@click.option(
    "--projection",
    type=FILE,
    help="Projection file to export for programs that are not Python, in place of a collection.",
)
@click.option(
    "--normalize",
    is_flag=True,
    help="With --projection: scale projected vectors to unit length, for stores without cosine.",
)
@click.option(
    "-o",
    "--out",
    type=Output("vectors", "onnx", "json"),
    required=True,
    help="File to write: .npy, .safetensors or .parquet; with --projection .onnx or .json.",
)
@shard_key_option
@session_options
def command(session: Session, collection: str | None, **options: Any) -> None:
    """Write a vector of all points to FILE.npy, and their ids to FILE.ids.csv.

    Rows are in id order: integers by value, then UUIDs. Points without the vector are left out
    and counted. FILE appears only when it is complete and has its ids. With --projection the map
    itself is written, as ONNX or as JSON, for programs that are not Python.

    \b
    intramodal export photos --vector pca -o pca.npy
    intramodal export --projection pca.safetensors -o pca.onnx
    """
    if (collection is None) == (options["projection"] is None):
        raise click.UsageError("give either COLLECTION or --projection")
    if collection is None:
        _export_projection(session, options)
    elif options["normalize"]:
        raise click.UsageError("--normalize is for --projection only; leave it out")
    else:
        _export_vector(session, collection, options["vector"], options["out"])


def _export_vector(session: Session, collection: str, vector: str | None, out: Path) -> None:
    from intramodal.ingest.vectors.export import export_vector

    with session.open() as at:
        photos = at.collection(collection)
        if vector is not None:
            photos.vector_spec(vector)
        stated = session.stated(but=("runs", "projection"))
        with at.ledger.run("export", parameters=stated) as run:
            found = export_vector(photos, out, vector=vector, run=run)
    session.answer(found.to_dict(), _show)


def _export_projection(session: Session, options: dict[str, Any]) -> None:
    from intramodal.projection.portable_map import export_projection
    from intramodal.projection.projection import Projection

    projection = Projection.load(options["projection"])
    with (
        session.open_ledger() as ledger,
        ledger.run("export", parameters=session.stated(but=("runs", "store", "vector"))) as run,
    ):
        found = export_projection(projection, options["out"], normalize=options["normalize"])
        run.log_fingerprint(
            "projection", projection.method, projection.fingerprint, projection.recipe
        )
    session.answer({**found.to_dict(), "run_id": run.id}, _show_map)


def _show_map(result: dict[str, Any]) -> None:
    shape = f"{result['dim_in']} > {result['dim_out']}"
    say_made("map", f"{result['out']} ({result['method']}, {shape})")


def _show(result: dict[str, Any]) -> None:
    left_out = f", {result['missing']:,} points lack it" if result["missing"] else ""
    shape = f"{result['rows']:,} x {result['dim']}"
    say_made("vectors", f"{result['out']} ({shape}{left_out})")
    say_made("ids", result["ids"])
