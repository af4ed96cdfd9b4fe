"""What ``intramodal.toml`` may set: options as they are spelled, with values of their types."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from intramodal.commands.options import LIST, whole_numbers
from intramodal.errors import InputError


def options_of(command: click.Command) -> dict[str, list[click.Option]]:
    """Return the options of a command and of its sub-commands by their names without dashes.

    Examples
    --------
    >>> list(options_of(click.Command("x", params=[click.Option(["--top-k", "-k"])])))
    ['top-k']
    """
    found: dict[str, list[click.Option]] = {}
    for leaf in _leaves(command):
        for param in leaf.params:
            for spelling in (*param.opts, *param.secondary_opts):
                if isinstance(param, click.Option) and spelling.startswith("--"):
                    found.setdefault(spelling.removeprefix("--"), []).append(param)
    return found


def _leaves(command: click.Command) -> Iterator[click.Command]:
    if not isinstance(command, click.Group):
        yield command
        return
    for _, child in _children(command):
        yield from _leaves(child)


def _children(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        child = group.get_command(context, name)
        if child is not None:
            yield name, child


def check_settings(
    path: Path, stored: Mapping[str, Any], commands: Mapping[str, click.Command]
) -> None:
    """Refuse keys that are no options, in a table of its command, at the top of any; and values.

    A value has to be of the type that the option has in each command that it is meant for.
    """
    known = {name: options_of(command) for name, command in commands.items()}
    for key, value in stored.items():
        if isinstance(value, Mapping):
            for name, single in value.items():
                _check(path, f"[{key}] {name}", name, single, [known.get(key, {})])
        else:
            _check(path, key, key, value, list(known.values()))


def _check(
    path: Path, shown: str, key: str, value: Any, known: list[dict[str, list[click.Option]]]
) -> None:
    name = key.replace("_", "-")
    meant = [option for options in known for option in options.get(name, ())]
    if not meant:
        names = {name for options in known for name in options}
        close = difflib.get_close_matches(key, names) or sorted(names)
        raise InputError(
            f"{path} sets {shown}, but there is no such option; did you mean {' or '.join(close)}?"
        )
    for kind in map(_kind, meant):
        if not kind.suits(value):
            raise InputError(
                f"{path} sets {shown} to {_given(value)}, but it takes {kind.wanted}; write it as "
                f"in {name} = {kind.example}"
            )


def defaults_of(command: click.Command, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return click's default map of a command, by the names of its parameters."""
    if isinstance(command, click.Group):
        return {name: defaults_of(child, table) for name, child in _children(command)}
    options, found = options_of(command), {}
    for key, value in table.items():
        name = key.replace("_", "-")
        for option in options.get(name, ()):
            plain = not value if f"--{name}" in option.secondary_opts else value
            is_one = option.multiple and not isinstance(plain, list)
            found[str(option.name)] = [plain] if is_one else plain
    return found


class Kind(NamedTuple):
    """What an option takes in a file of settings."""

    wanted: str
    example: str
    single: tuple[type, ...]
    """Types of one value; text is left to click, which reads it as on the command line."""
    several: tuple[type, ...] = ()
    """Types in a list; none where it takes no list."""

    def suits(self, value: Any) -> bool:
        """Return whether a value is of these types."""
        if isinstance(value, list):
            return bool(self.several) and all(_is(one, self.several) for one in value)
        return _is(value, self.single)


_FLAG = Kind("true or false", "true", (bool,))
_WHOLE_NUMBER = Kind("a whole number", "3", (int, str))
_NUMBER = Kind("a number", "3", (int, float, str))
_TEXT = Kind("text in quotes", '"..."', (str,))
_TEXT_OR_NUMBER = Kind("text in quotes, or a number", '"..."', (str, int, float))
"""Such as a shard key, or a share."""
_TEXTS = Kind("text in quotes, or a list of such texts", '["...", "..."]', (str,), (str,))
_WHOLE_NUMBERS = Kind("a whole number, or a list of them", "[1, 2]", (int, str), (int, str))


def _kind(option: click.Option) -> Kind:
    if option.is_flag:
        return _FLAG
    if option.callback is whole_numbers:
        return _WHOLE_NUMBERS
    if option.multiple or option.type is LIST:
        return _TEXTS
    if isinstance(option.type, click.types.IntParamType):
        return _WHOLE_NUMBER
    if isinstance(option.type, click.types.FloatParamType):
        return _NUMBER
    return _TEXT if isinstance(option.type, click.Path | click.Choice) else _TEXT_OR_NUMBER


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    # In Python true is an int.
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


_GIVEN = {bool: "true or false", str: "text", list: "a list", dict: "a table", int: "a number",
          float: "a number"}  # fmt: skip


def _given(value: Any) -> str:
    """Return what a value is, in a word: it may be a secret itself."""
    if isinstance(value, list) and len({type(one) for one in value}) == 1:
        return f"a list of {_GIVEN.get(type(value[0]), 'dates').removeprefix('a ')}"
    return _GIVEN.get(type(value), "a date")
