"""What every command works in: ``--store``, ``--runs`` and ``--json``, opened and printed once."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intramodal.commands.options import json_option, print_json, runs_option, store_option
from intramodal.errors import InputError, LedgerError, NotFound

if TYPE_CHECKING:
    from intramodal.runs.ledger import RunLedger
    from intramodal.runs.run import Run
    from intramodal.store.base import Store
    from intramodal.store.collection import ImageCollection

log = logging.getLogger(__name__)

_PATIENCE_S = 1.0
"""How long a search waits for a runs database that another process writes to."""


@dataclass(frozen=True)
class Uploads:
    """How a server is written to; see `open_store`."""

    streams: int | None = None
    nodes: tuple[str, ...] = ()
    shard_key: str | None = None


@dataclass(frozen=True)
class Workspace:
    """An open store and an open ledger."""

    store: Store
    ledger: RunLedger

    def collection(self, name: str) -> ImageCollection:
        """Open a collection of the store."""
        from intramodal.store.collection import ImageCollection

        return ImageCollection.open(self.store, name)


@dataclass(frozen=True)
class Session:
    """One call of a command.

    Parameters
    ----------
    store, runs : str
        Where they are: a directory, ``":memory:"`` or a URL; a file or a SQLAlchemy URL.
    as_json : bool
    options : mapping
        All arguments and options by the names of their parameters, as a run records them.
    """

    store: str
    runs: str
    as_json: bool
    options: Mapping[str, Any]

    @contextmanager
    def open(
        self, *, creates: bool = False, uploads: Uploads | None = None
    ) -> Iterator[Workspace]:
        """Open both, the ledger first: a store directory is locked only while it is used.

        A directory that is not there becomes a store only if `creates`.
        """
        from intramodal.runs.ledger import RunLedger

        if not creates:
            require_store(self.store)
        with (
            RunLedger.open(self.runs) as ledger,
            self.open_store(creates=creates, uploads=uploads) as store,
        ):
            yield Workspace(store, ledger)

    def open_runs(self) -> RunLedger:
        """Open the runs database to look at it: one that is not there is not made."""
        from intramodal.runs.ledger import RunLedger

        return RunLedger.open(self.runs, create=False)

    def open_store(self, *, creates: bool = False, uploads: Uploads | None = None) -> Store:
        """Open the store alone, with the key from the environment; see `open`."""
        from intramodal.store.open import open_store

        if not creates:
            require_store(self.store)
        uploads = uploads or Uploads()
        return open_store(
            self.store,
            api_key=os.environ.get("QDRANT_API_KEY"),
            upload_streams=uploads.streams,
            nodes=uploads.nodes,
            shard_key=uploads.shard_key,
        )

    def has_store(self) -> bool:
        """Return whether the store can hold anything: opening a directory would make it."""
        from intramodal.store.open import is_directory

        return not is_directory(self.store) or Path(self.store).exists()

    def stated(self, *, but: Sequence[str] = ()) -> dict[str, str]:
        """Return the options that were given and are no zero, as most runs record them.

        Without those that a command has for another of its jobs.
        """
        given = {key: value for key, value in self.options.items() if value and key not in but}
        return {key: str(value) for key, value in given.items()}

    def given(self) -> dict[str, str]:
        """Return all options that have a value, as a run records them."""
        return {key: str(value) for key, value in self.options.items() if value is not None}

    @contextmanager
    def recorded_if_possible(self, kind: str) -> Iterator[Run]:
        """Record what happens inside as one run; where that cannot be, warn and go on without.

        For what somebody waits for and that changes nothing: the answer is worth more than its
        record.
        """
        from intramodal.runs.ledger import RunLedger
        from intramodal.runs.run import Run

        with ExitStack() as stack:
            try:
                ledger = stack.enter_context(RunLedger.open(self.runs, lock_timeout_s=_PATIENCE_S))
                run: Run = stack.enter_context(ledger.run(kind, parameters=self.stated()))
            except LedgerError as error:
                log.warning("not recorded: %s", error)
                run = Run()
            yield run

    def answer(self, result: dict[str, Any], show: Callable[[dict[str, Any]], None]) -> None:
        """Print the result of a job: one JSON object, or what `show` makes of it for people."""
        if self.as_json:
            print_json(result)
        else:
            show(result)


def session_options(
    *, store: bool = True, runs: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--store``, ``--runs`` and ``--json``; the command gets a `Session` first."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def called(**options: Any) -> Any:
            options = _as_declared(options)
            as_json = options.pop("as_json")
            if "runs_url" in options:
                options["runs"] = options.pop("runs_url")
            places = {name: options.get(name, "") for name in ("store", "runs")}
            knobs = {name: value for name, value in options.items() if name not in places}
            return command(Session(**places, as_json=as_json, options=options), **knobs)

        added = json_option(called)
        added = runs_option(added) if runs else added
        return store_option(added) if store else added

    return decorate


def _as_declared(options: Mapping[str, Any]) -> dict[str, Any]:
    """Order options as the command declares them: a run does not record how they were typed."""
    declared = [param.name for param in click.get_current_context().command.params]
    return dict(sorted(options.items(), key=lambda item: declared.index(item[0])))


def require_store(location: str) -> None:
    """Raise `NotFound` if the store is a directory that is not there."""
    from intramodal.store.open import is_directory

    if is_directory(location) and not Path(location).exists():
        raise NotFound(
            f"there is no store at {location}; ingest something into it first, or give the place "
            f"of another with --store"
        )


@contextmanager
def figures_kept(run: Run, look: str) -> Iterator[None]:
    """Say, where a page cannot be written, that its figures are in the runs database.

    `look` is the command that shows them again, without ``intramodal`` and the run.
    """
    try:
        yield
    except InputError as error:
        raise InputError(
            f"{error}; the figures are recorded, see `intramodal {look} {run.id}`"
        ) from error
