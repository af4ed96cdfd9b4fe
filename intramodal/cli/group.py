"""The root command: lazy sub-commands, configuration, and one sentence for every error."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import logging
import tomllib
from pathlib import Path
from typing import Any

import click

from intramodal import __version__
from intramodal.cli.config import check_keys
from intramodal.cli.options import JSON_ASKED
from intramodal.cli.signals import Stopped, StopSignals
from intramodal.errors import InputError, IntramodalError

COMMANDS = (
    *("demo", "ingest", "fit", "backfill", "adopt"),
    *("evaluate", "compare", "search", "export", "report", "runs", "models", "doctor"),
)
"""In the order of the help; each lives in ``intramodal.cli.<name>`` as ``command``."""

SUBCOMMANDS = {
    "evaluate": (
        "fewshot",
        "fewshot-text",
        "index",
        "misalignment",
        "oti",
        "recovery",
        "retrieval",
        "text",
    ),
    "runs": ("compare", "export", "list", "prune", "show"),
    "models": ("convert-slip", "list"),
}
"""Commands of the groups, so that a configuration reaches them before they are imported."""

PARAMETERS = {"runs": "runs_url"}
"""Options whose parameter has another name."""

CONFIG_FILE = "intramodal.toml"

_STOPPED = "stopped; run the same command again to go on"


class CommandGroup(click.Group):
    """A group that imports a command when it is needed and turns our errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command."""
        return _load(name) if name in COMMANDS else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Know of ``--json`` before a command is found: it holds for wrong words, too."""
        ctx.meta[JSON_ASKED] = "--json" in args
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Answer an unknown command with the closest valid ones."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            close = difflib.get_close_matches(args[0], COMMANDS) or list(COMMANDS)
            ctx.fail(f"there is no command {args[0]!r}; did you mean {' or '.join(close)}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; our errors become one sentence and exit code 1.

        Ctrl-C becomes exit code 130, SIGTERM 143, SIGHUP 129.
        """
        with StopSignals() as signals:
            try:
                signals.install()
                return super().invoke(ctx)
            except click.UsageError as error:
                _print_json(ctx, error.format_message(), type(error).__name__)
                raise
            except IntramodalError as error:
                _fail(ctx, str(error), type(error).__name__, code=1)
            except KeyboardInterrupt as error:
                _stop(ctx, error)


def _load(name: str) -> click.Command:
    command: click.Command = importlib.import_module(f"intramodal.cli.{name}").command
    return command


def _print_json(ctx: click.Context, sentence: str, kind: str) -> None:
    if ctx.meta.get(JSON_ASKED):
        click.echo(json.dumps({"error": {"type": kind, "message": sentence}}))


def _fail(ctx: click.Context, sentence: str, kind: str, *, code: int) -> None:
    _print_json(ctx, sentence, kind)
    click.echo(f"Error: {sentence}", err=True)
    raise click.exceptions.Exit(code)


def _stop(ctx: click.Context, error: KeyboardInterrupt) -> None:
    """Fail with the signal's exit code, also where SIGHUP says that the terminal is gone."""
    code = error.exit_code if isinstance(error, Stopped) else 130
    with contextlib.suppress(OSError):
        _fail(ctx, _STOPPED, "Interrupted", code=code)
    raise click.exceptions.Exit(code)


def read_config(path: Path) -> dict[str, Any]:
    """Return click's default map from a TOML file; top-level keys hold for every command.

    Raises
    ------
    InputError
        If the file is not TOML or names a command or an option that does not exist.
    """
    if not path.is_file():
        return {}
    try:
        stored = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML ({error}); mend or remove it") from error
    tables = {key: _options(value) for key, value in stored.items() if isinstance(value, dict)}
    shared = _options({key: value for key, value in stored.items() if key not in tables})
    unknown = sorted(set(tables) - set(COMMANDS))
    if unknown:
        close = difflib.get_close_matches(unknown[0], COMMANDS) or list(COMMANDS)
        raise InputError(
            f"{path} has a table [{unknown[0]}] but there is no such command; "
            f"did you mean {' or '.join(close)}?"
        )
    check_keys(path, stored, {name: _load(name) for name in COMMANDS})
    return {name: _defaults(name, {**shared, **tables.get(name, {})}) for name in COMMANDS}


def _options(table: dict[str, Any]) -> dict[str, Any]:
    """Return click's parameter names for keys that are spelled like the options."""
    names = {key: key.replace("-", "_") for key in table}
    return {PARAMETERS.get(names[key], names[key]): value for key, value in table.items()}


def _defaults(name: str, table: dict[str, Any]) -> dict[str, Any]:
    return {**table, **dict.fromkeys(SUBCOMMANDS.get(name, ()), table)}


@click.command(
    cls=CommandGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "INTRAMODAL",
        "max_content_width": 100,
    },
)
@click.version_option(__version__, prog_name="intramodal")
@click.option("-v", "--verbose", count=True, help="More log lines on stderr; twice for debugging.")
@click.pass_context
def cli(ctx: click.Context, verbose: int) -> None:
    """Image-to-image search with CLIP-like embeddings in Qdrant.

    Options win over environment variables (INTRAMODAL_*), those over ./intramodal.toml,
    those over the defaults. Results go to stdout, progress and logs to stderr.
    """
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    ctx.default_map = read_config(Path(CONFIG_FILE))


def main() -> None:
    """Run the command line."""
    cli()
