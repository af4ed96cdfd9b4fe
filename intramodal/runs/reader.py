"""Looking at runs."""

from __future__ import annotations

import difflib
import zlib
from typing import Any, get_args

from sqlalchemy import func, literal_column, select

from intramodal.errors import InputError, LedgerError
from intramodal.runs import stale
from intramodal.runs.database import Database
from intramodal.runs.models import (
    SCHEMA,
    ArtefactRow,
    CheckpointRow,
    FailureRow,
    FingerprintRow,
    MetricRow,
    RunRow,
)
from intramodal.runs.records import (
    ArtefactRecord,
    FailureRecord,
    FingerprintRecord,
    MetricPair,
    MetricRecord,
    RunComparison,
    RunRecord,
    RunTable,
    Status,
    differences,
)


class LedgerReader:
    """The looking half of `RunLedger`.

    Whoever looks marks the runs that ended without a word as INTERRUPTED.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def url(self) -> str:
        """The database's URL, its password masked."""
        return self._database.label

    def describe(self) -> dict[str, Any]:
        """Return backend, its version, the schema, the URL without password and the runs' number.

        JSON values, for `doctor`.
        """
        backend = self._database.url.get_backend_name()
        version = (
            "sqlite_version()" if backend == "sqlite" else "current_setting('server_version')"
        )
        with self._database.reading() as session:
            return {
                "url": self.url,
                "backend": backend,
                "version": session.scalar(select(literal_column(version))),
                "schema": SCHEMA,
                "n_runs": session.scalar(select(func.count()).select_from(RunRow)),
            }

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
        stale.mark_interrupted(self._database)
        query = select(RunRow).order_by(RunRow.started.desc(), RunRow.id.desc())
        if kind is not None:
            query = query.where(RunRow.kind == kind)
        if status is not None:
            query = query.where(RunRow.status == _checked_status(status))
        if limit is not None:
            query = query.limit(limit)
        with self._database.reading() as session:
            return RunTable(_run_record(row) for row in session.scalars(query))

    def get(self, id_or_prefix: str) -> RunRecord:
        """Return one run by its id or the beginning of it.

        Raises
        ------
        LedgerError
            If no run, or more than one, has it; the message names the closest ids.
        """
        stale.mark_interrupted(self._database)
        begins = RunRow.id.startswith(id_or_prefix, autoescape=True)
        query = select(RunRow).where(begins).order_by(RunRow.id.desc()).limit(6)
        with self._database.reading() as session:
            rows = list(session.scalars(query))
        exact = [row for row in rows if row.id == id_or_prefix]
        if id_or_prefix and len(exact or rows) == 1:
            return _run_record((exact or rows)[0])
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
        query = (
            select(FingerprintRow.facts)
            .where(FingerprintRow.fingerprint == fingerprint)
            .order_by(FingerprintRow.id.desc())
        )
        with self._database.reading() as session:
            known = (dict(facts) for facts in session.scalars(query) if facts)
            return next(known, {})

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


def _checked_status(status: str) -> str:
    if status not in get_args(Status):
        close = difflib.get_close_matches(status.upper(), get_args(Status)) or get_args(Status)
        raise InputError(f"there is no status {status!r}; give {' or '.join(close)}")
    return status


def _run_record(row: RunRow) -> RunRecord:
    values = {name: getattr(row, name) for name in RunRecord.__dataclass_fields__}
    return RunRecord(**values | {"command": tuple(row.command)})
