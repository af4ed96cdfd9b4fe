"""``intramodal export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.options import preference, shard_key_option
from intramodal.commands.outputs import Output
from intramodal.commands.printing import say
from intramodal.commands.session import JobCommand, Session, session_options


@click.command(
    "export",
    cls=JobCommand,
    common=("out", "vector"),
    kept="no file was written, and an earlier one is as it was; run the same command again to "
    "start over",
    job="ingest.vectors.export:export_vector",
)
@click.argument("collection", shell_complete=completion.collections)
@preference(
    "--vector",
    shell_complete=completion.vector,
    help="Named vector to export; default: the projection of the encoder's own vector, that "
    "itself where there is none.",
)
@click.option(
    "-o",
    "--out",
    type=Output("vectors"),
    required=True,
    help="File to write: .npy, .safetensors or .parquet.",
)
@shard_key_option
@session_options
def command(session: Session, collection: str, vector: str | None, out: Path) -> None:
    """Write a vector of all points to FILE.npy, and their ids to FILE.ids.csv.

    Rows are in id order: integers by value, then UUIDs. Points without the vector are left out
    and counted. FILE appears only when it is complete and has its ids.

    \b
    intramodal export photos --vector pca -o pca.npy
    """
    from intramodal.ingest.vectors.export import export_vector

    with session.open() as at:
        photos = at.collection(collection)
        if vector is not None:
            photos.vector_spec(vector)
        stated = {key: value for key, value in session.stated().items() if key != "runs"}
        with at.ledger.run("export", parameters=stated) as run:
            found = export_vector(photos, out, vector=vector, run=run)
    session.answer(found.to_dict(), _show)


def _show(result: dict[str, Any]) -> None:
    left_out = f", {result['missing']:,} points lack it" if result["missing"] else ""
    where = f"{result['out']} (ids: {result['ids']}{left_out})"
    say(f"{result['rows']:,} x {result['dim']} -> {where}")
