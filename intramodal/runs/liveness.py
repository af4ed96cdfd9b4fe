"""A sign of life at regular intervals, and who has stopped giving one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, cast

from sqlalchemy import CursorResult, select, update

from intramodal.errors import LedgerError
from intramodal.runs.database import Database, LedgerUnavailable
from intramodal.runs.environment import Process, is_gone
from intramodal.runs.schema import RunRow, database_now

log = logging.getLogger(__name__)

INTERVAL_S = 10.0
GRACE = 3
"""A run is given up when its last beat is this many intervals old."""


class Heartbeat:
    """Calls `beat` every `interval_s` seconds in a thread, while the block lasts.

    Parameters
    ----------
    beat : callable
        Writes the sign of life; a `LedgerError` is logged once and the next beat tries again.
    interval_s : float
    """

    def __init__(self, beat: Callable[[], None], interval_s: float) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="run heartbeat", daemon=True)

    def __enter__(self) -> None:
        """Start beating."""
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; a beat that hangs in the database is not waited for longer than an interval."""
        self._stop.set()
        self._thread.join(timeout=self._interval_s)

    def _run(self) -> None:
        level = logging.WARNING
        while not self._stop.wait(self._interval_s):
            try:
                self._beat()
            except LedgerError as error:
                log.log(level, "no heartbeat: %s", error)
                level = logging.DEBUG


class NullHeartbeat:
    """No heartbeat: whether the run lives can only be told on its own host."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing."""


def heartbeat(beat: Callable[[], None], interval_s: float | None) -> Heartbeat | NullHeartbeat:
    """Return a heartbeat, or its null twin where `interval_s` is None."""
    return NullHeartbeat() if interval_s is None else Heartbeat(beat, interval_s)


def mark_interrupted(database: Database) -> list[str]:
    """Mark runs INTERRUPTED whose heartbeat is old or whose process here is gone.

    Returns
    -------
    list of str
        Ids of the runs that were marked. Empty too where the database can only be read: looking
        at runs must not need the right to write.
    """
    with database.reading() as session:
        query = select(RunRow, database_now().label("now")).where(RunRow.status == "RUNNING")
        seen = [(row.RunRow, row.now) for row in session.execute(query)]
    dead = [(run, why) for run, now in seen if (why := _why_dead(run, now))]
    try:
        return [run.id for run, why in dead if _mark(database, run, why)]
    except LedgerUnavailable as error:
        log.debug("stale runs stay as they are: %s", error)
        return []


def _why_dead(run: RunRow, now: datetime) -> str | None:
    if is_gone(Process(run.host, run.pid, run.process_space, run.process_started)):
        return f"its process {run.pid} ended without finishing it"
    if run.heartbeat_interval_s is None:
        return None
    silent_for = now - run.heartbeat
    if silent_for <= timedelta(seconds=GRACE * run.heartbeat_interval_s):
        return None
    return f"no sign of life from {run.host} for {silent_for.total_seconds():.0f} s"


def _mark(database: Database, run: RunRow, why: str) -> bool:
    unchanged = (
        RunRow.id == run.id,
        # It may have ended, or be back, since it was looked at.
        RunRow.status == "RUNNING",
        RunRow.heartbeat == run.heartbeat,
    )
    # The last sign of life is the best guess at its end.
    values = {"status": "INTERRUPTED", "error": why, "finished": run.heartbeat}
    with database.writing() as session:
        done = session.execute(update(RunRow).where(*unchanged).values(**values))
        return cast("CursorResult[Any]", done).rowcount == 1
