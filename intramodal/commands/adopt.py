"""``intramodal adopt``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands.options import (
    json_option,
    model_options,
    print_json,
    runs_option,
    store_option,
)


@click.command("adopt")
@click.argument("collection")
@click.option("--vector", default="raw", show_default=True, help="Its name; '' if unnamed.")
@click.option("--made-by", required=True, help="Model that made the vector.")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder the payload's `path` is relative to: some pictures are encoded and compared.",
)
@click.option(
    "--projection",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A projection of that model: its texts are compared with the vectors.",
)
@model_options
@store_option
@runs_option
@json_option
def command(as_json: bool, runs_url: str, **options: Any) -> None:
    """Declare which model made the vectors of a collection that is not ours.

    The dimension is checked for known models, and a sample where pictures or texts are at hand.
    Writes the manifest into the collection's metadata; vectors and payload stay as they are.

    \b
    intramodal adopt products --vector image --made-by open_clip:ViT-B-32:openai
    intramodal adopt products --vector image --made-by demo --pictures ~/pictures
    """
    from intramodal.workflows.adopt import AdoptRequest, adopt_collection

    result = adopt_collection(AdoptRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    _print(result)


def _print(result: dict[str, Any]) -> None:
    click.echo(
        f"{result['collection']}: vector {result['vector']!r} ({result['size']} dimensions) made "
        f"by {result['made_by']}"
    )
    if result["pictures"]:
        seen = result["pictures"]
        click.echo(f"{seen['n']} pictures encoded again: median cosine {seen['median']:.4f}")
    if result["model_check"]:
        click.echo(result["model_check"]["says"])
