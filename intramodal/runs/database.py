"""An open runs database: its URL, its schema, units of work, and errors as one sentence."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    func,
    inspect,
    literal_column,
    make_url,
    select,
)
from sqlalchemy import exc as sql_errors
from sqlalchemy import text as sql
from sqlalchemy.orm import Session
from sqlalchemy.schema import Column, MetaData, Table
from sqlalchemy.types import String

from intramodal.errors import LedgerError, MissingDependencyError
from intramodal.runs.schema import SCHEMA, VERSION_TABLE, RunRow
from intramodal.runs.scrub import Scrubber

MIGRATIONS = Path(__file__).parent / "migrations"

_VERSION = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32)))
ADVISORY_LOCK = 0x1D7_A110DA1
"""What a process holds while it changes the schema in PostgreSQL; any constant that is ours."""

# Alembic keeps the running migration in module globals: one at a time in a process.
_upgrading = threading.Lock()
_MAY_PASS = (
    sql_errors.OperationalError,
    sql_errors.InterfaceError,
    sql_errors.InternalError,
    sql_errors.TimeoutError,
)


class LedgerUnavailable(LedgerError):  # noqa: N818 - as StoreUnavailable
    """The runs database cannot be reached or written now; it may work later."""


class LedgerFull(LedgerUnavailable):
    """The disk of the runs database is full: work goes on, and is recorded once there is room."""


class RunFinished(LedgerError):  # noqa: N818 - a state, as NotFound
    """The run has ended and cannot change any more."""


def parse_url(url: str | Path) -> URL:
    """Return the database URL of a SQLAlchemy URL or a plain file name; refuse any other."""
    if isinstance(url, Path) or "://" not in url:
        return URL.create("sqlite", database=str(url))
    try:
        parsed = make_url(url)
    except (sql_errors.ArgumentError, ValueError) as error:
        raise LedgerError(
            f"the runs database {Scrubber.from_environment(url).text(url)!r} is not a URL that "
            "can be read; give a file name or postgresql://user:password@host/database"
        ) from error
    backend = parsed.get_backend_name()
    if backend in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise LedgerError(
            f"runs cannot be kept in {backend!r}; give a file name (SQLite) or a postgresql:// URL"
        )
    return parsed


class Database:
    """A runs database.

    `lock_timeout_s` bounds the wait for another process's write, and for a server's answer to a
    connection.
    """

    def __init__(self, url: URL, *, lock_timeout_s: float) -> None:
        self.url = url
        self._scrub = Scrubber.of_url(url.render_as_string(hide_password=False))
        self.label = self._scrub.text(url.render_as_string(hide_password=True))
        self.lock_timeout_s = lock_timeout_s
        self._engine = _make_engine(url, lock_timeout_s)
        self._writer = self._engine.execution_options(writes=True)
        self.generation = 0
        """How often another file was found in place of the one in use."""
        self._is_behind = False
        self._file: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None
        self._following = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session for one look; nothing is committed."""
        self._follow()
        with self.translated(), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yield a session for one unit of work: committed as a whole, or not at all."""
        self._follow()
        with self.translated(), Session(self._writer) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn database errors into a `LedgerError`."""
        try:
            yield
        except sql_errors.SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or error)
            if self._is_full(cause):
                raise LedgerFull(
                    self._scrub.text(f"the runs database {self.label} {_FULL}")
                ) from error
            sentence = self._scrub.text(_sentence(cause, self.label, self.lock_timeout_s))
            # Exactly this class: the file is no database, or a damaged one.
            may_pass = isinstance(error, _MAY_PASS) or type(error) is sql_errors.DatabaseError
            kind = LedgerUnavailable if may_pass else LedgerError
            raise kind(sentence) from error

    def upgrade(self, *, may_wait: bool = False) -> None:
        """Bring the schema up to date; safe when several processes do so at once.

        On a full disk it may wait: whatever the database is used for next tries again.
        """
        self._is_behind = True
        try:
            self._upgrade()
        except LedgerFull:
            if not may_wait:
                raise
            return
        self._is_behind = False
        self._file = _identity(file_of(self.url))

    def _is_full(self, cause: str) -> bool:
        """Return whether an error is SQLite's of a full disk, which it may call otherwise."""
        path = file_of(self.url)
        if path is None or "disk is full" in cause:
            return path is not None
        try:
            free = shutil.disk_usage(next(p for p in path.absolute().parents if p.exists())).free
        except OSError:
            return False
        return free < _LEAST_FREE and any(sign in cause for sign in _SIGNS_OF_FULL)

    def remake(self) -> None:
        """Make a SQLite file again that was in use and is gone, if its folder is there."""
        path = file_of(self.url)
        if path is None or self._file is None or path.exists():
            return
        if not path.parent.is_dir():
            raise LedgerUnavailable(f"{self._gone()}, with its folder")
        with self._following:
            self._use_another()

    def _follow(self) -> None:
        """Use the file that has the name now: SQLite would write to one that nobody finds."""
        with self._following:
            if self._is_behind:
                self.upgrade()
            path = file_of(self.url)
            now = _identity(path)
            if self._file is None:
                return
            if self._file == now:
                self._log = _identity(_beside(path, "-wal"))
                return
            if now is None:
                raise LedgerUnavailable(self._gone())
            self._use_another()

    def _use_another(self) -> None:
        self._engine.dispose()
        self._remove_log()
        try:
            self.upgrade()
        except LedgerError as error:
            raise LedgerUnavailable(str(error)) from error
        self.generation += 1

    def _remove_log(self) -> None:
        """Remove the log of a lost file: SQLite would apply it to the file in its place."""
        log = _beside(file_of(self.url), "-wal")
        if log is not None and self._log is not None and _identity(log) == self._log:
            with contextlib.suppress(OSError):
                log.unlink()
                log.with_name(log.name.removesuffix("wal") + "shm").unlink()

    def _gone(self) -> str:
        return f"the runs database {self.label} was removed while it was in use"

    def _upgrade(self) -> None:
        with self.translated():
            with self._engine.connect() as connection:
                if stored_schema(connection) == SCHEMA:
                    return
            with _upgrading, self._writer.connect() as connection:
                self._migrate(connection)

    def _migrate(self, connection: Connection) -> None:
        is_sqlite = connection.dialect.name == "sqlite"
        if is_sqlite:
            _use_wal(connection, self.lock_timeout_s)
            # A rebuilt table is dropped on the way; that must not cascade to what refers to it.
            _pragma(connection, "foreign_keys=OFF")
        try:
            with connection.begin():
                if not is_sqlite:  # there BEGIN IMMEDIATE has locked already
                    connection.execute(sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
                self._refuse_foreign(connection)
                _run_migrations(connection)
        finally:
            if is_sqlite:
                _pragma(connection, "foreign_keys=ON")

    def _refuse_foreign(self, connection: Connection) -> None:
        stored = stored_schema(connection)
        if stored is None and inspect(connection).has_table("runs"):
            raise LedgerError(
                f"{self.label} holds a table 'runs' that is not intramodal's; "
                "give the runs a database or schema of their own"
            )
        if stored is not None and stored not in known_schemas():
            raise LedgerError(
                f"{self.label} has schema {stored}, newer than this version's {SCHEMA}; "
                "upgrade intramodal, or give another runs database"
            )


def _beside(path: Path | None, suffix: str) -> Path | None:
    return None if path is None else path.with_name(path.name + suffix)


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Return what tells a file from another of the same name; None if there is none."""
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


_BAD_OPTION = (ValueError, TypeError, sql_errors.ArgumentError, sql_errors.SAWarning)
"""What SQLAlchemy raises, or warns of, for an option after the ?."""


def _make_engine(url: URL, lock_timeout_s: float) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    options: dict[str, Any] = {}
    if not is_sqlite and "connect_timeout" not in url.query:
        options["connect_args"] = {"connect_timeout": max(2, round(lock_timeout_s))}
    if is_sqlite and url.database in {None, "", ":memory:"}:
        # One connection, taken in turns: a second one would open a second, empty database.
        options |= {
            "pool_size": 1,
            "max_overflow": 0,
            "connect_args": {"check_same_thread": False},
        }
        from sqlalchemy.pool import QueuePool

        options["poolclass"] = QueuePool
    try:
        with warnings.catch_warnings(action="error", category=sql_errors.SAWarning):  # of options
            engine = create_engine(
                url, hide_parameters=True, pool_pre_ping=not is_sqlite, **options
            )
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"runs in PostgreSQL need the package {error.name!r}; pip install 'intramodal[server]'"
        ) from error
    except _BAD_OPTION as error:
        whole = url.render_as_string(hide_password=False)
        raise LedgerError(
            f"the runs database {Scrubber.of_url(whole).text(whole)} has an option that cannot be "
            f"used; leave out what follows the ?"
        ) from error
    _listen(engine, is_sqlite=is_sqlite, lock_timeout_ms=round(lock_timeout_s * 1000))
    return engine


def _listen(engine: Engine, *, is_sqlite: bool, lock_timeout_ms: int) -> None:
    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        if is_sqlite:
            connection.isolation_level = None  # we begin transactions ourselves, below
            connection.execute(f"PRAGMA busy_timeout={lock_timeout_ms}")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA synchronous=NORMAL")  # WAL stays consistent with it
        else:
            connection.execute(f"SET lock_timeout = {lock_timeout_ms}")
            connection.commit()

    if is_sqlite:

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # A transaction that reads first and writes later would fail at once, without
            # waiting, if somebody else wrote in between.
            is_writing = connection.get_execution_options().get("writes", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")


def _pragma(connection: Connection, pragma: str) -> str:
    """Run a pragma outside any transaction and return its answer."""
    raw: Any = connection.connection.driver_connection
    row = raw.execute(f"PRAGMA {pragma}").fetchone()
    return "" if row is None else str(row[0])


def _use_wal(connection: Connection, timeout_s: float) -> None:
    """Let readers and one writer work side by side; the file remembers it.

    SQLite answers "locked" at once, without its usual waiting, when two processes switch.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            _pragma(connection, "journal_mode=WAL")
            return
        except connection.dialect.loaded_dbapi.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise sql_errors.OperationalError("PRAGMA journal_mode", None, error) from error
        time.sleep(0.01)


def stored_schema(connection: Connection) -> str | None:
    """Return the revision that a database says it has; None if it says nothing."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(select(_VERSION.c.version_num))
    return version


def _alembic_config() -> Any:
    from alembic.config import Config  # 60 ms that an up-to-date database need not pay

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def known_schemas() -> list[str]:
    """Return the revisions this version can read or upgrade, newest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic_config())
    return [script.revision for script in scripts.walk_revisions()]


