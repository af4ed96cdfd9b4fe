"""``intramodal.toml``: options as they are spelled, with values of their types.

Two files are read, that of the current folder over the user's own. The folder may be a stranger's:
until it is trusted, its file sets preferences only (see `options.preference`).
"""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from intramodal.commands.headings import long_names
from intramodal.commands.options import LIST, Preference, pairs, whole_numbers
from intramodal.commands.trusted_folders import (
    SETTINGS_FILE,
    is_trusted,
    own_file,
    require_protected,
)
from intramodal.errors import InputError

log = logging.getLogger(__name__)

_LARGEST_BYTES = 1_000_000
"""Of a file of settings; longer ones are no settings."""


class Setting(NamedTuple):
    """One line of a file of settings."""

    shown: str
    """As people find it in the file: ``[runs.prune] keep``."""
    name: str
    """Of the option, without dashes in front."""
    value: Any
    meant: Mapping[str, click.Option]
    """What it sets, by command."""

    @property
    def beyond_preferences(self) -> list[str]:
        """The commands for which it is more than a preference."""
        return [name for name, option in self.meant.items() if not isinstance(option, Preference)]


def read_settings(root: click.Command) -> dict[str, Any]:
    """Return click's default map: ``./intramodal.toml`` over the user's own file.

    Raises
    ------
    InputError
        A file is no TOML, sets what there is not, or sets more than preferences in a folder that
        is not trusted.
    """
    found: dict[str, Any] = {}
    for path in (own_file(), Path(SETTINGS_FILE)):
        table = None if path is None else _read(path)
        if path is None or table is None:
            continue
        log.info("settings: %s", path.absolute())
        commands = _children(root)
        _require_trust(path, list(_settings(path, commands, table)))
        found = _over(commands, _defaults(commands, table, {}), found)
    return found


def beyond_preferences(path: Path, root: click.Command) -> list[Setting]:
    """Return what a file sets that only the user or a trusted folder may set."""
    table = _read(path)
    found = () if table is None else _settings(path, _children(root), table)
    return [setting for setting in found if setting.beyond_preferences]


def _read(path: Path) -> dict[str, Any] | None:
    """Return what stands in a file; None if there is none that this user can see."""
    is_there = False
    with contextlib.suppress(OSError):  # another user's home
        is_there = path.is_file()
    return _parsed(path) if is_there else None


def _parsed(path: Path) -> dict[str, Any]:
    import tomllib  # 5 ms of every command, and few have a file

    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise InputError(f"{path} is larger than {_LARGEST_BYTES:,} bytes; shorten it")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML ({error}); repair or remove it") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error


def _require_trust(path: Path, settings: Sequence[Setting]) -> None:
    refused = [setting for setting in settings if setting.beyond_preferences]
    if not refused:
        return
    if is_trusted(path):
        require_protected(path)
        return
    shown, own = ", ".join(map(_with_commands, refused)), own_file()
    raise InputError(
        f"{path.absolute()} sets {shown}, which the file of a folder may do only once the "
        f"folder is trusted; if you trust it, run `intramodal trust`; or move this to your own "
        f"file{f', {own}' if own else ''}"
    )


def _with_commands(setting: Setting) -> str:
    """Return a setting as it stands in its file, and what it is too much for if not for all."""
    too_much = setting.beyond_preferences
    if len(too_much) == len(setting.meant):
        return setting.shown
    return f"{setting.shown} (for {', '.join(too_much)})"


