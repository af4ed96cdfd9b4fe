"""Names in ``intramodal.toml``: a key that no command knows is refused, not ignored."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from intramodal.errors import InputError


def option_names(command: click.Command) -> set[str]:
    """Return the long options of a command and of its sub-commands, without the dashes.

    Examples
    --------
    >>> option_names(click.Command("x", params=[click.Option(["--top-k", "-k"])]))
    {'top-k'}
    """
    names = {
        spelling.removeprefix("--")
        for param in command.params
        if isinstance(param, click.Option)
        for spelling in (*param.opts, *param.secondary_opts)
        if spelling.startswith("--")
    }
    if isinstance(command, click.Group):
        context = click.Context(command)
        children = (command.get_command(context, n) for n in command.list_commands(context))
        names |= {name for child in children if child for name in option_names(child)}
    return names


def check_keys(
    path: Path, stored: Mapping[str, Any], commands: Mapping[str, click.Command]
) -> None:
    """Refuse keys that are no options: in a table of its command, at the top of any.

    Raises
    ------
    InputError
        The message names the closest options.
    """
    known = {name: option_names(command) for name, command in commands.items()}
    for key, value in stored.items():
        if isinstance(value, Mapping):
            _check(path, f"[{key}] ", value, known.get(key, set()))
        else:
            _check(path, "", [key], set().union(*known.values()))


def _check(path: Path, where: str, keys: Iterable[str], known: set[str]) -> None:
    for key in keys:
        if key.replace("_", "-") not in known:
            close = difflib.get_close_matches(key, known) or sorted(known)
            raise InputError(
                f"{path} sets {where}{key}, but there is no such option; did you mean "
                f"{' or '.join(close)}?"
            )
