"""The runs database as Python sees it: record a run, look at runs, compare, prune."""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import logging
import math
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.orm import Session

from intramodal.errors import InputError, LedgerError
from intramodal.runs.database import (
    Database,
    LedgerFull,
    RunFinished,
    file_of,
    parse_url,
    read_facts,
)
from intramodal.runs.environment import command_line, git_state, package_versions, this_process
from intramodal.runs.liveness import INTERVAL_S, heartbeat, mark_interrupted
from intramodal.runs.outbox import Outage, Outbox, Work
from intramodal.runs.records import (
    KINDS,
    ArtefactRecord,
    FailureRecord,
    FingerprintKind,
    FingerprintRecord,
    MetricPair,
    MetricRecord,
    RunComparison,
    RunRecord,
    RunTable,
    Status,
    differences,
)
from intramodal.runs.run import Origin, Recordable, Run
from intramodal.runs.schema import (
    ArtefactRow,
    CheckpointRow,
    FailureRow,
    FingerprintRow,
    MetricRow,
    RunRow,
    database_now,
)
from intramodal.runs.scrub import Scrubber

log = logging.getLogger(__name__)

DEFAULT_URL = "./.intramodal/runs.db"

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,39}")
# No vowels, no look-alikes: ids are read out and typed.
_LETTERS = "23456789bcdfghjkmnpqrstvwxz"
_LARGEST_SEED = 2**63 - 1
_KEY_LENGTH = 255
_STAGE_LENGTH = 100


