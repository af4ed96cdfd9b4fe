"""``intramodal anchors``."""

from __future__ import annotations

import click

from intramodal.commands.next_steps import program
from intramodal.commands.options import CheckedCommand, json_option, preference, print_json
from intramodal.commands.printing import note, note_whole, print_data
from intramodal.errors import InputError


@click.command("anchors", cls=CheckedCommand, common=("template",))
@click.argument("anchors", metavar="NAME|FILE")
@preference("--template", help="Prompt; {} stands for the class name.  [default: a photo of a {}]")
@json_option
def command(anchors: str, template: str | None, as_json: bool) -> None:
    """Print the prompts that `fit` embeds, one per line, for any model's text tower.

    NAME is imagenet or wordnet; FILE has one class name per line. Embed the lines in this order
    and give the rows to `fit --text-vectors`.

    \b
    intramodal anchors imagenet > prompts.txt
    """
    from intramodal.projection.anchors import TEMPLATE, load_anchors

    prompts = load_anchors(anchors, template or TEMPLATE).prompts()
    if any(len(prompt.splitlines()) != 1 for prompt in prompts):
        raise InputError(
            f"--template {template!r} makes prompts of several lines; leave out its line breaks"
        )
    if as_json:
        print_json({"prompts": prompts})
    else:
        print_data("".join(f"{prompt}\n" for prompt in prompts))
        note(f"{len(prompts):,} prompts, one per line; embed them in this order, then:")
        note_whole(f"  {program()} fit --text-vectors FILE.npy --made-by MODEL -o pca.safetensors")
