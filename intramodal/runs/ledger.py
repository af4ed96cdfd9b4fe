"""The runs database as Python sees it: record a run, look at runs, compare, prune."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from intramodal.errors import InputError, LedgerError
from intramodal.runs import heartbeat, stale
from intramodal.runs.database import Database, parse_url
from intramodal.runs.environment import command_line, git_state, package_versions, this_process
from intramodal.runs.models import RunRow, database_now
from intramodal.runs.reader import LedgerReader
from intramodal.runs.recorded import RecordedRun
from intramodal.runs.records import RunRecord, Status
from intramodal.runs.run import Run
from intramodal.runs.scrub import Scrubber

__all__ = ["DEFAULT_URL", "Run", "RunLedger"]

DEFAULT_URL = "./.intramodal/runs.db"

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,39}")
# No vowels, no look-alikes: ids are read out and typed.
_LETTERS = "23456789bcdfghjkmnpqrstvwxz"
_LARGEST_SEED = 2**63 - 1


class RunLedger(LedgerReader):
    """What has been run, in SQLite or PostgreSQL.

    Made by `RunLedger.open`; safe to use from several threads and, through several ledgers, from
    several processes and hosts.

    Examples
    --------
    >>> with RunLedger.open(":memory:") as ledger:
    ...     with ledger.run("evaluate", seed=0) as run:
    ...         run.log_metric("map", 0.5, vector="pca", field="label")
    ...     print(ledger.get(run.id).status, ledger.metrics(run.id)[0].value)
    COMPLETE 0.5
    """

    def __init__(self, database: Database, *, heartbeat_interval_s: float | None) -> None:
        super().__init__(database)
        self._heartbeat_interval_s = heartbeat_interval_s

    @classmethod
    def open(
        cls,
        url: str | Path = DEFAULT_URL,
        *,
        create: bool = True,
        heartbeat_interval_s: float | None = heartbeat.INTERVAL_S,
        lock_timeout_s: float = 10.0,
    ) -> RunLedger:
        """Open a runs database, and bring its schema up to date.

        Parameters
        ----------
        url : str or Path
            A file (SQLite), ``:memory:``, or a SQLAlchemy URL of SQLite or PostgreSQL.
        create : bool
            Whether a file that does not exist is made, with its folder.
        heartbeat_interval_s : float or None
            Seconds between signs of life of a run; None for none.
        lock_timeout_s : float
            Seconds to wait for another process that writes.

        Raises
        ------
        LedgerError
            If it cannot be opened, is not ours, or is newer than this version.
        """
        database = Database(parse_url(url), lock_timeout_s=lock_timeout_s)
        try:
            _prepare_file(database, create=create)
            database.upgrade()
        except BaseException:
            database.close()
            raise
        return cls(database, heartbeat_interval_s=heartbeat_interval_s)

    def __enter__(self) -> RunLedger:
        """Return the ledger."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close all connections."""
        self.close()

    def __repr__(self) -> str:
        """Return the URL, its password masked."""
        return f"RunLedger({self.url!r})"

    def close(self) -> None:
        """Close all connections; the ledger can still be used and opens them again."""
        self._database.close()

    @contextmanager
    def run(
        self,
        kind: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        seed: int | None = None,
        command: Sequence[str] | None = None,
        parent: str | None = None,
    ) -> Iterator[RecordedRun]:
        """Record what happens in the block as one run.

        It ends COMPLETE; FAILED if the block raises (the error is stored and raised on);
        INTERRUPTED on Ctrl-C. A block that is killed is INTERRUPTED for whoever looks next.

        Parameters
        ----------
        kind : str
            ``"ingest"``, ``"compare"``, ...: lower-case letters, digits, ``-`` and ``_``.
        parameters : mapping, optional
            JSON values; what JSON lacks is stored as text, secrets are masked.
        seed : int, optional
        command : sequence of str, optional
            The command line; default that of this process. Secrets are masked.
        parent : str, optional
            Id of the run this one belongs to or resumes.

        Raises
        ------
        LedgerError
            If the run cannot be entered: before the block starts. Later trouble with the
            database does not reach the block (see `RecordedRun`).
        """
        scrubber = Scrubber.from_environment(_secret_url(self._database))
        facts = {
            "kind": _checked_kind(kind),
            "seed": _checked_seed(seed),
            "parent": None if parent is None else self.get(parent).id,
            "parameters": scrubber.json(parameters or {}),
            "command": scrubber.command(command_line() if command is None else command),
        }
        run_id = self._enter(facts | {"packages": package_versions(), "git": git_state()})
        recorded = RecordedRun(self._database, run_id, scrubber)
        with heartbeat.heartbeat(recorded.beat, self._heartbeat_interval_s), _ending(recorded):
            yield recorded

    def _enter(self, facts: dict[str, Any]) -> str:
        stale.mark_interrupted(self._database)
        process = this_process()
        with self._database.writing() as session:
            now = session.scalar(select(database_now())) or datetime.now(UTC)
            row = RunRow(
                id=_unused_id(session, now),
                status="RUNNING",
                started=now,
                heartbeat=now,
                heartbeat_interval_s=self._heartbeat_interval_s,
                host=process.host,
                pid=process.pid,
                process_space=process.space,
                process_started=process.started,
                **facts,
            )
            session.add(row)
            session.flush()
            return row.id

    def prune(
        self,
        *,
        older_than: timedelta | None = None,
        keep: int | None = None,
        kind: str | None = None,
        status: Status | None = None,
        dry_run: bool = False,
    ) -> list[RunRecord]:
        """Delete finished runs with all that belongs to them, and return them.

        Every criterion given must hold; a run that is RUNNING is never deleted.

        Parameters
        ----------
        older_than : timedelta, optional
            Only runs that started longer ago.
        keep : int, optional
            Spare the latest so many of the runs that the other criteria meet.
        kind, status : str, optional
            Only these.
        dry_run : bool
            Only return what would be deleted.

        Raises
        ------
        InputError
            If no criterion is given.
        """
        if older_than is None and keep is None and kind is None and status is None:
            raise InputError("nothing says which runs to delete; give an age, a number to keep, "
                             "a kind or a status")  # fmt: skip
        candidates = [r for r in self.runs(kind=kind, status=status) if r.status != "RUNNING"]
        if older_than is not None:
            with self._database.reading() as session:
                now = session.scalar(select(database_now())) or datetime.now(UTC)
            candidates = [run for run in candidates if run.started < now - older_than]
        doomed = candidates[keep or 0 :]
        if doomed and not dry_run:
            self._delete([run.id for run in doomed])
        return doomed

    def _delete(self, ids: list[str]) -> None:
        with self._database.writing() as session:
            for first in range(0, len(ids), 500):  # SQLite allows 999 values in old versions
                some: ColumnElement[bool] = RunRow.id.in_(ids[first : first + 500])
                session.execute(delete(RunRow).where(some, RunRow.status != "RUNNING"))


