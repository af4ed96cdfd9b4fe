"""``intramodal search``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands.options import (
    LIST,
    comma_list,
    json_option,
    model_options,
    print_json,
    runs_option,
    store_option,
)


@click.command("search")
@click.argument("collection")
@click.option(
    "--image",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Picture to search with.",
)
@click.option("--text", help="Text to search with; compared on `raw` only.")
@click.option("--id", "point", help="Stored point to search with; it never finds itself.")
@click.option(
    "--vectors",
    default="raw,pca",
    show_default=True,
    type=LIST,
    callback=comma_list,
    help="Comma-separated.",
)
@click.option("--projection", type=click.Path(path_type=Path), help="File, for --image on `pca`.")
@click.option("--model", help="Encoder for --image and --text; default: as the manifest says.")
@click.option("-k", "k", type=click.IntRange(1), default=10, show_default=True, help="Answers.")
@click.option("--exact", is_flag=True, help="Compare with every point instead of the index.")
@click.option(
    "--html", type=click.Path(path_type=Path), help="Also write a page of pictures: PAGE.html"
)
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder the payload's paths are relative to, for the page; default the current one.",
)
@model_options
@store_option
@runs_option
@json_option
def command(as_json: bool, runs_url: str, **options: Any) -> None:
    """Show the nearest pictures under several vectors, side by side.

    It is recorded as a run; a runs database that cannot be written to costs a warning only.

    \b
    intramodal search photos --id 0b6e... --vectors raw,pca
    intramodal search photos --image cat.jpg --projection pca.safetensors --html page.html
    """
    if sum(options[name] is not None for name in ("image", "text", "point")) != 1:
        raise click.UsageError("give one of --image, --text and --id")
    from intramodal.workflows.search import SearchRequest, search_collection

    result = search_collection(SearchRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    from intramodal.commands.printing import note, print_table

    names = list(result["vectors"])
    columns = ["rank>", *(f"{name}: {what}" for name in names for what in ("score>", "picture"))]
    print_table(columns, _rows(result, names))
    if "html" in result:
        click.echo(f"page: {result['html']}")
        if not result["n_pictures"]:
            note("the page has no pictures: name the folder of the paths with --pictures")


def _rows(result: dict[str, Any], names: list[str]) -> list[list[object]]:
    length = max((len(result["vectors"][name]) for name in names), default=0)
    rows: list[list[object]] = []
    for rank in range(length):
        row: list[object] = [rank + 1]
        for name in names:
            hits = result["vectors"][name]
            hit = hits[rank] if rank < len(hits) else None
            row += [f"{hit['score']:.4f}", hit["path"] or hit["id"]] if hit else ["", ""]
        rows.append(row)
    return rows
