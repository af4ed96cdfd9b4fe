"""``intramodal search``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.columns import Column, Kind
from intramodal.commands.next_steps import note_again, say_made, unused
from intramodal.commands.options import (
    LIST,
    exact_option,
    model_options,
    picture_options,
    preference,
    query_side_of,
    query_side_options,
    shard_key_option,
    vector_names,
    with_options,
)
from intramodal.commands.outputs import Output
from intramodal.commands.printing import named, note, print_table
from intramodal.commands.session import JobCommand, Session, session_options


@click.command(
    "search",
    cls=JobCommand,
    common=("id", "image", "text", "vectors", "k", "projection", "html", "pictures"),
    job="store.search:search",
)
@click.argument("collection", shell_complete=completion.collections)
@click.option(
    "--image",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Image file to search with.",
)
@preference(
    "--text", help="Text to search with; only on vectors that are not projected, such as `raw`."
)
@preference(
    "--id",
    "point",
    help="Id of a stored point to search with; the point itself is never among the results.",
)
@preference(
    "--vectors",
    shell_complete=completion.vectors,
    type=LIST,
    callback=vector_names,
    help="Named vectors to search, comma-separated; '' is a vector without a name; default: the "
    "encoder's own and, but for --text and for --image without --projection, its projection.",
)
@click.option(
    "--projection",
    type=click.Path(path_type=Path),
    help="Projection file that made the vector, for --image on a projected vector.",
)
@query_side_options
@click.option(
    "--model",
    help="Model that encodes the image or text; default: the model that made the vector.",
)
@preference("-k", "k", type=click.IntRange(1), help="Number of results per query.")
@exact_option
@click.option(
    "--html",
    type=Output("html"),
    help="Also write an HTML page with the images, e.g. page.html.",
)
@picture_options
@preference(
    "--label",
    shell_complete=completion.field,
    metavar="FIELD",
    help="Payload field that says which results are right, as the page shows them: those that "
    "share the value of the point given with --id.  [default: label]",
)
@model_options
@shard_key_option
@session_options
def command(session: Session, collection: str, **options: Any) -> None:
    """Show the nearest images under several vectors, side by side.

    The search is recorded as a run; if the runs database cannot be written, a warning is shown.

    \b
    intramodal search photos --id 0b6e...
    intramodal search photos --image cat.jpg --projection pca.safetensors --html page.html
    intramodal search photos --id 0b6e... --query-side pca.safetensors --rerank 100
    """
    if sum(options[name] is not None for name in ("image", "text", "point")) != 1:
        raise click.UsageError("give one of --image, --text and --id")
    from intramodal.store.collection import ImageCollection
    from intramodal.store.search import search

    with session.open_store() as store:
        photos = ImageCollection.open(store, collection)
        query = {"image": options["image"], "text": options["text"], "point": _point(options)}
        with session.recorded_if_possible("search") as run:
            found = search(
                photos,
                **query,
                vectors=options["vectors"],
                encoder=_loader(options),
                projection=_projection(photos, options),
                query_side=query_side_of(options),
                rerank=options["rerank"],
                k=options["k"],
                exact=options["exact"],
            )
            run.keep(found)
            page = _write_page(photos, found, query, options)
    answer = {**found.to_dict(), **page, "run_id": run.id}
    session.answer(answer, partial(_show, picture_field=options["picture_field"]))


def _point(options: dict[str, Any]) -> str | int | None:
    from intramodal.store.checks import typed_id

    point = options["point"]
    return None if point is None else typed_id(point)


def _loader(options: dict[str, Any]) -> Any:
    """Return a function that loads the model that was asked for, or that of the manifest."""
    from intramodal.ingest.encoders.registry import load_encoder

    def load(name: str) -> Any:
        model = options["model"] or name
        return load_encoder(model, device=options["device"], precision=options["precision"])

    return load


def _projection(photos: Any, options: dict[str, Any]) -> Any:
    """Load the projection where there is a vector that one has made."""
    from intramodal.projection.posterior import load_map

    origins = photos.manifest.vectors
    asked = origins if options["vectors"] is None else options["vectors"]
    is_needed = any(v in origins and origins[v].projection for v in asked)
    if options["projection"] is None or not is_needed:
        return None
    return load_map(options["projection"])


def _write_page(photos: Any, found: Any, query: dict[str, Any], options: dict[str, Any]) -> Any:
    """Write the page of pictures; say where it is and how many pictures it could show."""
    if options["html"] is None:
        return {}
    from intramodal.reports.pages import search_page
    from intramodal.reports.pictures import PictureSource
    from intramodal.reports.report import render_report

    page = search_page(
        photos,
        found,
        **query,
        exact=options["exact"],
        pictures=PictureSource(options["pictures"] or ".", options["picture_field"]),
        label=options["label"],
    )
    render_report(page, options["html"])
    return {
        "html": str(options["html"]),
        "n_pictures": page.n_pictures,
        "no_pictures": page.no_pictures,
    }


def _show(result: dict[str, Any], *, picture_field: str | None) -> None:
    from intramodal.reports.pictures import PictureSource

    names, pictures = list(result["vectors"]), PictureSource(field=picture_field)
    hits = [hit for found in result["vectors"].values() for hit in found]
    # A title may be folded, what names a file may not.
    kind: Kind = "id" if all(_title(hit, pictures) is None for hit in hits) else "text"
    of_hit: tuple[tuple[str, Kind], ...] = (("score", "number"), ("picture", kind))
    heads = [Column(f"{named(name)}: {what}", kind) for name in names for what, kind in of_hit]
    print_table(["rank>", *heads], _rows(result, names, pictures))
    if "html" not in result:
        note_again("--html", unused("page.html"))
    else:
        say_made("page", result["html"])
        if result["no_pictures"]:
            note(with_options(result["no_pictures"]))


def _title(hit: dict[str, Any], pictures: Any) -> str | None:
    """Return what the payload calls a point of which it names no picture."""
    from intramodal.reports.pictures import title_of

    return None if pictures.name(hit["payload"]) else title_of(hit["payload"])


def _called(hit: dict[str, Any], pictures: Any) -> str:
    """Return the file or the address of a picture, else the id with the title if there is one."""
    title = _title(hit, pictures)
    named = str(pictures.name(hit["payload"]) or hit["id"])
    return named if title is None else f"{named} · {title}"


def _rows(result: dict[str, Any], names: list[str], pictures: Any) -> list[list[object]]:
    length = max((len(result["vectors"][name]) for name in names), default=0)
    rows: list[list[object]] = []
    for rank in range(length):
        row: list[object] = [rank + 1]
        for name in names:
            hits = result["vectors"][name]
            hit = hits[rank] if rank < len(hits) else None
            row += [f"{hit['score']:.4f}", _called(hit, pictures)] if hit else ["", ""]
        rows.append(row)
    return rows