def _run_migrations(connection: Connection) -> None:
    from alembic import command

    config = _alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


_FULL = "cannot be written, the disk is full; free some space"
_SIGNS_OF_FULL = ("disk I/O error", "unable to open database file")
_LEAST_FREE = 64 * 1024
"""Bytes that SQLite needs for the files beside a database, before it can write to that."""

_REMEDIES = (
    ("database is locked", "is locked by another process for more than {timeout:g} s; try again"),
    ("lock timeout", "is locked by another process for more than {timeout:g} s; try again"),
    ("disk is full", _FULL),
    ("disk I/O error", "cannot be used, its disk is full or damaged; free some space"),
    ("readonly database", "is read-only; allow writing or give another file"),
    (
        "unable to open database file",
        "cannot be opened; check that its folder exists and allows it",
    ),
    ("not a database", "is not a SQLite database; give another file"),
    ("malformed", "is damaged; restore a copy or give another file"),
)


def _sentence(cause: str, label: str, timeout_s: float) -> str:
    for sign, remedy in _REMEDIES:
        if sign in cause:
            return f"the runs database {label} {remedy.format(timeout=timeout_s)}"
    reason = " ".join(cause.split())[:300]
    return f"the runs database {label} cannot be used ({reason}); check it or give another one"


SchemaState = Literal["absent", "empty", "current", "older", "newer", "foreign"]


