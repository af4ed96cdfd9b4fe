"""The two places every command works in: a store and a runs database."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from intramodal.commands.session import Uploads as Uploads
from intramodal.commands.session import Workspace as Workspace
from intramodal.errors import InputError, LedgerError, NotFound
from intramodal.runs.ledger import RunLedger
from intramodal.runs.run import Run
from intramodal.store.base import Store
from intramodal.store.open import is_directory, open_store

log = logging.getLogger(__name__)

_PATIENCE_S = 1.0
"""How long a search waits for a runs database that another process writes to."""


@contextmanager
def open_workspace(
    store: str, runs: str, *, creates: bool = False, uploads: Uploads | None = None
) -> Iterator[Workspace]:
    """Open both, the ledger first: a store directory is locked only while it is used.

    Parameters
    ----------
    store : str
        A directory, ``":memory:"`` or a URL; a server's key is read from ``QDRANT_API_KEY``.
    runs : str
        A file or a SQLAlchemy URL.
    creates : bool
        Whether a directory that is not there becomes a store; as in `reach_store`.
    uploads : Uploads, optional
        How a server is written to.
    """
    if not creates:
        require_store(store)
    with (
        RunLedger.open(runs) as ledger,
        reach_store(store, creates=creates, uploads=uploads) as opened,
    ):
        yield Workspace(opened, ledger)


def reach_store(location: str, *, creates: bool = False, uploads: Uploads | None = None) -> Store:
    """Open a store with the key from the environment.

    Raises
    ------
    NotFound
        If it is a directory that is not there, unless `creates`: who only looks, or names the
        wrong place, leaves nothing behind.
    """
    if not creates:
        require_store(location)
    uploads = uploads or Uploads()
    return open_store(
        location,
        api_key=os.environ.get("QDRANT_API_KEY"),
        upload_streams=uploads.streams,
        nodes=uploads.nodes,
        shard_key=uploads.shard_key,
    )


def require_store(location: str) -> None:
    """Raise `NotFound` if the store is a directory that is not there."""
    if is_directory(location) and not Path(location).exists():
        raise NotFound(
            f"there is no store at {location}; ingest something into it first, or give the place "
            f"of another with --store"
        )


def cluster_options(request: Any) -> dict[str, int]:
    """Return the settings of a new collection on several nodes, as far as they are given."""
    given = {
        "shard_number": request.shards,
        "replication_factor": request.replicas,
        "write_consistency_factor": request.write_consistency,
    }
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def recorded(
    workspace: Workspace, kind: str, parameters: Mapping[str, Any], *, seed: int | None = None
) -> Iterator[Run]:
    """Record what happens inside as one run."""
    with workspace.ledger.run(kind, parameters=parameters, seed=seed) as run:
        yield run


@contextmanager
def recorded_if_possible(runs: str, kind: str, parameters: Mapping[str, Any]) -> Iterator[Run]:
    """Record what happens inside as one run; where that cannot be, warn and go on without.

    For what somebody waits for and that changes nothing: the answer is worth more than its record.
    """
    with ExitStack() as stack:
        run: Run
        try:
            ledger = stack.enter_context(RunLedger.open(runs, lock_timeout_s=_PATIENCE_S))
            run = stack.enter_context(ledger.run(kind, parameters=parameters))
        except LedgerError as error:
            log.warning("not recorded: %s", error)
            run = Run()
        yield run


@contextmanager
def figures_kept(run: Run, look: str) -> Iterator[None]:
    """Say, where a page cannot be written, that its figures are in the runs database.

    Parameters
    ----------
    run : Run
    look : str
        The command that shows them again, without ``intramodal`` and the run.
    """
    try:
        yield
    except InputError as error:
        raise InputError(
            f"{error}; the figures are recorded, see `intramodal {look} {run.id}`"
        ) from error
