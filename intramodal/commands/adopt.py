"""``intramodal adopt``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from intramodal.commands.options import model_options
from intramodal.commands.printing import say
from intramodal.commands.session import JobCommand, Session, session_options


@click.command("adopt", cls=JobCommand, job="ingest.adopt:adopt_collection")
@click.argument("collection")
@click.option("--vector", help="Name of the vector; '' if it has no name.")
@click.option("--made-by", required=True, help="Model that made the vector.")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that the payload's `path` is relative to; a sample of the picture files is "
    "encoded and compared with the vectors.",
)
@click.option(
    "--projection",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Projection file of that model; its texts are compared with the vectors.",
)
@model_options
@session_options
def command(
    session: Session,
    collection: str,
    projection: Path | None,
    device: str | None,
    precision: str | None,
    **knobs: Any,
) -> None:
    """Declare which model made the vectors of a collection that another program created.

    The dimension is checked for known models, and a sample of the vectors if --pictures or
    --projection is given. Writes the manifest into the collection's metadata; vectors and payload
    stay as they are.

    \b
    intramodal adopt products --vector image --made-by open_clip:ViT-B-32:openai
    intramodal adopt products --vector image --made-by demo --pictures ~/pictures
    """
    from intramodal.ingest.adopt import adopt_collection
    from intramodal.ingest.encoders.registry import load_encoder
    from intramodal.projection.projection import Projection

    fitted = Projection.load(projection) if projection else None
    load = partial(load_encoder, device=device, precision=precision)
    with session.open() as at:
        photos = at.collection(collection)
        with at.ledger.run("adopt", parameters=session.stated()) as run:
            found = adopt_collection(photos, projection=fitted, encoder=load, run=run, **knobs)
    session.answer({**found.to_dict(), "collection": collection, "run_id": run.id}, _print)


def _print(result: dict[str, Any]) -> None:
    say(
        f"{result['collection']}: vector {result['vector']!r} ({result['size']} dimensions) made "
        f"by {result['made_by']}"
    )
    if result["pictures"]:
        seen = result["pictures"]
        say(f"{seen['n']} pictures encoded again: median cosine {seen['median']:.4f}")
    if result["model_check"]:
        say(result["model_check"]["says"])
