"""The two places every command works in: a store and a runs database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from intramodal.runs import Run, RunLedger
from intramodal.store.base import Store
from intramodal.store.open import open_store


@dataclass(frozen=True)
class Workspace:
    """An open store and an open ledger."""

    store: Store
    ledger: RunLedger


@contextmanager
def open_workspace(store: str, runs: str) -> Iterator[Workspace]:
    """Open both, the ledger first: a store directory is locked only while it is used.

    Parameters
    ----------
    store : str
        A directory, ``":memory:"`` or a URL; a server's key is read from ``QDRANT_API_KEY``.
    runs : str
        A file or a SQLAlchemy URL.
    """
    with RunLedger.open(runs) as ledger, reach_store(store) as opened:
        yield Workspace(opened, ledger)


def reach_store(location: str) -> Store:
    """Open a store with the key from the environment."""
    return open_store(location, api_key=os.environ.get("QDRANT_API_KEY"))


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
