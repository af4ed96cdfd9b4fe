"""``intramodal init``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from intramodal.commands.configuration import example_of, leaves
from intramodal.commands.headings import HEADINGS, long_names
from intramodal.commands.next_steps import note_next, say_made
from intramodal.commands.options import (
    DEFAULT_RUNS,
    DEFAULT_STORE,
    json_option,
    runs_option,
    store_option,
)
from intramodal.commands.printing import note
from intramodal.commands.session import Session, SessionCommand, access_options
from intramodal.commands.trust import show_trust, trusted
from intramodal.commands.trusted_folders import SETTINGS_FILE
from intramodal.errors import InputError, IntramodalError
from intramodal.files import write_new_text
from intramodal.terminal import visible

_COMMANDS = ("ingest", "fit", "backfill", "compare", "evaluate retrieval", "search")
"""Those whose settings are written; others take theirs from the file, too."""

_NOT_SHOWN = {*HEADINGS["Store and server"], *HEADINGS["Changes"], "json", "help", "wide"}
_MOST_COLLECTIONS, _MOST_FIELDS = 10, 8
_WIDTH = 98
_HEAD = """\
Settings of intramodal for this folder. Options and variables (INTRAMODAL_*) override them. Keys
are spelled like the options; a table is of one command, as [compare] or [evaluate.retrieval].
Remove the # of a line to set what it says; the values are the defaults, or examples (...).
"""


@click.command("init", cls=SessionCommand)
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@store_option
@access_options
@runs_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, session: Session, folder: Path) -> None:
    """Write a commented intramodal.toml into a folder, and trust it.

    DIR is the current folder by default. The file lists the settings of the main commands with
    their defaults, and what is in the store; --store and --runs are set in it if they are given.
    A file that is there is never changed. See `intramodal trust` for what trust means.

    \b
    intramodal init
    intramodal init --store http://localhost:6333
    """
    place = folder.expanduser().resolve()
    if not place.is_dir():
        raise InputError(f"there is no folder {folder}; make it, or name another")
    found, problem = _looked_at(session)
    file = place / SETTINGS_FILE
    root = ctx.find_root().command
    write_new_text(file, "\n".join(_lines(root, _places(session), found)) + "\n")
    try:
        result = trusted(ctx, place)
    except IntramodalError:
        file.unlink(missing_ok=True)
        raise
    session.answer({"file": str(file), "collections": found, "problem": problem, **result}, _show)


def _places(session: Session) -> dict[str, str | None]:
    """Return where store and runs are, if not where they are by default."""
    from intramodal.runs.scrub import Scrubber

    given = {"store": (session.store, DEFAULT_STORE), "runs": (session.runs, DEFAULT_RUNS)}
    for name, (place, _) in given.items():
        if Scrubber.of_url(place).text(place) != place:
            raise InputError(
                f"--{name} holds a password, which belongs into no file of a folder; leave it "
                f"out, and give it by the environment"
            )
    return {name: None if place == usual else place for name, (place, usual) in given.items()}


def _looked_at(session: Session) -> tuple[dict[str, dict[str, list[str]]], str | None]:
    """Return vectors and fields by collection, and why they are not known if they are not."""
    from intramodal.store.outline import collection_names, field_names, vector_names

    access = {"timeout_s": 5, "deadline_s": 0.0, **session.access.stated()}
    try:
        return {
            name: {
                "vectors": vector_names(session.store, name, **access),
                "fields": field_names(session.store, name, **access)[:_MOST_FIELDS],
            }
            for name in collection_names(session.store, **access)[:_MOST_COLLECTIONS]
        }, None
    except IntramodalError as error:
        return {}, str(error)


def _lines(
    root: click.Command, places: Mapping[str, str | None], found: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the lines of the file; all text of others is in comments or quoted."""
    yield from _comment(_HEAD)
    yield ""
    for name, usual in (("store", DEFAULT_STORE), ("runs", DEFAULT_RUNS)):
        place = places[name]
        yield f"{'# ' if place is None else ''}{name} = {_toml(place or usual)}"
    for name, has in found.items():
        vectors, fields = (", ".join(has[part]) or "none" for part in ("vectors", "fields"))
        yield from _comment(f"{name}: vectors {vectors}; fields {fields}")
    by_name = dict(leaves(root))
    for name in _COMMANDS:
        yield from ("", f"[{name.replace(' ', '.')}]")
        yield from _settings(by_name[name])


def _settings(leaf: click.Command) -> Iterator[str]:
    """Yield the options of a command that most people need, and those that have a default."""
    context = click.Context(leaf)
    for option in leaf.get_params(context):
        if not isinstance(option, click.Option) or (name := long_names(option)[0]) in _NOT_SHOWN:
            continue
        value = option.get_default(context)
        has_value = isinstance(value, str | int | float | list | Path)
        if has_value or name in getattr(leaf, "common", ()):
            yield from _comment(str(option.help))
            yield f"# {name} = {_toml(value) if has_value else example_of(option)}"


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(visible(" ".join(text.split())), _WIDTH - 2):
        yield f"# {line}"


def _toml(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _show(result: dict[str, Any]) -> None:
    if result["problem"] is not None:
        note(f"what is in the store is left out: {result['problem']}")
    say_made("settings", result["file"])
    show_trust(result)
    note_next("doctor", at=())
