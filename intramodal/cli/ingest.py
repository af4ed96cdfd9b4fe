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


@click.command("ingest")
@click.argument("source")
@click.option("--collection", required=True, help="Name of the collection; made if absent.")
@click.option("--model", help="Encoder, for example open_clip:ViT-B-32:openai or demo.")
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
    "--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images."
)
@click.option("--workers", type=click.IntRange(0), help="Decoding threads; default by device.")
@click.option("--max-failures", type=click.IntRange(0), help="Stop after so many broken pictures.")
@click.option("--prune", is_flag=True, help="Delete points whose picture left the source.")
@click.option(
    "--metadata", type=click.Path(path_type=Path), help="CSV beside ready vectors (SOURCE.npy)."
)
@click.option("--id-column", default="id", show_default=True, help="Column of METADATA with ids.")
@click.option("--made-by", help="Model that made ready vectors; instead of --model.")
@model_options
@store_option
@runs_option
@json_option
def command(as_json: bool, model: str | None, made_by: str | None, **options: Any) -> None:
    """Write pictures, or ready vectors, into a collection.

    SOURCE is a folder, a CSV / TSV / JSONL / Parquet list with a `path` column, tar shards
    (shard-{000..009}.tar), `-` for paths on stdin, or ready vectors (.npy, .safetensors).
    A repeat encodes nothing; a killed run goes on where it stopped.

    \b
    intramodal ingest ~/photos --collection photos --model open_clip:ViT-B-32:openai
    intramodal ingest list.csv --collection shop --model demo --projection pca.safetensors
    intramodal ingest X.npy --metadata X.csv --made-by open_clip:ViT-B-32:openai --collection c
    """
    if (model is None) == (made_by is None):
        raise click.UsageError("give --model for pictures, or --made-by for ready vectors")
    result = _run(model, made_by, options)
    if as_json:
        print_json(result)
    else:
        _print(result)


def _run(model: str | None, made_by: str | None, options: dict[str, Any]) -> dict[str, Any]:
    from intramodal.workflows.ingest import ingest_pictures, ingest_ready_vectors

    if made_by is not None:
        wanted = ("collection", "dataset", "metadata", "id_column", "batch_size", "store")
        chosen = {name: options[name] for name in wanted}
        return ingest_ready_vectors(
            options["source"], made_by=made_by, runs=options["runs_url"], **chosen
        )
    picture_options = {k: v for k, v in options.items() if k not in ("metadata", "id_column")}
    return ingest_pictures(model=model, runs=picture_options.pop("runs_url"), **picture_options)


def _print(result: dict[str, Any]) -> None:
    from intramodal.cli.output import note, print_table

    for failure in result["failures"][:20]:
        note(f"{failure['stage']}: {failure['item']}: {failure['reason']}")
    if len(result["failures"]) > 20:
        note(f"... and {len(result['failures']) - 20:,} more; see runs show {result['run_id']}")
    columns = ("collection", "written>", "skipped>", "failed>", "seconds>", "run")
    row = [result[key] for key in ("collection", "written", "skipped", "failed")]
    print_table(columns, [[*row, f"{result['seconds']:.1f}", result["run_id"]]])