class RecordedRun(Run):
    """A run in progress, written to the ledger.

    A database that fails while the run works (locked, full, gone) does not stop the work: the
    first failure is logged as a warning, entries wait in memory and are written as soon as the
    database answers again, at the latest when the run ends. If it never does, the run stays
    without an end and is INTERRUPTED for whoever looks next. A file that was removed is made
    again at the end, with this run. Wrong arguments are still errors.

    Attributes
    ----------
    id : str
        Sorts by time: date, time (UTC) and four random characters.
    """

    id: str = ""

    def __init__(self, scrubber: Scrubber, outbox: Outbox) -> None:
        self._scrub = scrubber
        self._outbox = outbox
        self._facts: dict[str, Any] = {}
        self._status: Status = "RUNNING"

    def __repr__(self) -> str:
        """Return id and status."""
        return f"RecordedRun({self.id!r}, {self._status})"

    @property
    def record(self) -> RunRecord:
        """What is known of the run without looking into the database."""
        seen = {"finished": None, "heartbeat": self._facts["started"], "error": None}
        values = {**seen, **self._facts, "status": self._status}
        return _run_record(values)

    def enter(self, facts: Mapping[str, Any]) -> None:
        """Write the run's row; one that is stopped while this commits knows its id, too.

        Called by the ledger; raises `LedgerError` if that cannot be and the run is no part of
        another.
        """
        facts = {"status": "RUNNING", **facts}

        def first(session: Session) -> None:
            now = session.scalar(select(database_now())) or datetime.now(UTC)
            run_id = _unused_id(session, now)
            session.execute(insert(RunRow).values(**facts, **_begun(run_id, now)))
            self._name(run_id, now, facts)

        def again(session: Session) -> None:
            if session.get(RunRow, self.id) is None:
                session.execute(insert(RunRow).values(**self._facts, heartbeat=database_now()))
            # Everything else replaces what has the same name.
            session.execute(delete(FailureRow).where(FailureRow.run == self.id))

        if not self._outbox.enter(first, again):
            now = datetime.now(UTC)
            self._name(_new_id(now), now, facts)

    def _name(self, run_id: str, started: datetime, facts: Mapping[str, Any]) -> None:
        self._facts = {**facts, "id": run_id, "started": started}
        self.id = self._outbox.run_id = run_id

    def keep(self, result: Recordable) -> None:
        """Record what a result has to record."""
        result.record(self)

    def log_origins(
        self,
        origins: Mapping[str, Origin],
        *,
        collection: str | None = None,
        dataset: str | None = None,
    ) -> None:
        """Record which encoder and projection made each named vector.

        What the latest run that named them knew about them is recorded again, from the database.

        Parameters
        ----------
        origins : mapping of str to Origin
            By named vector.
        collection, dataset : str, optional
            The collection that has these vectors, and the data set that it holds: figures of
            several collections in one run have their own models and data sets.
        """
        if collection is not None:
            vectors = {vector: str(origin) for vector, origin in sorted(origins.items())}
            facts = {"dataset": dataset or collection, "vectors": vectors}
            text = json.dumps(facts, sort_keys=True).encode()
            fingerprint = hashlib.sha256(text).hexdigest()
            self.log_fingerprint("collection", collection, fingerprint, facts)
        for vector, origin in origins.items():
            self._write(partial(self._put_origin, vector=vector, origin=origin))

    def log_origin(
        self, vector: str, origin: Origin, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Record which encoder or projection made one vector, and what is known about that."""
        row = self._origin_row(vector, origin, facts or {})
        self._replace(FingerprintRow, ("kind", "name"), row)

    def _origin_row(self, vector: str, origin: Origin, facts: Mapping[str, Any]) -> dict[str, Any]:
        return self._fingerprint_row(
            "projection" if origin.projection else "encoder",
            str(origin),
            origin.projection or origin.encoder_fingerprint,
            {**facts, "vector": vector},
        )

    def _put_origin(self, session: Session, *, vector: str, origin: Origin) -> None:
        """Write an origin with what the database knows about it at that time."""
        facts = _known_facts(session, origin.projection or origin.encoder_fingerprint)
        row = self._origin_row(vector, origin, facts)
        self._put(session, FingerprintRow, ("kind", "name"), row)

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
        row = self._fingerprint_row(kind, name, fingerprint, facts or {})
        self._replace(FingerprintRow, ("kind", "name"), row)

    def _fingerprint_row(
        self, kind: str, name: str, fingerprint: str, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "kind": kind,
            "name": self._scrub.text(name),
            "fingerprint": self._scrub.text(fingerprint),
            "facts": self._scrub.json(facts),
        }

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
            self._write(lambda session: session.execute(insert(FailureRow), rows), len(rows))

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
        """End the run; called by the ledger's context manager, also before it is entered."""
        if not self.id:
            return
        self._require_open()
        sentence = None if error is None else self._scrub.text(error)
        self._outbox.close(lambda session: _close(session, self.id, status, sentence))
        self._status = status

    def beat(self) -> None:
        """Give a sign of life, by the database's clock."""
        self._outbox.beat(
            lambda session: session.execute(
                update(RunRow)
                .where(RunRow.id == self.id, RunRow.status == "RUNNING")
                .values(heartbeat=database_now())
            )
        )

    def _replace(self, table: type[Any], key: tuple[str, ...], row: dict[str, Any]) -> None:
        self._write(lambda session: self._put(session, table, key, row))

    def _put(
        self, session: Session, table: type[Any], key: tuple[str, ...], row: dict[str, Any]
    ) -> None:
        """Write a row in place of the one with the same `key` columns, if there is one."""
        same = [getattr(table, column).is_not_distinct_from(row[column]) for column in key]
        session.execute(delete(table).where(table.run == self.id, *same))
        session.execute(insert(table).values(run=self.id, **row))

    def _write(self, work: Work, n_rows: int = 1) -> None:
        self._require_open()
        self._outbox.add(work, n_rows=n_rows)

    def _require_open(self) -> None:
        if self._status != "RUNNING":
            raise RunFinished(
                f"run {self.id} is {self._status} and cannot change any more; start another"
            )


def _known_facts(session: Session, fingerprint: str) -> dict[str, Any]:
    """Return what the latest run that named a fingerprint knew about it; may be empty."""
    query = (
        select(FingerprintRow.facts)
        .where(FingerprintRow.fingerprint == fingerprint)
        .order_by(FingerprintRow.id.desc())
    )
    return next((dict(facts) for facts in session.scalars(query) if facts), {})


def _close(session: Session, run_id: str, status: Status, error: str | None) -> None:
    now = database_now()
    values = {"status": status, "error": error, "finished": now, "heartbeat": now}
    session.execute(update(RunRow).where(RunRow.id == run_id).values(**values))


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


class RunLedger:
    """What has been run, in SQLite or PostgreSQL.

    Made by `RunLedger.open`; safe to use from several threads and, through several ledgers, from
    several processes and hosts. Whoever looks marks the runs that ended without a word as
    INTERRUPTED.

    Examples
    --------
    >>> with RunLedger.open(":memory:") as ledger:
    ...     with ledger.run("evaluate", seed=0) as run:
    ...         run.log_metric("map", 0.5, vector="pca", field="label")
    ...     print(ledger.get(run.id).status, ledger.metrics(run.id)[0].value)
    COMPLETE 0.5
    """

    def __init__(self, database: Database, *, heartbeat_interval_s: float | None) -> None:
        self._database = database
        self._heartbeat_interval_s = heartbeat_interval_s
        self._outage = Outage()
        self._own: dict[str, RecordedRun] = {}

    @classmethod
    def open(
        cls,
        url: str | Path = DEFAULT_URL,
        *,
        create: bool = True,
        heartbeat_interval_s: float | None = INTERVAL_S,
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
            database.upgrade(may_wait=create)
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

    @property
    def url(self) -> str:
        """The database's URL, its password masked."""
        return self._database.label

    def describe(self) -> dict[str, Any]:
        """Return backend, its version, the schema, the URL without password and the runs' number.

        JSON values.
        """
        facts = read_facts(self._database)
        return {
            name: getattr(facts, name)
            for name in ("url", "backend", "version", "schema", "n_runs")
        }

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
            If the run cannot be entered: before the block starts. A full disk does not reach the
            block, nor does later trouble with the database (see `RecordedRun`), nor any that of a
            run whose parent is a block of this ledger.
        """
        _check(kind, seed)
        scrubber = Scrubber.from_environment(
            self._database.url.render_as_string(hide_password=False)
        )
        above = None if parent is None else self._own.get(parent)
        facts = {
            "kind": kind,
            "seed": None if seed is None else int(seed),
            "parent": None if parent is None else above.id if above else self.get(parent).id,
            "parameters": scrubber.json(parameters or {}),
            "command": scrubber.command(command_line() if command is None else command),
        }
        facts |= {"packages": package_versions(), "git": git_state()}
        outbox = Outbox(self._database, self._outage, above._outbox if above else None)
        recorded = RecordedRun(scrubber, outbox)
        with heartbeat(recorded.beat, self._heartbeat_interval_s), _ending(recorded):
            self._enter(recorded, facts)
            yield recorded
        if above is not None:
            del self._own[recorded.id]

    def _enter(self, recorded: RecordedRun, facts: dict[str, Any]) -> None:
        process = this_process()
        ours = {
            "heartbeat_interval_s": self._heartbeat_interval_s,
            "host": process.host,
            "pid": process.pid,
            "process_space": process.space,
            "process_started": process.started,
        }
        if facts["parent"] is None:
            with suppress(LedgerFull):  # warned of when the run is entered
                mark_interrupted(self._database)
        recorded.enter(facts | ours)
        self._own[recorded.id] = recorded

    def runs(
        self, kind: str | None = None, status: Status | None = None, limit: int | None = None
    ) -> RunTable:
        """Return runs, the latest first.

        Parameters
        ----------
        kind, status : str, optional
            Only these.
        limit : int, optional
            At most so many.

        Returns
        -------
        RunTable
            A list of `RunRecord`, with `to_frame` and a table for notebooks.
        """
        mark_interrupted(self._database)
        query = select(RunRow).order_by(RunRow.started.desc(), RunRow.id.desc())
        if kind is not None:
            query = query.where(RunRow.kind == kind)
        if status is not None:
            query = query.where(RunRow.status == _checked_status(status))
        if limit is not None:
            query = query.limit(limit)
        with self._database.reading() as session:
            return RunTable(_run_record(vars(row)) for row in session.scalars(query))

    def require_kind(self, kind: str) -> None:
        """Raise `InputError` for a kind that neither our commands nor any run here has."""
        known = sorted({*KINDS, *(run.kind for run in self.runs())})
        if kind not in known:
            close = difflib.get_close_matches(kind, known, n=3) or known
            raise InputError(
                f"there are no runs of kind {kind!r}; did you mean {' or '.join(close)}?"
            )

    def get(self, id_or_prefix: str) -> RunRecord:
        """Return one run by its id or the beginning of it.

        Of a run of this ledger what is known is returned where the database cannot be used.

        Raises
        ------
        LedgerError
            If no run, or more than one, has it; the message names the closest ids.
        """
        try:
            return self._stored(id_or_prefix)
        except LedgerError:
            if id_or_prefix in self._own:
                return self._own[id_or_prefix].record
            raise

    def _stored(self, id_or_prefix: str) -> RunRecord:
        mark_interrupted(self._database)
        begins = RunRow.id.startswith(id_or_prefix, autoescape=True)
        query = select(RunRow).where(begins).order_by(RunRow.id.desc()).limit(6)
        with self._database.reading() as session:
            rows = list(session.scalars(query))
        exact = [row for row in rows if row.id == id_or_prefix]
        if id_or_prefix and len(exact or rows) == 1:
            return _run_record(vars((exact or rows)[0]))
        raise LedgerError(self._no_such_run(id_or_prefix, [row.id for row in rows]))

    def _no_such_run(self, given: str, candidates: list[str]) -> str:
        if candidates:
            named = ", ".join(candidates[:5]) + (", ..." if len(candidates) > 5 else "")
            return f"{given!r} begins more than one run: {named}; give more of the id"
        with self._database.reading() as session:
            latest = select(RunRow.id).order_by(RunRow.started.desc()).limit(1000)
            ids = list(session.scalars(latest))
        if not ids:
            return f"there is no run {given!r}: {self.url} has no runs yet"
        close = difflib.get_close_matches(given, ids, n=3, cutoff=0.5) or ids[:3]
        return f"there is no run {given!r}; did you mean {' or '.join(close)}?"

    def metrics(self, run_id: str) -> list[MetricRecord]:
        """Return a run's figures, in the order they were recorded."""
        names = ("name", "value", "vector", "field", "low", "high", "n")
        return [
            MetricRecord(**{name: getattr(row, name) for name in names})
            for row in self._children(MetricRow, run_id)
        ]

    def failures(self, run_id: str) -> list[FailureRecord]:
        """Return the items a run could not process."""
        rows = self._children(FailureRow, run_id)
        return [FailureRecord(row.item, row.stage, row.reason) for row in rows]

    def fingerprints(self, run_id: str) -> list[FingerprintRecord]:
        """Return the identities of what took part in a run."""
        rows = self._children(FingerprintRow, run_id)
        return [FingerprintRecord(row.kind, row.name, row.fingerprint, row.facts) for row in rows]

    def facts(self, fingerprint: str) -> dict[str, Any]:
        """Return what the latest run that named a fingerprint knew about it; may be empty."""
        with self._database.reading() as session:
            return _known_facts(session, fingerprint)

    def artefacts(self, run_id: str) -> list[ArtefactRecord]:
        """Return a run's files without their content."""
        run_id = self.get(run_id).id
        table = ArtefactRow
        columns = (table.name, table.media_type, table.size, table.sha256)
        query = select(*columns).where(table.run == run_id).order_by(table.name)
        with self._database.reading() as session:
            return [ArtefactRecord(*row) for row in session.execute(query)]

    def artefact(self, run_id: str, name: str) -> bytes:
        """Return the content of one of a run's files."""
        run_id = self.get(run_id).id
        query = select(ArtefactRow.data).where(ArtefactRow.run == run_id, ArtefactRow.name == name)
        with self._database.reading() as session:
            data = session.scalar(query)
        if data is None:
            names = ", ".join(file.name for file in self.artefacts(run_id)) or "none"
            raise LedgerError(f"run {run_id} has no artefact {name!r}; it has: {names}")
        return zlib.decompress(data)

    def checkpoints(self, run_id: str) -> dict[str, Any]:
        """Return where a run had got to, by key."""
        run_id = self.get(run_id).id
        query = (
            select(CheckpointRow).where(CheckpointRow.run == run_id).order_by(CheckpointRow.key)
        )
        with self._database.reading() as session:
            return {row.key: row.value for row in session.scalars(query)}

    def _children(self, table: type[Any], run_id: str) -> list[Any]:
        run_id = self.get(run_id).id
        query = select(table).where(table.run == run_id).order_by(table.id)
        with self._database.reading() as session:
            return list(session.scalars(query))

    def compare(self, a: str, b: str) -> RunComparison:
        """Return what differs between two runs, and their figures side by side."""
        run_a, run_b = self.get(a), self.get(b)
        left, right = self.metrics(run_a.id), self.metrics(run_b.id)
        values_a = {metric.key: metric.value for metric in left}
        values_b = {metric.key: metric.value for metric in right}
        return RunComparison(
            a=run_a,
            b=run_b,
            metrics=tuple(
                MetricPair(*key, values_a.get(key), values_b.get(key))
                for key in dict.fromkeys((*values_a, *values_b))
            ),
            parameters=differences(run_a.parameters, run_b.parameters),
            packages=differences(run_a.packages, run_b.packages),
            fingerprints=differences(self._identities(run_a.id), self._identities(run_b.id)),
        )

    def _identities(self, run_id: str) -> dict[str, str]:
        return {f"{f.kind} {f.name}": f.fingerprint for f in self.fingerprints(run_id)}

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


def _checked_status(status: str) -> str:
    if status not in get_args(Status):
        close = difflib.get_close_matches(status.upper(), get_args(Status)) or get_args(Status)
        raise InputError(f"there is no status {status!r}; give {' or '.join(close)}")
    return status


def _run_record(row: Mapping[str, Any]) -> RunRecord:
    values = {name: row[name] for name in RunRecord.__dataclass_fields__}
    return RunRecord(**values | {"command": tuple(row["command"])})


@contextmanager
def _ending(run: RecordedRun) -> Iterator[None]:
    """Give the run the end that the block has."""
    try:
        yield
    except KeyboardInterrupt as error:
        run.finish("INTERRUPTED", str(error) or "stopped by the user")
        raise
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:
            run.finish("COMPLETE")
        else:
            run.finish("FAILED", f"{type(error).__name__}: {error}"[:2000])
        raise
    run.finish("COMPLETE")


def _prepare_file(database: Database, *, create: bool) -> None:
    """Make the folder of a SQLite file, or refuse a file that is not there."""
    path = file_of(database.url)
    if path is None:
        return
    if path.is_dir():
        raise LedgerError(f"the runs database {database.label} is a folder; name a file in it")
    if not create and not path.exists():
        raise LedgerError(
            f"there is no runs database {path}; run something first, or name another"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:  # as a full disk is: there may be room at the end
            return
        raise LedgerError(
            f"the folder of the runs database {path} cannot be made ({error.strerror}); "
            "give another file"
        ) from error


def _unused_id(session: Session, now: datetime) -> str:
    while True:  # ends: 27**4 ids a second
        run_id = _new_id(now)
        if session.get(RunRow, run_id) is None:
            return run_id


def _new_id(now: datetime) -> str:
    letters = "".join(secrets.choice(_LETTERS) for _ in range(4))
    return f"{now:%Y%m%d-%H%M%S}-{letters}"


def _begun(run_id: str, now: datetime) -> dict[str, Any]:
    return {"id": run_id, "started": now, "heartbeat": now}


def _check(kind: str, seed: int | None) -> None:
    if not _KIND.fullmatch(kind):
        raise InputError(
            f"a run cannot be of kind {kind!r}; give 1 to 40 lower-case letters, digits, - or _"
        )
    if seed is not None and abs(seed) > _LARGEST_SEED:
        raise InputError(f"the seed {seed} does not fit 64 bits; give a smaller one")
