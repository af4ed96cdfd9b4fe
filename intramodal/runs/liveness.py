"""A sign of life at regular intervals, and who has stopped giving one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import select, update

from intramodal.runs.database import Database, LedgerUnavailable
from intramodal.runs.environment import Process, is_gone
from intramodal.runs.schema import RunRow, database_now

log = logging.getLogger(__name__)

INTERVAL_S = 10.0
GRACE = 3
"""A run is given up when its last beat is this many intervals old."""


@contextmanager
def heartbeat(beat: Callable[[], None], interval_s: float | None) -> Iterator[None]:
    """Call `beat` every `interval_s` seconds in a thread, while the block lasts; None for never.

    Without it, whether the run lives can only be told on its own host.
    """
    if interval_s is None:
        yield
        return
    is_over = threading.Event()
    thread = threading.Thread(
        target=_keep_beating, args=(beat, interval_s, is_over), name="run heartbeat", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        # A beat that hangs in the database is not waited for longer than an interval.
        thread.join(timeout=interval_s)


def _keep_beating(beat: Callable[[], None], interval_s: float, is_over: threading.Event) -> None:
    while not is_over.wait(interval_s):
        beat()


def mark_interrupted(database: Database) -> None:
    """Mark runs INTERRUPTED whose heartbeat is old or whose process here is gone.

    None are marked where the database can only be read: looking must not need the right to write.
    """
    with database.reading() as session:
        query = select(RunRow, database_now().label("now")).where(RunRow.status == "RUNNING")
        seen = [(row.RunRow, row.now) for row in session.execute(query)]
    dead = [(run, why) for run, now in seen if (why := _why_dead(run, now))]
    try:
        for run, why in dead:
            _mark(database, run, why)
    except LedgerUnavailable as error:
        log.debug("stale runs stay as they are: %s", error)


def _why_dead(run: RunRow, now: datetime) -> str | None:
    if is_gone(Process(run.host, run.pid, run.process_space, run.process_started)):
        return f"its process {run.pid} ended without finishing it"
    if run.heartbeat_interval_s is None:
        return None
    silent_for = now - run.heartbeat
    if silent_for <= timedelta(seconds=GRACE * run.heartbeat_interval_s):
        return None
    return f"no sign of life from {run.host} for {silent_for.total_seconds():.0f} s"


def _mark(database: Database, run: RunRow, why: str) -> None:
    unchanged = (
        RunRow.id == run.id,
        # It may have ended, or be back, since it was looked at.
        RunRow.status == "RUNNING",
        RunRow.heartbeat == run.heartbeat,
    )
    # The last sign of life is the best guess at its end.
    values = {"status": "INTERRUPTED", "error": why, "finished": run.heartbeat}
    with database.writing() as session:
        session.execute(update(RunRow).where(*unchanged).values(**values))
