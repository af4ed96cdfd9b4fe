"""``intramodal ingest``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.cli.options import (
    json_option,
    model_options,
    print_json,
    runs_option,
    store_option,
)

_COUNTS = ("written", "skipped", "updated", "failed", "pruned")
_MOST_SHOWN = 20


@click.command("ingest")
@click.argument("source")
@click.option("--collection", required=True, help="Name of the collection; made if absent.")
@click.option(
    "--model", required=True, help="Encoder, for example open_clip:ViT-B-32:openai or demo."
)
@click.option(
    "--projection",
    type=click.Path(path_type=Path),
    help="Projection file; its vector is written beside `raw` in the same upsert.",
)
@click.option("--dataset", help="Namespace of the point ids; default: the collection's name.")
@click.option(
    "--label-from",
    help="`parent` (name of the parent folder) or a regular expression over the relative path "
    "with named groups, for example '(?P<label>[^/]+)/(?P<shop>[^/]+)/'.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Pictures."
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    help="Threads that read and decode; default as many as keep up with the model.",
)
@click.option(
    "--max-failures",
    type=click.IntRange(0),
    help="Stop when more pictures have failed; default never.",
)
@click.option(
    "--prune", is_flag=True, help="Delete the data set's points whose picture has left the source."
)
@model_options
@store_option
@runs_option
@json_option
def command(as_json: bool, runs_url: str, **options: Any) -> None:
    """Write pictures into a collection.

    SOURCE is a folder, a CSV / TSV / JSONL / Parquet list with a `path` column, tar shards
    (shard-{000..009}.tar), or `-` for paths on stdin.
    A repeat encodes nothing; a killed run goes on where it stopped.

    \b
    intramodal ingest ~/photos --collection photos --model open_clip:ViT-B-32:openai
    intramodal ingest list.csv --collection shop --model demo --projection pca.safetensors
    """
    from intramodal.workflows.ingest import IngestRequest, ingest_pictures

    result = ingest_pictures(IngestRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    from intramodal.cli.output import note, print_table, printable

    for failure in result["failures"][:_MOST_SHOWN]:
        note(printable(f"{failure['stage']}: {failure['item']}: {failure['reason']}"))
    if result["failed"] > _MOST_SHOWN:
        more = result["failed"] - _MOST_SHOWN
        note(f"... and {more:,} more; see intramodal runs show {result['run_id']}")
    columns = ("collection", *(f"{name}>" for name in _COUNTS), "seconds>", "run")
    counts = [f"{result[name]:,}" for name in _COUNTS]
    seconds = f"{result['seconds']:.1f}"
    print_table(columns, [[result["collection"], *counts, seconds, result["run_id"]]])
