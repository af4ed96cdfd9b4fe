"""``intramodal adopt``."""

from __future__ import annotations

import click

from intramodal.cli.options import json_option, print_json, store_option


@click.command("adopt")
@click.argument("collection")
@click.option("--vector", default="raw", show_default=True, help="Its name; '' if unnamed.")
@click.option("--made-by", required=True, help="Model that made the vector.")
@store_option
@json_option
def command(collection: str, vector: str, made_by: str, store: str, as_json: bool) -> None:
    """Declare which model made the vectors of a collection that is not ours.

    Writes the manifest into the collection's metadata; vectors and payload stay as they are.

    \b
    intramodal adopt products --vector image --made-by open_clip:ViT-B-32:openai
    """
    from intramodal.workflows.backfill import adopt_collection

    result = adopt_collection(collection, vector=vector, made_by=made_by, store=store)
    if as_json:
        print_json(result)
        return
    click.echo(f"{collection}: vector {vector!r} ({result['size']} dimensions) made by {made_by}")