@dataclass(frozen=True)
class DatabaseFacts:
    """What a runs database is."""

    url: str
    """Its password masked."""
    backend: str
    """``"sqlite"`` or ``"postgresql"``."""
    version: str
    """Empty while there is no file."""
    folder: Path | None
    """Where a SQLite file lies or would lie."""
    state: SchemaState
    """Of the schema. "absent": no file yet; "empty": no tables yet; "older": the next run
    upgrades it; "newer": than this version can read; "foreign": somebody else's."""
    schema: str | None = None
    """The stored revision."""
    n_runs: int = 0
    """0 unless the schema is current."""


def look_at(url: str | Path, *, lock_timeout_s: float = 3.0) -> DatabaseFacts:
    """Return what a runs database is, without making or changing it."""
    parsed = parse_url(url)
    path = file_of(parsed)
    database = Database(parsed, lock_timeout_s=lock_timeout_s)
    if path is not None and not path.exists():
        return DatabaseFacts(database.label, parsed.get_backend_name(), "", path.parent, "absent")
    try:
        return read_facts(database)
    finally:
        database.close()


def latest_ids(url: str | Path, *, limit: int = 50, lock_timeout_s: float = 1.0) -> list[str]:
    """Return the ids of the latest runs, the latest first, without making or changing anything.

    None of a database whose schema is not of this version.
    """
    if look_at(url, lock_timeout_s=lock_timeout_s).state != "current":
        return []
    database = Database(parse_url(url), lock_timeout_s=lock_timeout_s)
    query = select(RunRow.id).order_by(RunRow.started.desc(), RunRow.id.desc()).limit(limit)
    try:
        with database.reading() as session:
            return list(session.scalars(query))
    finally:
        database.close()


def folder_of(url: str | Path) -> Path | None:
    """Return where a SQLite file lies or would lie; None for a server or memory."""
    path = file_of(parse_url(url))
    return None if path is None else path.parent


def file_of(url: URL) -> Path | None:
    """Return the SQLite file of a URL; None for a server or memory."""
    name = url.database or ""
    is_file = url.get_backend_name() == "sqlite" and name not in {"", ":memory:"}
    return Path(name) if is_file and not name.startswith("file:") else None


def read_facts(database: Database) -> DatabaseFacts:
    """Return what a database that is there says of itself."""
    backend, path = database.url.get_backend_name(), file_of(database.url)
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
    folder = None if path is None else path.parent
    return DatabaseFacts(database.label, backend, version, folder, state, schema, n_runs)


def _state(schema: str | None, *, has_runs: bool) -> SchemaState:
    if schema is None:
        return "foreign" if has_runs else "empty"
    if schema == SCHEMA:
        return "current"
    return "older" if schema in known_schemas() else "newer"
