"""What a run has to write, kept until the database has it: a database may fail and come back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from intramodal.errors import LedgerError
from intramodal.runs.database import Database, LedgerFull, LedgerUnavailable, RunFinished
from intramodal.runs.schema import RunRow

log = logging.getLogger(__name__)

_RETRY_AFTER_S = 30.0
_MOST_WAITING = 10_000
_MOST_KEPT = 10_000
"""Rows that are kept after they were written, for a database that is lost later."""

Work = Callable[[Session], object]


@dataclass
class Outage:
    """What a ledger's runs know together of a database that fails: it is warned of once."""

    retry_at: float = 0.0
    has_warned: bool = False

    def warn(self, sentence: str, *arguments: object) -> None:
        """Log the first trouble as a warning, and what follows for debugging."""
        log.log(logging.DEBUG if self.has_warned else logging.WARNING, sentence, *arguments)
        self.has_warned = True


@dataclass
class _Entry:
    work: Work | None
    """None once it is written and was one too many to keep."""
    n_rows: int


class Outbox:
    """The entries of one run in their order, of which the first is its row.

    Those that are written are kept, too: where the database was lost and is replaced by another,
    all are written again.

    Parameters
    ----------
    database : Database
    outage : Outage
        Shared by all runs of a ledger.
    above : Outbox, optional
        That of the run this one belongs to: its row comes first, and it takes with it at its end
        what this one could not write.
    """

    def __init__(self, database: Database, outage: Outage, above: Outbox | None = None) -> None:
        self.run_id = ""
        self._database = database
        self._outage = outage
        self._above = above
        self._left_over: list[Outbox] = []
        self._entries: list[_Entry] = []
        self._n_written = 0
        self._n_kept = 0
        self._generation = database.generation
        self._lock = threading.RLock()

    def enter(self, first: Work, again: Work) -> bool:
        """Write the run's row and return whether that was possible; `again` writes it anew.

        Raises
        ------
        LedgerError
            If it cannot be, unless the disk is full, or the run is part of another, which must not
            fail by that.
        """
        try:
            if self._above is not None and time.monotonic() < self._outage.retry_at:
                raise LedgerUnavailable("the database did not respond a moment ago")
            with self._database.writing() as session:
                first(session)
            self._n_written = 1
        except LedgerUnavailable as error:
            if self._above is None and not isinstance(error, LedgerFull):
                raise
            self._fails(error)
        self._entries = [_Entry(again, 0)]
        return self._n_written == 1

    def add(self, work: Work, *, n_rows: int = 1) -> None:
        """Write an entry now, or when the database can be used again."""
        with self._lock:
            if len(self._entries) - self._n_written < _MOST_WAITING:
                self._entries.append(_Entry(work, n_rows))
            if time.monotonic() >= self._outage.retry_at:
                self._write_all()

    def close(self, last: Work) -> None:
        """Write the last entry and all that waits.

        A file that was removed is made again, but by a run that is part of no other.
        """
        with self._lock:
            self._entries.append(_Entry(last, 1))
            if self._above is None:
                self._outage.retry_at = 0.0
                self._remake()
            is_whole = time.monotonic() >= self._outage.retry_at and self._write_all()
            if not is_whole and self._above is not None:
                self._above.take_over(self)
            for below in self._left_over if is_whole else ():
                is_whole = below.close_late() and is_whole
            if is_whole:
                self._entries, self._n_written = [], 0
            elif self._above is None:
                log.info("run %s is not in the runs database as a whole", self.run_id)

    def take_over(self, below: Outbox) -> None:
        """Keep what a part of this run could not write."""
        with self._lock:
            self._left_over += [below, *below._left_over]
            below._left_over = []

    def close_late(self) -> bool:
        """Write what is left over of a run that has ended; return whether that was all."""
        with self._lock:
            return self._write_all()

    def beat(self, work: Work) -> None:
        """Write a sign of life, which need not be written later."""
        try:
            with self._database.writing() as session:
                work(session)
        except LedgerError as error:
            self._fails(error)

    def _write_all(self) -> bool:
        """Write what waits, and return whether nothing waits any more."""
        while True:
            if self._n_written == len(self._entries):
                return True
            try:
                self._write_next()
            except LedgerUnavailable as error:
                self._fails(error)
                return False
            except _LostError:
                self._begin_again()
                continue
            except LedgerError as error:
                self._fails(error)
                if not self._n_written:  # without its row there is nothing to write to
                    return False
            self._has_written()

    def _write_next(self) -> None:
        work = self._entries[self._n_written].work
        with self._database.writing() as session:
            if self._n_written:
                self._require_running(session)
            if work is not None:
                work(session)

    def _require_running(self, session: Session) -> None:
        """Refuse to write to a finished run; a database that cannot even tell is not the run's."""
        if self._generation != self._database.generation:
            raise _LostError("there is another file")
        try:
            with self._database.translated():
                _require_running(session, self.run_id)
        except (RunFinished, _LostError):
            raise
        except LedgerError as error:
            raise LedgerUnavailable(str(error)) from error

    def _has_written(self) -> None:
        """Keep an entry that is written, unless there are too many."""
        entry = self._entries[self._n_written]
        self._n_written += 1
        self._n_kept += entry.n_rows
        if self._n_kept > _MOST_KEPT:
            entry.work = None
            self._n_kept -= entry.n_rows

    def _begin_again(self) -> None:
        """Write everything to what is another database than before."""
        if self._above is not None:
            with self._above._lock:
                self._above._write_all()
        self._n_written, self._n_kept = 0, 0
        self._generation = self._database.generation
        self._outage.warn(
            "the runs database was removed or replaced while run %s worked; the run is written to "
            "the one that is there now",
            self.run_id,
        )

    def _remake(self) -> None:
        try:
            self._database.remake()
        except LedgerError as error:
            self._fails(error)

    def _fails(self, error: LedgerError) -> None:
        run_id = self.run_id or (self._above.run_id if self._above else "")
        self._outage.warn(
            "%s continues, but could not be recorded: %s; what is missing is written if the "
            "database is back before the end",
            f"run {run_id}" if run_id else "the run",
            error,
        )
        if isinstance(error, LedgerUnavailable):
            self._outage.retry_at = time.monotonic() + _RETRY_AFTER_S


class _LostError(LedgerError):
    """Raised in another database than the one that the run was written to."""


def _require_running(session: Session, run_id: str) -> None:
    """Lock the run's row for this unit of work; refuse to change a finished run."""
    running = select(RunRow.status).where(RunRow.id == run_id).with_for_update()
    status = session.scalar(running)
    if status is None:  # no process deletes a run that is RUNNING
        raise _LostError(f"run {run_id} is not in the database any more")
    if status != "RUNNING":
        raise RunFinished(f"run {run_id} is {status} in the database, ended by another process")