@contextmanager
def _ending(run: RecordedRun) -> Iterator[None]:
    """Give the run the end that the block has."""
    try:
        yield
    except KeyboardInterrupt as error:
        run.finish("INTERRUPTED", str(error) or "stopped by the user")
        raise
    except BaseException as error:
        is_exit = isinstance(error, SystemExit) and not error.code
        run.finish(*(("COMPLETE", None) if is_exit else ("FAILED", _error_sentence(error))))
        raise
    run.finish("COMPLETE")


def _error_sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:2000]


def _prepare_file(database: Database, *, create: bool) -> None:
    """Make the folder of a SQLite file, or refuse a file that is not there."""
    name = database.url.database
    is_file = database.url.get_backend_name() == "sqlite" and name and name != ":memory:"
    if not is_file or str(name).startswith("file:"):
        return
    path = Path(str(name))
    if path.is_dir():
        raise LedgerError(f"the runs database {database.label} is a folder; name a file in it")
    if not create and not path.exists():
        raise LedgerError(
            f"there is no runs database {path}; run something first, or name another"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"the folder of the runs database {path} cannot be made ({error.strerror}); "
            "give another file"
        ) from error


def _secret_url(database: Database) -> str:
    return database.url.render_as_string(hide_password=False)


def _unused_id(session: Session, now: datetime) -> str:
    while True:  # ends: 27**4 ids a second
        letters = "".join(secrets.choice(_LETTERS) for _ in range(4))
        run_id = f"{now:%Y%m%d-%H%M%S}-{letters}"
        if session.get(RunRow, run_id) is None:
            return run_id


def _checked_kind(kind: str) -> str:
    if not _KIND.fullmatch(kind):
        raise InputError(
            f"a run cannot be of kind {kind!r}; give 1 to 40 lower-case letters, digits, - or _"
        )
    return kind


def _checked_seed(seed: int | None) -> int | None:
    if seed is not None and abs(seed) > _LARGEST_SEED:
        raise InputError(f"the seed {seed} does not fit 64 bits; give a smaller one")
    return None if seed is None else int(seed)
