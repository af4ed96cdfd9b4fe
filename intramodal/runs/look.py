"""A look at a runs database that changes nothing: nothing is created, nothing upgraded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import URL, func, inspect, literal_column, select

from intramodal.runs.database import Database, known_schemas, parse_url, stored_schema
from intramodal.runs.models import SCHEMA, RunRow

SchemaState = Literal["absent", "empty", "current", "older", "newer", "foreign"]


@dataclass(frozen=True)
class DatabaseFacts:
    """What a runs database is.

    Parameters
    ----------
    url : str
        Its password masked.
    backend, version : str
        ``"sqlite"`` or ``"postgresql"``; the version is empty while there is no file.
    folder : Path or None
        Where a SQLite file lies or would lie.
    state : str
        Of the schema: "absent" (no file yet), "empty" (no tables yet), "current", "older" (the
        next run upgrades it), "newer" (than this version can read), "foreign" (somebody else's).
    schema : str or None
        The stored revision.
    n_runs : int
        0 unless the schema is current.
    """

    url: str
    backend: str
    version: str
    folder: Path | None
    state: SchemaState
    schema: str | None = None
    n_runs: int = 0


def look_at(url: str | Path, *, lock_timeout_s: float = 3.0) -> DatabaseFacts:
    """Return what a runs database is, without making or changing it.

    Raises
    ------
    LedgerError
        If it cannot be reached or read.
    """
    parsed = parse_url(url)
    path = _file(parsed)
    folder = None if path is None else path.parent
    database = Database(parsed, lock_timeout_s=lock_timeout_s)
    backend = parsed.get_backend_name()
    if path is not None and not path.exists():
        return DatabaseFacts(database.label, backend, "", folder, "absent")
    try:
        return _read(database, backend, folder)
    finally:
        database.close()


def folder_of(url: str | Path) -> Path | None:
    """Return where a SQLite file lies or would lie; None for a server or memory."""
    path = _file(parse_url(url))
    return None if path is None else path.parent


def _file(url: URL) -> Path | None:
    name = url.database or ""
    is_file = url.get_backend_name() == "sqlite" and name not in {"", ":memory:"}
    return Path(name) if is_file and not name.startswith("file:") else None


def _read(database: Database, backend: str, folder: Path | None) -> DatabaseFacts:
    asked = "sqlite_version()" if backend == "sqlite" else "current_setting('server_version')"
    with database.reading() as session:
        version = str(session.scalar(select(literal_column(asked))))
        connection = session.connection()
        schema = stored_schema(connection)
        has_runs = inspect(connection).has_table("runs")
        state = _state(schema, has_runs=has_runs)
        n_runs = 0
        if state == "current":
            n_runs = session.scalar(select(func.count()).select_from(RunRow)) or 0
    return DatabaseFacts(database.label, backend, version, folder, state, schema, n_runs)


def _state(schema: str | None, *, has_runs: bool) -> SchemaState:
    if schema is None:
        return "foreign" if has_runs else "empty"
    if schema == SCHEMA:
        return "current"
    return "older" if schema in known_schemas() else "newer"
