"""What every command works in: ``--store``, ``--runs``, ``--json``, and its job's defaults."""

from __future__ import annotations

import gc
import importlib
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intramodal.commands.options import (
    CheckedCommand,
    F,
    ca_option,
    deadline_option,
    json_option,
    print_json,
    runs_option,
    store_option,
    timeout_option,
)
from intramodal.commands.outputs import check_outputs
from intramodal.errors import InputError, LedgerError, NotFound

if TYPE_CHECKING:
    from intramodal.runs.ledger import RunLedger
    from intramodal.runs.run import Run
    from intramodal.store.base import Store
    from intramodal.store.collection import ImageCollection
    from intramodal.store.label_table import LabelTable

log = logging.getLogger(__name__)

_PATIENCE_S = 1.0
"""How long a search waits for a runs database that another process writes to."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Let Python look for no garbage while libraries are imported, once a process.

    They make some 300,000 objects that live until it ends. The collector would look at all of
    them again and again, and once more with every larger thing that the command does.
    """
    if not gc.isenabled() or gc.get_freeze_count():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@dataclass(frozen=True)
class Uploads:
    """How a server is written to; see `open_store`."""

    streams: int | None = None
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Access:
    """How a server is spoken to; None: as `open_store` does by default."""

    ca: str | None = None
    timeout: int | None = None
    deadline: float | None = None

    def stated(self) -> dict[str, Any]:
        """Return what was given, by the names of `open_store`."""
        given = {"ca": self.ca, "timeout_s": self.timeout, "deadline_s": self.deadline}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class LabelFile:
    """Where labels are that are in no payload."""

    path: Path
    id_column: str | None = None

    @cached_property
    def table(self) -> LabelTable:
        """The labels, read when they are first needed."""
        from intramodal.ingest.label_file import read_labels

        if self.id_column is None:
            return read_labels(self.path)
        return read_labels(self.path, id_column=self.id_column)


