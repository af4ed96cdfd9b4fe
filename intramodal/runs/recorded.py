"""A run that is written to the database while it works."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from intramodal.errors import InputError, LedgerError
from intramodal.runs.database import Database, LedgerUnavailable, RunFinished
from intramodal.runs.models import (
    ArtefactRow,
    CheckpointRow,
    FailureRow,
    FingerprintRow,
    MetricRow,
    RunRow,
    database_now,
)
from intramodal.runs.records import FailureRecord, FingerprintKind, Status
from intramodal.runs.scrub import Scrubber

log = logging.getLogger(__name__)

Work = Callable[[Session], object]

_RETRY_AFTER_S = 30.0
_MOST_PENDING = 10_000
_KEY_LENGTH = 255
_STAGE_LENGTH = 100


class RecordedRun:
    """A run in progress, written to the ledger.

    A database that fails while the run works (locked, full, gone) does not stop the work: the
    first failure is logged as a warning, entries wait in memory and are written as soon as the
    database answers again, at the latest when the run ends. If it never does, the run stays
    without an end and is INTERRUPTED for whoever looks next. Wrong arguments are still errors.

    Attributes
    ----------
    id : str
        Sorts by time: date, time (UTC) and four random characters.
    """

    def __init__(self, database: Database, run_id: str, scrubber: Scrubber) -> None:
        self.id = run_id
        self._database = database
        self._scrub = scrubber
        self._pending: deque[Work] = deque()
        self._lock = threading.RLock()
        self._retry_at = 0.0
        self._has_warned = False
        self._status: Status = "RUNNING"

    def __repr__(self) -> str:
        """Return id and status."""
        return f"RecordedRun({self.id!r}, {self._status})"

    def log_fingerprint(
        self,
        kind: FingerprintKind,
        name: str,
        fingerprint: str,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Record which encoder, projection or collection took part.

        Parameters
        ----------
        kind : {"encoder", "projection", "collection"}
        name : str
            The same kind and name replace an earlier entry.
        fingerprint : str
        facts : mapping, optional
            What the fingerprint covers, JSON values.
        """
        if kind not in get_args(FingerprintKind):
            allowed = ", ".join(get_args(FingerprintKind))
            raise InputError(f"a fingerprint cannot be of a {kind!r}; give one of {allowed}")
        row = {
            "kind": kind,
            "name": self._scrub.text(name),
            "fingerprint": self._scrub.text(fingerprint),
            "facts": self._scrub.json(facts or {}),
        }
        self._replace(FingerprintRow, ("kind", "name"), row)

    def log_metric(
        self,
        name: str,
        value: float | None,
        *,
        vector: str | None = None,
        field: str | None = None,
        interval: tuple[float, float] | None = None,
        n: int | None = None,
    ) -> None:
        """Record one figure.

        Parameters
        ----------
        name : str
            For example ``"map"``; the same name, vector and field replace an earlier figure.
        value : float or None
            None where it cannot be computed; NaN and infinities are stored as None.
        vector, field : str, optional
            The named vector and the label field it is of.
        interval : (float, float), optional
            Lower and upper end of its confidence interval.
        n : int, optional
            Number of cases behind it.
        """
        low, high = interval if interval is not None else (None, None)
        row = {
            "name": self._scrub.text(name),
            "vector": None if vector is None else self._scrub.text(vector),
            "field": None if field is None else self._scrub.text(field),
            "value": _finite(value),
            "low": _finite(low),
            "high": _finite(high),
            "n": None if n is None else int(n),
        }
        self._replace(MetricRow, ("name", "vector", "field"), row)

    def log_failure(self, item: str, stage: str, reason: str) -> None:
        """Record one item that could not be processed.

        Parameters
        ----------
        item : str
            Key or point id.
        stage : str
            Where: ``"read"``, ``"decode"``, ``"encode"``, ``"project"``, ``"write"``, ...
        reason : str
            One sentence.
        """
        self.log_failures([FailureRecord(item, stage, reason)])

    def log_failures(self, failures: Iterable[FailureRecord]) -> None:
        """Record many items that could not be processed, as one unit."""
        rows = [
            {
                "run": self.id,
                "item": self._scrub.text(str(failure.item)),
                "stage": self._scrub.text(failure.stage)[:_STAGE_LENGTH],
                "reason": self._scrub.text(failure.reason),
            }
            for failure in failures
        ]
        if rows:
            self._write(lambda session: session.execute(insert(FailureRow), rows))

    def save_artefact(
        self, name: str, data: bytes | Mapping[str, Any], media_type: str | None = None
    ) -> None:
        """Keep a file with the run, compressed.

        Parameters
        ----------
        name : str
            The same name replaces an earlier file.
        data : bytes or mapping
            Bytes are kept exactly; a mapping is kept as JSON, without secrets.
        media_type : str, optional
            Default ``application/octet-stream``, or ``application/json`` for a mapping.
        """
        if isinstance(data, Mapping):
            text = json.dumps(self._scrub.json(data), ensure_ascii=False, allow_nan=False)
            data, media_type = text.encode(), media_type or "application/json"
        row = {
            "name": self._scrub.text(name),
            "media_type": media_type or "application/octet-stream",
            "data": zlib.compress(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
        }
        self._replace(ArtefactRow, ("name",), row)

    def checkpoint(self, key: str, value: Any) -> None:
        """Record where the work has got to.

        Parameters
        ----------
        key : str
            At most 255 characters; the same key replaces an earlier value.
        value : JSON value
        """
        if not 0 < len(key) <= _KEY_LENGTH:
            raise InputError(
                f"a checkpoint's key has {len(key)} characters; give 1 to {_KEY_LENGTH}"
            )
        row = {"key": self._scrub.text(key), "value": self._scrub.json(value)}
        self._replace(CheckpointRow, ("key",), row | {"updated": database_now()})

    def finish(self, status: Status, error: str | None = None) -> None:
        """End the run; called by the ledger's context manager."""
        with self._lock:
            self._retry_at = 0.0
            sentence = None if error is None else self._scrub.text(error)
            self._write(lambda session: _close(session, self.id, status, sentence), is_last=True)
            self._status = status
            if self._pending:
                log.warning(
                    "the end of run %s and %d entries could not be written; it will be listed as "
                    "INTERRUPTED, its work is not affected",
                    self.id,
                    len(self._pending) - 1,
                )

    def beat(self) -> None:
        """Give a sign of life, by the database's clock."""
        with self._database.writing() as session:
            session.execute(
                update(RunRow)
                .where(RunRow.id == self.id, RunRow.status == "RUNNING")
                .values(heartbeat=database_now())
            )

    def _replace(self, table: type[Any], key: tuple[str, ...], row: dict[str, Any]) -> None:
        same = [getattr(table, column).is_not_distinct_from(row[column]) for column in key]

        def work(session: Session) -> None:
            session.execute(delete(table).where(table.run == self.id, *same))
            session.execute(insert(table).values(run=self.id, **row))

        self._write(work)

    def _write(self, work: Work, *, is_last: bool = False) -> None:
        with self._lock:
            if self._status != "RUNNING":
                raise RunFinished(
                    f"run {self.id} is {self._status} and cannot change any more; start another"
                )
            if is_last or len(self._pending) < _MOST_PENDING:
                self._pending.append(work)
            if time.monotonic() >= self._retry_at:
                self._flush()

    def _flush(self) -> None:
        while self._pending:
            try:
                with self._database.writing() as session:
                    _require_running(session, self.id)
                    self._pending[0](session)
            except LedgerUnavailable as error:
                self._warn(error)
                self._retry_at = time.monotonic() + _RETRY_AFTER_S
                return
            except LedgerError as error:
                self._warn(error)
            self._pending.popleft()

    def _warn(self, error: LedgerError) -> None:
        level = logging.DEBUG if self._has_warned else logging.WARNING
        log.log(level, "run %s goes on, but could not be recorded: %s", self.id, error)
        self._has_warned = True


def _require_running(session: Session, run_id: str) -> None:
    """Lock the run's row for this unit of work; refuse to change a finished run."""
    running = select(RunRow.status).where(RunRow.id == run_id).with_for_update()
    status = session.scalar(running)
    if status != "RUNNING":
        raise RunFinished(
            f"run {run_id} is {status or 'deleted'} in the database, ended by another process"
        )


def _close(session: Session, run_id: str, status: Status, error: str | None) -> None:
    now = database_now()
    values = {"status": status, "error": error, "finished": now, "heartbeat": now}
    session.execute(update(RunRow).where(RunRow.id == run_id).values(**values))


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
