"""``intramodal trust``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from intramodal.commands.configuration import Setting, beyond_preferences
from intramodal.commands.options import CheckedCommand, json_option, print_json
from intramodal.commands.printing import say
from intramodal.commands.trusted_folders import (
    SETTINGS_FILE,
    distrust,
    owner_elsewhere,
    trust,
    trusted_folders,
)
from intramodal.errors import InputError


@click.command("trust", cls=CheckedCommand, common=("remove", "list"))
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--remove", is_flag=True, help="Take the trust in DIR back.")
@click.option("--list", "lists", is_flag=True, help="List the trusted folders and change nothing.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, folder: Path, remove: bool, lists: bool, as_json: bool) -> None:
    """Trust the settings of a folder, by default the current one.

    intramodal.toml of any folder may set preferences: labels, vectors, margins, batch sizes. In a
    trusted folder, as in your own file, it may also set what is written, deleted and overwritten,
    and the addresses that get your key, now and whenever it is changed. Folders below DIR are not
    trusted with it.
    """
    result: dict[str, Any] = {}
    if not lists:
        place = folder.expanduser().resolve()
        result = _remove(place) if remove else trusted(ctx, place)
    result["trusted"] = [str(one) for one in trusted_folders()]
    if as_json:
        print_json(result)
    else:
        _show(result)


def _remove(folder: Path) -> dict[str, Any]:
    distrust(folder)
    return {"removed": str(folder)}


def trusted(ctx: click.Context, folder: Path) -> dict[str, Any]:
    """Trust a folder; return what its file sets beyond preferences, and who else may change it."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    settings = beyond_preferences(folder / SETTINGS_FILE, ctx.find_root().command)
    trust(folder)
    owners = map(owner_elsewhere, (folder, folder / SETTINGS_FILE))
    return {
        "folder": str(folder),
        "sets": [setting.shown for setting in settings],
        "addresses": _addresses(settings),
        "owners": sorted({owner for owner in owners if owner is not None}),
    }


def _addresses(settings: Sequence[Setting]) -> list[str]:
    """Return the servers that the settings name, without passwords."""
    from intramodal.runs.scrub import Scrubber

    values = [setting.value for setting in settings]
    texts = [one for value in values for one in (value if isinstance(value, list) else [value])]
    scrub = Scrubber.from_environment().text
    return [scrub(text) for text in texts if str(text).startswith(("http://", "https://"))]


def _show(result: dict[str, Any]) -> None:
    if "folder" in result:
        show_trust(result)
    elif "removed" in result:
        say(f"{result['removed']} is no longer trusted")
    else:
        for folder in result["trusted"] or ["no folder is trusted"]:
            say(folder)


def show_trust(result: dict[str, Any]) -> None:
    """Say what it means that a folder is trusted."""
    sets = ", ".join(result["sets"]) or "nothing but preferences yet"
    say(f"trusted: {result['folder']}; its {SETTINGS_FILE} sets {sets}")
    if result["addresses"]:
        say(f"the key in QDRANT_API_KEY is sent to: {', '.join(result['addresses'])}")
    for owner in result["owners"]:
        say(f"user {owner} owns it and can change what it sets at any time")
