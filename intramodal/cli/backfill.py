"""``intramodal backfill``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.cli.options import json_option, print_json, runs_option, store_option


@click.command("backfill")
@click.argument("collection")
@click.option(
    "--projection", type=click.Path(path_type=Path), required=True, help="File made by `fit`."
)
@click.option("--from", "source", default="raw", show_default=True, help="Vector to project.")
@click.option("--to", "vector", help="Vector to fill; default: the projection's own name.")
@click.option(
    "--made-by",
    help="Adopt the collection on the way: declare the model that made the --from vector.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=1000, show_default=True, help="Points."
)
@click.option("--throttle", type=click.FloatRange(min=0, min_open=True), help="Points per second.")
@click.option("--dry-run", is_flag=True, help="Print the plan with its costs; change nothing.")
@store_option
@runs_option
@json_option
def command(as_json: bool, runs_url: str, **options: Any) -> None:
    """Add the projected vector to a collection, from its stored vectors.

    Nothing is encoded again; other vectors and payload stay as they are; killed at any moment,
    the same command goes on.

    \b
    intramodal backfill photos --projection pca.safetensors
    """
    from intramodal.workflows.backfill import BackfillRequest, backfill_collection

    result = backfill_collection(BackfillRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    from intramodal.cli.output import print_table

    print_table(("", ""), [(key.replace("_", " "), value) for key, value in _rows(result)])


def _rows(result: dict[str, Any]) -> list[tuple[str, object]]:
    return [(key, value) for key, value in result.items() if not isinstance(value, list | dict)]
