"""The tables of the runs database; every change to them is a migration."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.types import TypeDecorator

SCHEMA = "0001"
"""Revision these models describe; a test compares it with the newest migration."""

VERSION_TABLE = "intramodal_schema"
"""Not alembic's default name, which another application in the same database may own."""

# Batch migrations on SQLite rebuild a table and need every constraint to have a name.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class UTCDateTime(TypeDecorator[datetime]):
    """An aware time in UTC; SQLite, which knows no zones, stores it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; SQLite gets it naive."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class database_now(ColumnElement[datetime]):  # noqa: N801 - reads as an SQL function
    """The database's clock: the one all hosts that share a database agree on."""

    type = UTCDateTime()
    inherit_cache = True


@compiles(database_now)
def _now(element: database_now, compiler: Any, **options: Any) -> str:
    return "clock_timestamp()"


@compiles(database_now, "sqlite")
def _now_sqlite(element: database_now, compiler: Any, **options: Any) -> str:
    # Six digits, as SQLAlchemy writes them: SQLite compares times as text.
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"


# SQLite numbers rows only in a column that is exactly INTEGER.
_RowId = BigInteger().with_variant(Integer(), "sqlite")


def _run_key(**options: Any) -> Mapped[str]:
    return mapped_column(String(40), ForeignKey("runs.id", ondelete="CASCADE"), **options)


class Base(DeclarativeBase):
    """Common to all tables."""

    metadata = MetaData(naming_convention=_NAMES)


class RunRow(Base):
    """One run; immutable once its status is not RUNNING."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(
            "status IN ('RUNNING', 'COMPLETE', 'FAILED', 'INTERRUPTED')", name="status"
        ),
        Index(None, "started"),
        Index(None, "status"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    status: Mapped[str] = mapped_column(String(20))
    parent: Mapped[str | None] = mapped_column(
        String(40), ForeignKey("runs.id", ondelete="SET NULL")
    )
    started: Mapped[datetime] = mapped_column(UTCDateTime)
    finished: Mapped[datetime | None] = mapped_column(UTCDateTime)
    heartbeat: Mapped[datetime] = mapped_column(UTCDateTime)
    heartbeat_interval_s: Mapped[float | None] = mapped_column(Float)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int] = mapped_column(BigInteger)
    process_space: Mapped[str] = mapped_column(String(255))
    process_started: Mapped[str] = mapped_column(String(64))
    command: Mapped[list[str]] = mapped_column(JSON)
    packages: Mapped[dict[str, str]] = mapped_column(JSON)
    git: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    seed: Mapped[int | None] = mapped_column(BigInteger)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    error: Mapped[str | None] = mapped_column(Text)


class FingerprintRow(Base):
    """The identity of an encoder, projection or collection that took part."""

    __tablename__ = "fingerprints"
    __table_args__ = (
        CheckConstraint("kind IN ('encoder', 'projection', 'collection')", name="kind"),
        UniqueConstraint("run", "kind", "name"),
    )

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    run: Mapped[str] = _run_key()
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(Text)
    fingerprint: Mapped[str] = mapped_column(Text)
    facts: Mapped[dict[str, Any]] = mapped_column(JSON)


class MetricRow(Base):
    """One figure, with its interval and the number of cases behind it."""

    __tablename__ = "metrics"
    __table_args__ = (Index(None, "run"),)

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    run: Mapped[str] = _run_key()
    name: Mapped[str] = mapped_column(Text)
    vector: Mapped[str | None] = mapped_column(Text)
    field: Mapped[str | None] = mapped_column(Text)
    value: Mapped[float | None] = mapped_column(Float)
    low: Mapped[float | None] = mapped_column(Float)
    high: Mapped[float | None] = mapped_column(Float)
    n: Mapped[int | None] = mapped_column(BigInteger)


class ArtefactRow(Base):
    """A file of the run, compressed."""

    __tablename__ = "artefacts"
    __table_args__ = (UniqueConstraint("run", "name"),)

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    run: Mapped[str] = _run_key()
    name: Mapped[str] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(String(100))
    data: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)


class FailureRow(Base):
    """One item that could not be processed."""

    __tablename__ = "failures"
    __table_args__ = (Index(None, "run"),)

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    run: Mapped[str] = _run_key()
    item: Mapped[str] = mapped_column(Text)
    stage: Mapped[str] = mapped_column(String(100))
    reason: Mapped[str] = mapped_column(Text)


class CheckpointRow(Base):
    """Where a run had got to."""

    __tablename__ = "checkpoints"

    run: Mapped[str] = _run_key(primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)
    updated: Mapped[datetime] = mapped_column(UTCDateTime)