def leaves(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield the commands below a group, each with its words: ``runs prune``."""
    children = _children(command)
    for name, child in children.items():
        yield from leaves(child, f"{path} {name}".strip())
    if not children:
        yield path, command


def _children(command: click.Command) -> dict[str, click.Command]:
    if not isinstance(command, click.Group):
        return {}
    context = click.Context(command)
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {name: child for name, child in found.items() if child is not None}


def name_variables(command: click.Command, prefix: str) -> None:
    """Let variables be called as the options are: ``INTRAMODAL_BACKFILL_FROM``.

    By itself click names them after the parameters, some of which have other names.
    """
    for path, leaf in leaves(command, prefix):
        for option in _of(leaf):
            words = f"{path} {long_names(option)[0]}"
            variable = words.replace(" ", "_").replace("-", "_").upper()
            known = option.envvar or ()
            others = [known] if isinstance(known, str) else [*known]
            option.envvar = list(dict.fromkeys([variable, *others]))


def _of(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option)]


def _settings(
    path: Path,
    commands: Mapping[str, click.Command],
    table: Mapping[str, Any],
    words: tuple[str, ...] = (),
) -> Iterator[Setting]:
    """Yield what a table sets, each checked: there is such an option, and it takes such a value.

    Tables are those of commands: ``[evaluate]``, ``[evaluate.retrieval]``.
    """
    plain, tables = _parts(commands, table)
    options = _options(commands, " ".join(words))
    for key, value in plain.items():
        shown = f"[{'.'.join(words)}] {key}" if words else key
        name = key.replace("_", "-")
        if name not in options:
            raise InputError(_unknown(path, words, shown, value, [*commands], [*options]))
        setting = Setting(shown, name, value, options[name])
        _check_value(path, setting)
        yield setting
    for name, below in tables.items():
        child = commands[name]
        yield from _settings(path, _children(child) or {"": child}, below, (*words, name))


def _parts(
    commands: Mapping[str, click.Command], table: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the settings of a table, and the tables of the commands below."""
    plain: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    for key, value in table.items():
        name = key.replace("_", "-")
        if isinstance(value, dict) and name in commands:
            tables[name] = value
        else:
            plain[key] = value
    return plain, tables


def _options(
    commands: Mapping[str, click.Command], path: str
) -> dict[str, dict[str, click.Option]]:
    """Return the options of commands by their long names and then by the command's words."""
    found: dict[str, dict[str, click.Option]] = {}
    for name, child in commands.items():
        for words, leaf in leaves(child, f"{path} {name}".strip()):
            for option in _of(leaf):
                for called in long_names(option):
                    found.setdefault(called, {})[words] = option
    return found


def _unknown(
    path: Path,
    words: tuple[str, ...],
    shown: str,
    value: Any,
    commands: Sequence[str],
    options: Sequence[str],
) -> str:
    key = shown.rpartition(" ")[2]
    is_table = isinstance(value, dict)
    known = [name for name in commands if name] if is_table else sorted(options)
    close = " or ".join(difflib.get_close_matches(key, known) or known)
    if is_table and known:
        table = ".".join((*words, key))
        return f"{path} has a table [{table}] but there is no such command; did you mean {close}?"
    return f"{path} sets {shown}, but there is no such option; did you mean {close}?"


def _check_value(path: Path, setting: Setting) -> None:
    for kind in map(_kind, setting.meant.values()):
        if not kind.suits(setting.value):
            raise InputError(
                f"{path} sets {setting.shown} to {_given(setting.value)}, but it takes "
                f"{kind.wanted}; write it as in {setting.name} = {kind.example}"
            )


def _defaults(
    commands: Mapping[str, click.Command], table: Mapping[str, Any], inherited: Mapping[str, Any]
) -> dict[str, Any]:
    """Return click's default map; what stands nearer to a command wins."""
    plain, tables = _parts(commands, table)
    shared = {**inherited, **plain}
    found: dict[str, Any] = {}
    for name, child in commands.items():
        below = _children(child)
        own = tables.get(name, {})
        found[name] = (
            _defaults(below, own, shared) if below else _parameters(child, {**shared, **own})
        )
    return found


def _parameters(command: click.Command, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table sets for one command, by the names of its parameters."""
    options, found = _options({"": command}, ""), {}
    for key, value in table.items():
        name = key.replace("_", "-")
        for option in options.get(name, {}).values():
            plain = not value if f"--{name}" in option.secondary_opts else value
            is_one = option.multiple and not isinstance(plain, list)
            found[str(option.name)] = [plain] if is_one else plain
    return found


def _over(
    commands: Mapping[str, click.Command], nearer: Mapping[str, Any], farther: Mapping[str, Any]
) -> dict[str, Any]:
    """Return two default maps as one; where both set a parameter, the nearer one counts."""
    found: dict[str, Any] = {}
    for name, child in commands.items():
        ours, theirs = nearer.get(name, {}), farther.get(name, {})
        below = _children(child)
        found[name] = _over(below, ours, theirs) if below else {**theirs, **ours}
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
_PAIRS = Kind('text such as "a=b", or a table', '{ a = "b" }', (str, dict))
_WHOLE_NUMBERS = Kind("a whole number, or a list of them", "[1, 2]", (int, str), (int, str))


def _kind(option: click.Option) -> Kind:
    if option.is_flag:
        return _FLAG
    if option.callback is whole_numbers:
        return _WHOLE_NUMBERS
    if option.callback is pairs:
        return _PAIRS
    if option.multiple or option.type is LIST:
        return _TEXTS
    if isinstance(option.type, click.types.IntParamType):
        return _WHOLE_NUMBER
    if isinstance(option.type, click.types.FloatParamType):
        return _NUMBER
    return _TEXT if isinstance(option.type, click.Path | click.Choice) else _TEXT_OR_NUMBER


def example_of(option: click.Option) -> str:
    """Return a value that an option takes, as TOML writes it."""
    return _kind(option).example


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
