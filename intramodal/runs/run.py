"""What code that works writes to: a run, recorded or not; free of SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from intramodal.runs.records import FailureRecord, FingerprintKind


class Origin(Protocol):
    """How a named vector was made; its text tells two origins apart."""

    @property
    def projection(self) -> str:
        """Fingerprint of the projection; empty for an encoder's own output."""
        ...

    @property
    def encoder_fingerprint(self) -> str:
        """Identity of the encoder."""
        ...


class Recordable(Protocol):
    """A result that knows what of it a run keeps."""

    def record(self, run: Run) -> None:
        """Write figures, artefacts and failures to a run."""
        ...


class Run:
    """A run that keeps nothing: what a job without a ledger writes to.

    `RecordedRun` overrides every method. Writing to a run never fails the work.

    Examples
    --------
    >>> run = Run()
    >>> run.log_metric("map", 0.5)
    >>> run.id is None
    True
    """

    id: str | None = None
    """The run's name in the ledger; None where nothing is recorded."""

    def keep(self, result: Recordable) -> None:
        """Record what a result has to record."""

    def log_origins(
        self,
        origins: Mapping[str, Origin],
        *,
        collection: str | None = None,
        dataset: str | None = None,
    ) -> None:
        """Record what made each named vector of a collection, and which data set it holds."""

    def log_origin(
        self, vector: str, origin: Origin, facts: Mapping[str, Any] | None = None
    ) -> None:
        """Record which encoder or projection made one vector."""

    def log_fingerprint(
        self,
        kind: FingerprintKind,
        name: str,
        fingerprint: str,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Record which encoder, projection or collection took part."""

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

    def log_failure(self, item: str, stage: str, reason: str) -> None:
        """Record one item that could not be processed."""

    def log_failures(self, failures: Iterable[FailureRecord]) -> None:
        """Record many at once."""

    def save_artefact(
        self, name: str, data: bytes | Mapping[str, Any], media_type: str | None = None
    ) -> None:
        """Keep a file with the run; a mapping is kept as JSON; the same name replaces it."""

    def checkpoint(self, key: str, value: Any) -> None:
        """Record where the work has got to; the same key replaces it."""
