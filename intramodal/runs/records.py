"""What the ledger answers: frozen records, free of SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

from intramodal.runs.frames import data_frame, html_table

Status = Literal["RUNNING", "COMPLETE", "FAILED", "INTERRUPTED"]
FingerprintKind = Literal["encoder", "projection", "collection"]
KINDS = (
    *("adopt", "advise", "backfill", "compare", "compare-unlabelled"),
    *("evaluate-fewshot", "evaluate-fewshot-text", "evaluate-index", "evaluate-misalignment"),
    *("evaluate-oti", "evaluate-recovery", "evaluate-retrieval", "evaluate-text"),
    *("export", "fit", "import-local", "ingest", "judge", "reproduce", "reproduce-cell", "search"),
)
"""Kinds of runs that our own commands record; a program may record others."""


@dataclass(frozen=True)
class RunRecord:
    """One run as it is stored; times are UTC and aware.

    Parameters
    ----------
    id, kind, status : str
    parent : str or None
        The run this one belongs to or resumes.
    started, finished, heartbeat : datetime
        By the database's clock; `finished` is None while it runs.
    host : str
    pid : int
    command : tuple of str
        Without secrets.
    packages : dict of str to str
    git : dict or None
        Commit, branch and "is_dirty" of the working directory, if it was a repository.
    seed : int or None
    parameters : dict
        JSON values, without secrets.
    error : str or None
        One sentence, for FAILED and INTERRUPTED.
    """

    id: str
    kind: str
    status: Status
    parent: str | None
    started: datetime
    finished: datetime | None
    heartbeat: datetime
    host: str
    pid: int
    command: tuple[str, ...]
    packages: Mapping[str, str] = field(repr=False)
    git: Mapping[str, Any] | None = field(repr=False)
    seed: int | None
    parameters: Mapping[str, Any] = field(repr=False)
    error: str | None

    @property
    def seconds(self) -> float:
        """Duration; up to the last sign of life for a run that has no end."""
        return ((self.finished or self.heartbeat) - self.started).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; times in ISO 8601, with "seconds" added."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("started", "finished", "heartbeat"):
            values[name] = values[name].isoformat() if values[name] else None
        return values | {"command": list(self.command), "seconds": self.seconds}


class RunTable(list[RunRecord]):
    """A list of runs that a notebook shows as a table."""

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a run; needs the extra ``notebook``."""
        return data_frame([run.to_dict() for run in self])

    def _repr_html_(self) -> str:
        return html_table(_COLUMNS, [[_shown(getattr(run, n)) for n in _COLUMNS] for run in self])


_COLUMNS = ("id", "kind", "status", "started", "seconds", "host", "error")


def _shown(value: Any, digits: int = 1) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return "" if value is None else str(value)


@dataclass(frozen=True)
class FingerprintRecord:
    """The identity of an encoder, projection or collection that took part in a run."""

    kind: FingerprintKind
    name: str
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class MetricRecord:
    """One figure; `value` is None where it could not be computed."""

    name: str
    value: float | None
    vector: str | None = None
    field: str | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        """What the figure is of: name, vector and field."""
        return self.name, self.vector, self.field

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class FailureRecord:
    """One item that could not be processed, where, and why."""

    item: str
    stage: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class ArtefactRecord:
    """A file kept with a run; `size` and `sha256` are those of the uncompressed bytes."""

    name: str
    media_type: str
    size: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class MetricPair:
    """The same figure in two runs."""

    name: str
    vector: str | None
    field: str | None
    a: float | None
    b: float | None

    @property
    def delta(self) -> float | None:
        """The second minus the first; None where one is missing."""
        return None if self.a is None or self.b is None else self.b - self.a

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, with "delta" added."""
        return asdict(self) | {"delta": self.delta}


@dataclass(frozen=True)
class RunComparison:
    """What differs between two runs, and their common figures.

    Parameters
    ----------
    a, b : RunRecord
    metrics : tuple of MetricPair
        Every figure of either run.
    parameters, packages, fingerprints : dict of str to (a, b)
        Only what differs; None on the side that lacks it.
    """

    a: RunRecord
    b: RunRecord
    metrics: tuple[MetricPair, ...]
    parameters: Mapping[str, tuple[Any, Any]]
    packages: Mapping[str, tuple[Any, Any]]
    fingerprints: Mapping[str, tuple[Any, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "a": self.a.to_dict(),
            "b": self.b.to_dict(),
            "metrics": [pair.to_dict() for pair in self.metrics],
            "parameters": {k: list(v) for k, v in self.parameters.items()},
            "packages": {k: list(v) for k, v in self.packages.items()},
            "fingerprints": {k: list(v) for k, v in self.fingerprints.items()},
        }

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a figure; needs the extra ``notebook``."""
        return data_frame([pair.to_dict() for pair in self.metrics])

    def _repr_html_(self) -> str:
        columns = ("figure", "vector", "field", self.a.id, self.b.id, "difference")
        keys = ("name", "vector", "field", "a", "b", "delta")
        # Most figures are fractions.
        rows = [[_shown(getattr(pair, key), digits=4) for key in keys] for pair in self.metrics]
        return self._differing() + html_table(columns, rows)

    def _differing(self) -> str:
        parts = (self.parameters, self.packages, self.fingerprints)
        rows = [[name, *map(_shown, values)] for part in parts for name, values in part.items()]
        return html_table(("differs", self.a.id, self.b.id), rows) if rows else ""


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose values differ, with both values.

    Examples
    --------
    >>> differences({"k": 1, "seed": 0}, {"k": 2, "seed": 0})
    {'k': (1, 2)}
    """
    keys = sorted({*a, *b})
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}
