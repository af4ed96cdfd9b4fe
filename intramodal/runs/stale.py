"""Runs that ended without a word: found and marked by whoever looks next."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, select, update

from intramodal.runs.database import Database, LedgerUnavailable
from intramodal.runs.environment import Process, is_gone
from intramodal.runs.heartbeat import GRACE
from intramodal.runs.models import RunRow, database_now

log = logging.getLogger(__name__)


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
