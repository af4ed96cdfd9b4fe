"""What the ledger answers: frozen records, free of SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from html import escape
from typing import Any, Literal

from intramodal.errors import MissingDependencyError

Status = Literal["RUNNING", "COMPLETE", "FAILED", "INTERRUPTED"]
FingerprintKind = Literal["encoder", "projection", "collection"]
KINDS = (
    *("adopt", "backfill", "compare", "compare-unlabelled"),
    *("evaluate-fewshot", "evaluate-fewshot-text", "evaluate-index", "evaluate-misalignment"),
    *("evaluate-oti", "evaluate-recovery", "evaluate-retrieval", "evaluate-text"),
    *("export", "fit", "ingest", "search"),
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
        return _frame([run.to_dict() for run in self])

    def _repr_html_(self) -> str:
        return _html(_SHOWN, [[getattr(run, name) for name in _SHOWN] for run in self])


_SHOWN = ("id", "kind", "status", "started", "seconds", "host", "error")


def _frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "a data frame needs the package 'pandas'; pip install 'intramodal[notebook]'"
        ) from error
    return pd.DataFrame(rows)


def _html(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.1f}"
    return "" if value is None else escape(str(value))


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
        return _frame([pair.to_dict() for pair in self.metrics])

    def _repr_html_(self) -> str:
        rows = [pair.to_dict() for pair in self.metrics]
        parts = (self.parameters, self.packages, self.fingerprints)
        differing = [[name, *values] for part in parts for name, values in part.items()]
        shown = _html(("differs", self.a.id, self.b.id), differing) if differing else ""
        columns = ("figure", "vector", "field", self.a.id, self.b.id, "difference")
        keys = ("name", "vector", "field", "a", "b", "delta")
        return shown + _html(columns, [[_rounded(row[key]) for key in keys] for row in rows])


def _rounded(value: Any) -> Any:
    """Return a figure with four digits: most are fractions."""
    return f"{value:.4f}" if isinstance(value, float) else value


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the keys whose values differ, with both values.

    Examples
    --------
    >>> differences({"k": 1, "seed": 0}, {"k": 2, "seed": 0})
    {'k': (1, 2)}
    """
    keys = sorted({*a, *b})
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}