@dataclass(frozen=True)
class Workspace:
    """An open store and an open ledger, and the labels that collections are read with."""

    store: Store
    ledger: RunLedger
    labels: LabelTable | None = None

    def collection(self, name: str) -> ImageCollection:
        """Open a collection of the store."""
        from intramodal.store.collection import ImageCollection
        from intramodal.store.label_table import LabelledCollection

        found = ImageCollection.open(self.store, name)
        return found if self.labels is None else LabelledCollection(found, self.labels)


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
    shard_key : str, optional
        The only one of a collection that is read and written.
    access : Access
    labels : LabelFile, optional
        Fields of the points of each collection that is opened.
    """

    store: str
    runs: str
    as_json: bool
    options: Mapping[str, Any]
    shard_key: str | None = None
    access: Access = Access()
    labels: LabelFile | None = None

    @contextmanager
    def open(
        self, *, creates: bool = False, uploads: Uploads | None = None
    ) -> Iterator[Workspace]:
        """Open both, the ledger first: a store directory is locked only while it is used.

        A directory that is not there becomes a store only if `creates`.
        """
        if not creates:
            require_store(self.store)
        self._check_directory()
        labels = None if self.labels is None else self.labels.table
        with ExitStack() as stack:
            with uncollected():
                ledger = stack.enter_context(self.open_ledger())
                store = self.open_store(creates=creates, uploads=uploads)
            yield Workspace(stack.enter_context(store), ledger, labels)

    def open_ledger(self, **settings: Any) -> RunLedger:
        """Open the runs database; it is not made in the storage of other programs."""
        from intramodal.runs.database import file_of, parse_url
        from intramodal.runs.ledger import RunLedger
        from intramodal.store.directories import check_outside

        file = file_of(parse_url(self.runs))
        if file is not None:
            check_outside(file, "the runs database")
        return RunLedger.open(self.runs, **settings)

    def _check_directory(self) -> None:
        """Refuse the directory of other programs before anything is made beside it."""
        from intramodal.store.directories import check_directory
        from intramodal.store.open import is_directory

        if is_directory(self.store):
            check_directory(self.store)

    def open_runs(self) -> RunLedger:
        """Open the runs database to look at it: one that is not there is not made."""
        from intramodal.runs.ledger import RunLedger

        return RunLedger.open(self.runs, create=False)

    def open_store(self, *, creates: bool = False, uploads: Uploads | None = None) -> Store:
        """Open the store alone, with the key from the environment; see `open`."""
        from intramodal.store.open import open_store
        from intramodal.types import read_key

        if not creates:
            require_store(self.store)
        uploads = uploads or Uploads()
        with uncollected():
            return open_store(
                self.store,
                api_key=os.environ.get("QDRANT_API_KEY"),
                upload_streams=uploads.streams,
                nodes=uploads.nodes,
                shard_key=None if self.shard_key is None else read_key(self.shard_key),
                **self.access.stated(),
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
        if self.labels is not None:
            given["labels_fingerprint"] = self.labels.table.fingerprint
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
        from intramodal.runs.run import Run

        with ExitStack() as stack:
            try:
                ledger = stack.enter_context(self.open_ledger(lock_timeout_s=_PATIENCE_S))
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


NOTHING_KEPT = "the run is recorded as interrupted; run the same command again to start over"
"""Of a command that computes figures, and has them when it ends."""


class SessionCommand(CheckedCommand):
    """A command that gets a `Session` in place of the options of `session_options`.

    The options of a shard key and of a file of labels, where it has them, are the session's, too.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and make the session of all that was given."""
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:  # a shell asks for completions
            return rest
        check_outputs(self.params, ctx.params)
        # As they are declared: a run does not record how they were typed.
        names = {str(p.name): str(p.name) for p in self.params if p.expose_value}
        names |= {"runs_url": "runs"}
        options = {name: ctx.params[key] for key, name in names.items()}
        as_json = options.pop("as_json")
        access = Access(*(options.pop(name, None) for name in ("ca", "timeout", "deadline")))
        store, runs = options.get("store", ""), options["runs"]
        shard_key, labels = options.get("shard_key"), _label_file(options)
        session = Session(store, runs, as_json, options, shard_key, access, labels)
        own = ["store", "runs", "shard_key"]
        own += ["labels_from", "id_column"] if "labels_from" in options else []
        knobs = {name: value for name, value in options.items() if name not in own}
        ctx.params = {"session": session, **knobs}
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what a long read will take is noted as it begins."""
        from intramodal.commands.estimate import Estimate
        from intramodal.progress import long_reads_told

        with long_reads_told(Estimate([str(param.name) for param in self.params])):
            return super().invoke(ctx)


def _label_file(options: Mapping[str, Any]) -> LabelFile | None:
    """Return what the options of `label_file_options` mean, where a command has them."""
    if "labels_from" not in options:
        return None
    path, id_column = options["labels_from"], options["id_column"]
    if path is None and id_column is not None:
        raise click.UsageError("--id-column is for --labels-from only; give both, or leave it out")
    return None if path is None else LabelFile(path, id_column)


class JobCommand(SessionCommand):
    """A command that calls one job.

    Parameters
    ----------
    job : str
        Module below ``intramodal`` and function: ``"evaluation.retrieval:evaluate_retrieval"``. It
        is imported when the command runs or shows its help, not before.
    settings : str or sequence of str, optional
        What makes a value that the job takes, or what the command calls in its place: module and
        class or function; their parameters are options, too.
    renamed : mapping of str to str, optional
        Parameters of the job whose options have another name: ``{"timed": "n_timed"}``.
    """

    def __init__(
        self,
        *arguments: Any,
        job: str,
        settings: str | Sequence[str] = (),
        renamed: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.job = job
        self.settings = (settings,) if isinstance(settings, str) else tuple(settings)
        self.renamed = renamed or {}
        self._is_filled = False

    @property
    def knobs(self) -> Mapping[str, inspect.Parameter]:
        """Parameters of the job, and what makes one of its values where that says more."""
        of_settings = {n: p for name in self.settings for n, p in parameters(name).items()}
        of_job = parameters(self.job)
        unset = {name for name in of_job if of_job[name].default is None}
        return {
            **of_job,
            **{n: p for n, p in of_settings.items() if n not in of_job or n in unset},
        }

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters; options without a default of their own have that of the job."""
        if ctx.resilient_parsing:  # a shell that waits needs no defaults
            return super().get_params(ctx)
        knobs = {} if self._is_filled else self.knobs
        self._is_filled = True
        for option in self.params:
            knob = knobs.get(self.renamed.get(str(option.name), str(option.name)))
            if isinstance(option, click.Option) and knob and not option.multiple:
                _fill(option, knob.default)
        return super().get_params(ctx)


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """Return those of a function of the package, named as a `JobCommand` names its job."""
    module, _, function = name.partition(":")
    found = getattr(importlib.import_module(f"intramodal.{module}"), function)
    return inspect.signature(found).parameters


def _fill(option: click.Option, default: Any) -> None:
    if any(default is unset for unset in (None, False, (), inspect.Parameter.empty)):
        return
    is_list = isinstance(default, tuple | list)
    option.default = ",".join(map(str, default)) if is_list else default
    option.show_default = True


def session_options(command: F) -> F:
    """Add ``--store`` with what a server needs, ``--runs`` and ``--json``."""
    return store_option(access_options(runs_option(json_option(command))))


def access_options(command: F) -> F:
    """Add ``--ca``, ``--timeout`` and ``--deadline``: the fields of `Access`."""
    return ca_option(timeout_option(deadline_option(command)))


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
