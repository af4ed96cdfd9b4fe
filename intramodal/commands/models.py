"""``intramodal models``."""

from __future__ import annotations

from pathlib import Path

import click

from intramodal.commands.columns import id_column
from intramodal.commands.next_steps import note_fit, say_made
from intramodal.commands.options import CheckedCommand, SentenceGroup, json_option, print_json
from intramodal.commands.printing import print_table


@click.group("models", cls=SentenceGroup)
def command() -> None:
    """List known models; convert checkpoints of other projects."""


@command.command("list", cls=CheckedCommand)
@json_option
def list_models(as_json: bool) -> None:
    """List the models used in the paper; other names of these forms work, too."""
    from intramodal.model_names import known_models

    rows = [dict(model) for model in known_models()]
    if as_json:
        print_json({"models": rows})
        return

    columns = (id_column("name"), "family", "dim>", "text")
    print_table(columns, [tuple(row.values()) for row in rows])


@command.command("convert-slip", cls=CheckedCommand)
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", type=click.Path(path_type=Path))
@json_option
def convert_slip(source: Path, target: Path, as_json: bool) -> None:
    """Convert a SLIP checkpoint (.pt) to a folder that open_clip:local-dir:TARGET loads."""
    from intramodal.ingest.encoders.registry import convert_slip as convert

    convert(source, target)
    result = {"target": str(target), "model": f"open_clip:local-dir:{target}"}
    if as_json:
        print_json(result)
        return
    say_made("model", result["model"])
    note_fit(result["model"])
