"""``intramodal export``."""

from __future__ import annotations

from pathlib import Path

import click

from intramodal.commands.options import json_option, print_json, runs_option, store_option


@click.command("export")
@click.argument("collection")
@click.option("--vector", default="pca", show_default=True, help="Named vector.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="FILE.npy, .safetensors or .parquet",
)
@store_option
@runs_option
@json_option
def command(
    collection: str, vector: str, out: Path, store: str, runs_url: str, as_json: bool
) -> None:
    """Write a vector of all points to FILE.npy, with FILE.ids.csv beside it.

    Rows are in id order: whole numbers by value, then UUIDs. Points without the vector are left
    out and counted. FILE is only ever there whole, and with its ids.

    \b
    intramodal export photos --vector pca -o pca.npy
    """
    from intramodal.workflows.export import export_vectors

    result = export_vectors(collection, vector=vector, out=out, store=store, runs=runs_url)
    if as_json:
        print_json(result)
        return
    left_out = f", {result['missing']:,} points lack it" if result["missing"] else ""
    click.echo(f"{result['rows']:,} x {result['dim']} -> {out} (ids: {result['ids']}{left_out})")
