"""What code that works writes to: a run, recorded or not; free of SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from intramodal.runs.records import FailureRecord, FingerprintKind


class Run(Protocol):
    """A run in progress.

    Writing to it never fails the work: see `RecordedRun`.
    """

    @property
    def id(self) -> str | None:
        """The run's name in the ledger; None where nothing is recorded."""
        ...

    def log_fingerprint(
        self,
        kind: FingerprintKind,
        name: str,
        fingerprint: str,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Record which encoder, projection or collection took part."""
        ...

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
        """Record one figure; the same name, vector and field replace it."""
        ...

    def log_failure(self, item: str, stage: str, reason: str) -> None:
        """Record one item that could not be processed."""
        ...

    def log_failures(self, failures: Iterable[FailureRecord]) -> None:
        """Record many at once."""
        ...

    def save_artefact(
        self, name: str, data: bytes | Mapping[str, Any], media_type: str | None = None
    ) -> None:
        """Keep a file with the run; a mapping is kept as JSON; the same name replaces it."""
        ...

    def checkpoint(self, key: str, value: Any) -> None:
        """Record where the work has got to; the same key replaces it."""
        ...


class NullRun:
    """The run of a call without a ledger: takes everything, keeps nothing.

    Examples
    --------
    >>> with NullRun() as run:
    ...     run.log_metric("map", 0.5)
    >>> run.id is None
    True
    """

    id: str | None = None

    def __enter__(self) -> NullRun:
        """Return the run."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Do nothing."""

    def log_fingerprint(
        self,
        kind: FingerprintKind,
        name: str,
        fingerprint: str,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Do nothing."""

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
        """Do nothing."""

    def log_failure(self, item: str, stage: str, reason: str) -> None:
        """Do nothing."""

    def log_failures(self, failures: Iterable[FailureRecord]) -> None:
        """Do nothing."""

    def save_artefact(
        self, name: str, data: bytes | Mapping[str, Any], media_type: str | None = None
    ) -> None:
        """Do nothing."""

    def checkpoint(self, key: str, value: Any) -> None:
        """Do nothing."""
