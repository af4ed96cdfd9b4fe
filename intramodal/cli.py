"""The root command: lazy sub-commands, configuration, and one sentence for every error."""

from __future__ import annotations

import _thread
import contextlib
import difflib
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from intramodal import __version__
from intramodal.commands.configuration import name_variables, read_settings
from intramodal.commands.next_steps import WORDS
from intramodal.commands.options import JSON_ASKED, STOPPED, SentenceGroup, print_json
from intramodal.commands.printing import log_to_stderr, note, printable
from intramodal.commands.streams import flush_stdout, usable_streams
from intramodal.errors import IntramodalError
from intramodal.terminal import gated

SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What stops a command; Windows has no SIGHUP."""

_UNHANDLED = (signal.SIG_DFL, signal.default_int_handler)

_MOMENT_S = 0.5
"""After the first signal, before a second one counts."""


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by the first signal."""

    def __init__(self, number: int) -> None:
        by = "the user" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {by}")
        self.exit_code = _exit_code(number)


class StopSignals:
    """Handlers from `install` to the end of the block; then the former ones are back."""

    def __init__(self) -> None:
        self._former: dict[int, Any] = {}
        self._first_at: float | None = None
        self._is_over = False

    def __enter__(self) -> StopSignals:
        """Change nothing yet, so that `install` can stand where `Stopped` is caught."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Restore the handlers."""
        self._is_over = True
        while self._former:
            signal.signal(*self._former.popitem())

    def install(self) -> None:
        """Handle the signals that nothing else handles, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows it there only
        for number in SIGNALS:
            former = signal.getsignal(number)
            if former in _UNHANDLED:  # not SIG_IGN: that is how nohup and "&" protect a command
                self._former[number] = former
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._first_at is None:
            self._first_at = time.monotonic()
            raise Stopped(number)
        # One stop can be two signals: when a terminal closes, its shell sends SIGHUP, and so does
        # the kernel. A command gets a moment to end by itself.
        left_s = self._first_at + _MOMENT_S - time.monotonic()
        if left_s <= 0:
            os._exit(_exit_code(number))
        # threading's locks may be held by what was interrupted here.
        _thread.start_new_thread(self._end, (number, left_s))

    def _end(self, number: int, after_s: float) -> None:
        time.sleep(after_s)
        if not self._is_over:
            os._exit(_exit_code(number))


def _exit_code(number: int) -> int:
    """Return what a shell makes of the end by a signal."""
    return 128 + number


COMMANDS = (
    *("demo", "ingest", "import-local", "anchors", "advise", "fit", "backfill", "adopt"),
    *("evaluate", "compare", "judge", "search", "export", "report", "reproduce", "runs"),
    *("models", "doctor", "init", "trust"),
)
"""In the order of the help; each lives in ``intramodal.commands.<name>`` as ``command``."""

VARIABLES = "INTRAMODAL"
"""What the names of environment variables begin with."""

_RESUME = "run the same command again to resume"


_LONGEST = 2000
"""Characters of an error on a terminal: a name in it can be of any length."""


class CommandGroup(SentenceGroup):
    """A group that imports a command when it is needed and turns our errors into exit codes."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run a command line: a sentence and an exit code, whatever happens.

        All that is printed passes the gate. An error that nothing foresaw is a crash, exit code
        70; with ``standalone_mode=False`` it is raised, as click promises.
        """
        words = sys.argv[1:] if args is None else list(args)
        with usable_streams(), gated():
            if not extra.get("standalone_mode", True):
                return super().main(words, *rest, **extra)
            try:
                return _flushed(lambda: super(CommandGroup, self).main(words, *rest, **extra))
            except Exception as error:  # noqa: BLE001  the border
                _end(error, words)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import one command."""
        return _load(name) if name in COMMANDS else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Know of ``--json`` before a command is found: it holds for wrong words, too."""
        ctx.meta[JSON_ASKED] = "--json" in args
        ctx.meta[WORDS] = list(args)
        if ctx.resilient_parsing:  # for a shell's completion, which nothing may disturb
            with contextlib.suppress(IntramodalError):
                ctx.default_map = read_settings(self)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Answer an unknown command with the closest valid ones."""
        is_unknown = args and not args[0].startswith("-") and args[0] not in COMMANDS
        if is_unknown and not ctx.resilient_parsing:
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
                vars(error).update(message=printable(error.message, limit=_LONGEST))
                raise
            except IntramodalError as error:
                _fail(ctx, str(error), type(error).__name__, code=1)
            except KeyboardInterrupt as error:
                _stop(ctx, error)


def _flushed(run: Callable[[], Any]) -> Any:
    try:
        return run()
    finally:
        flush_stdout()


def _end(error: Exception, words: Sequence[str]) -> NoReturn:
    """Exit after an error that has come through all layers."""
    from intramodal.commands.crash import ending

    code, sentence = ending(error, words)
    with contextlib.suppress(OSError):
        if "--json" in words:
            print_json(_as_object(sentence, type(error).__name__))
        note(f"Error: {sentence}")
    sys.exit(code)


def _load(name: str) -> click.Command:
    module = importlib.import_module(f"intramodal.commands.{name.replace('-', '_')}")
    command: click.Command = module.command
    name_variables(command, f"{VARIABLES} {name}")
    return command


def _print_json(ctx: click.Context, sentence: str, kind: str) -> None:
    if ctx.meta.get(JSON_ASKED):
        print_json(_as_object(sentence, kind))


def _as_object(sentence: str, kind: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": sentence}}


def _fail(ctx: click.Context, sentence: str, kind: str, *, code: int) -> None:
    _print_json(ctx, sentence, kind)
    note(printable(f"Error: {sentence}", limit=_LONGEST))
    raise click.exceptions.Exit(code)


def _stop(ctx: click.Context, error: KeyboardInterrupt) -> None:
    """Fail with the signal's exit code, also where SIGHUP says that the terminal is gone."""
    code = error.exit_code if isinstance(error, Stopped) else 130
    with contextlib.suppress(OSError):
        sentence = f"stopped; {ctx.meta.get(STOPPED) or _RESUME}"
        _fail(ctx, sentence, "Interrupted", code=code)
    raise click.exceptions.Exit(code)


@click.command(
    cls=CommandGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": VARIABLES,
        "max_content_width": 100,
    },
)
@click.version_option(__version__, prog_name="intramodal")
@click.option(
    "-v", "--verbose", count=True, help="Show more log lines on stderr; -vv for debugging."
)
@click.pass_context
def cli(ctx: click.Context, verbose: int) -> None:
    """Image-to-image search with CLIP-like embeddings in Qdrant.

    Options override environment variables (INTRAMODAL_*), which override ./intramodal.toml, which
    overrides your own file (see `intramodal trust`), which overrides the defaults. Results go to
    stdout, progress and logs to stderr.
    """
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    log_to_stderr(level)
    if ctx.invoked_subcommand not in ("init", "trust"):  # which are about the file
        ctx.default_map = read_settings(ctx.command)


def main() -> None:
    """Run the command line of this process."""
    # Arrow's own allocator keeps what it has freed: 40 MB more for ten times the rows of Parquet.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    cli(prog_name="intramodal")
