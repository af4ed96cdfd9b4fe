"""Collections of qdrant-client's local mode, read from its files and never opened by it.

Local mode keeps a SQLite file a collection, and in it a pickle a point. A pickle of a stranger is
a program: here it is data, made by stand-ins of the few names that a point needs. The client
itself would run it, and would write to the directory when it opens it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import numpy as np
from filelock import lock_descriptor

from intramodal.errors import InputError, Locked, NotFound, StoreError
from intramodal.pickles import (
    DAMAGE,
    OBJECT_OPCODES,
    Call,
    Known,
    RefusedPickleError,
    short,
    shown,
    unpickled,
)
from intramodal.store.base import UNNAMED, Page, VectorSpec
from intramodal.store.checks import canonical_ids
from intramodal.store.directories import read_meta, recognize
from intramodal.store.pages import PageSize
from intramodal.types import Distance, Floats, Payload, PointId, unit_rows

_FILE = "storage.sqlite"
_LOCK = ".lock"
_LARGEST_POINT = 64 * 2**20
"""Bytes; a point of 65,536 dimensions has 0.6 MB."""

Problem = tuple[str, str]
"""Which point, and why it or a part of it cannot be read."""


@dataclass(frozen=True)
class LocalCollection:
    """A collection of local mode.

    Parameters
    ----------
    name : str
    file : Path
        Its SQLite file.
    vectors : dict of str to VectorSpec
        Those that have one row of numbers a point.
    left_out : dict of str to str
        Everything else that it has, and what that is: sparse vectors, multivectors, text indexes.
    metadata : dict
    """

    name: str
    file: Path
    vectors: Mapping[str, VectorSpec]
    left_out: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def n_rows(self) -> int:
        """Return how many rows the file has; of old versions some may be copies of a point."""
        with self._opened() as database:
            (n,) = database.execute("SELECT count(*) FROM points").fetchone()
        return int(n)

    def pages(self, batch_size: int = 1000) -> Iterator[tuple[Page, list[Problem]]]:
        """Yield all rows, the last written first, with what of them cannot be read.

        Vectors are float32, of unit length where they rank by cosine; NaN where a point lacks one.
        The first row of an id is the point, later ones are what it was before.
        """
        size = PageSize(batch_size, sum(spec.size for spec in self.vectors.values()), True)
        with self._opened() as database:
            rows = database.execute("SELECT rowid, point FROM points ORDER BY rowid DESC")
            while some := rows.fetchmany(size()):
                page, problems = self._page(some)
                size.learn(page.payloads)
                yield page, problems

    def _page(self, rows: Sequence[tuple[int, Any]]) -> tuple[Page, list[Problem]]:
        points: list[_Point] = []
        problems: list[Problem] = []
        for row, data in rows:
            try:
                points.append(_point(data))
            except RefusedPickleError as error:
                problems.append((f"row {row}", f"it {error}"))
            except DAMAGE as error:
                problems.append((f"row {row}", f"it is no readable point ({short(error)})"))
        vectors = {
            name: _column(points, name, spec, problems) for name, spec in self.vectors.items()
        }
        return Page([p.id for p in points], vectors, [p.payload for p in points]), problems

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Yield the database, of which SQLite changes nothing and makes no files beside it."""
        for suffix in ("-journal", "-wal"):
            journal = self.file.with_name(self.file.name + suffix)
            if journal.exists() and journal.stat().st_size:
                raise StoreError(
                    f"{journal} says that a write to {self.name!r} was interrupted; open the "
                    f"directory once with qdrant-client, which completes it, then import again"
                )
        try:
            address = f"{self.file.resolve().as_uri()}?mode=ro&immutable=1"
            with closing(sqlite3.connect(address, uri=True)) as database:
                database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_POINT)
                database.execute("PRAGMA trusted_schema = OFF")
                kind = "SELECT type FROM sqlite_master WHERE name = 'points'"
                if database.execute(kind).fetchone() != ("table",):
                    raise StoreError(f"{self.file} has no table of points; restore it")
                yield database
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot read {self.file}: {short(error)}; restore it from a backup, or import "
                f"the other collections by name"
            ) from error


class LocalMode:
    """The collections in a directory of qdrant-client's local mode.

    Parameters
    ----------
    folder : path

    Raises
    ------
    InputError
        If it is none; the message says what it is.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        found = recognize(self.folder)
        if found is not None and found.path == self.folder and found.kind != "local mode":
            raise InputError(f"{found.path} {found.what}, not local mode's; {found.way}")
        if found is None or found.path != self.folder:
            raise InputError(
                f"{self.folder} is no storage of qdrant-client's local mode: it has no meta.json "
                f"that lists collections; give the path that QdrantClient(path=...) was given"
            )
        meta = read_meta(self.folder)
        indexes = meta.get("text_indexes")
        self._indexes: Mapping[str, Any] = indexes if isinstance(indexes, dict) else {}
        self._configs: Mapping[str, Any] = meta["collections"]
        self.aliases = {str(k): v for k, v in meta["aliases"].items() if isinstance(v, str)}

    def names(self) -> list[str]:
        """Return the names of all collections, sorted."""
        return sorted(self._configs)

    def collection(self, name: str) -> LocalCollection:
        """Return one of the collections.

        Raises
        ------
        NotFound
            If there is none of that name.
        StoreError
            If its description or its file cannot be read.
        """
        if name not in self._configs:
            there = ", ".join(map(repr, self.names())) or "none"
            raise NotFound(f"there is no collection {name!r} in {self.folder}; it has {there}")
        try:
            dense, left_out = _vectors(self._configs[name])
            metadata = dict(self._configs[name].get("metadata") or {})
            for path in self._indexes.get(name) or ():
                left_out[str(path)] = "a text index"
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(
                f"the description of {name!r} in {self.folder / 'meta.json'} cannot be read "
                f"({short(error)}); restore it, or import the other collections by name"
            ) from error
        return LocalCollection(name, self._file(name), dense, left_out, metadata)

    def _file(self, name: str) -> Path:
        """Return a collection's file, which lies in the directory and is none of another kind."""
        folder = self.folder / "collection" / name
        file = folder / _FILE
        if not file.is_file():
            older = " (it is of a version before 1.1.7)" if list(folder.glob("*.dbm*")) else ""
            raise StoreError(
                f"the collection {name!r} has no file {file}{older}; restore it, or import the "
                f"other collections by name"
            )
        if not file.resolve().is_relative_to(self.folder.resolve()):
            raise StoreError(f"the file {file} lies outside of {self.folder}; it is not read")
        return file

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep clients from opening the directory; `Locked` if one has."""
        lock = self.folder / _LOCK
        if not lock.is_file():
            yield
            return
        descriptor = os.open(lock, os.O_RDONLY)
        try:
            if not lock_descriptor(descriptor, blocking=False):
                raise Locked(
                    f"a qdrant-client has {self.folder} open; close it, then import again"
                )
            yield
        finally:
            os.close(descriptor)  # releases it


def _vectors(config: Mapping[str, Any]) -> tuple[dict[str, VectorSpec], dict[str, str]]:
    """Return the dense vectors of a collection, and what else it has."""
    given = config.get("vectors") or {}
    named = {UNNAMED: given} if isinstance(given.get("size"), int) else given
    left_out = {str(name): "a sparse vector" for name in config.get("sparse_vectors") or {}}
    dense: dict[str, VectorSpec] = {}
    for name, params in named.items():
        if params.get("multivector_config") is not None:
            left_out[str(name)] = "a multivector"
        else:
            dense[str(name)] = _spec(params)
    return dense, left_out


def _spec(params: Mapping[str, Any]) -> VectorSpec:
    size, distance = params["size"], params["distance"]
    datatype = params.get("datatype") or "float32"
    if distance not in get_args(Distance) or not isinstance(datatype, str):
        raise ValueError(f"distance {shown(distance)}, type {shown(datatype)}")
    return VectorSpec(int(size), distance, datatype)


class _Model:
    """Stands for a model of Pydantic's, of its version 1 or 2."""

    values: Mapping[str, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        """Keep the fields."""
        self.values = dict(state["__dict__"])


class _Sparse(_Model):
    """Stands for a sparse vector, which is listed and not read."""


class _Uuid:
    """Stands for ``uuid.UUID``."""

    number: int | None = None

    def __setstate__(self, state: Any) -> None:
        """Keep the number."""
        self.number = state["int"]

    def __str__(self) -> str:
        """Return the canonical text."""
        return str(UUID(int=self.number))


_MODELS = "qdrant_client.http.models.models"
_KNOWN: Known = {
    (_MODELS, "PointStruct"): _Model,
    (_MODELS, "SparseVector"): _Sparse,
    ("uuid", "UUID"): _Uuid,
    # Older versions kept payload as it was given, not as JSON.
    ("datetime", "datetime"): Call(datetime),
    ("datetime", "date"): Call(date),
    ("datetime", "timezone"): Call(timezone),
    ("datetime", "timedelta"): Call(timedelta),
}


@dataclass(frozen=True)
class _Point:
    id: PointId
    vectors: Mapping[str, Any]
    payload: Payload


def _point(data: Any) -> _Point:
    """Return the point in a row."""
    if not isinstance(data, bytes):
        raise RefusedPickleError(f"holds {shown(data)} in place of a point")
    model = unpickled(data, _KNOWN, opcodes=OBJECT_OPCODES)
    if type(model) is not _Model or model.values is None:
        raise RefusedPickleError(f"holds {shown(model)} in place of a point")
    _check_unshared(model.values, len(data))
    vector, payload = model.values["vector"], model.values.get("payload")
    vectors = vector if isinstance(vector, dict) else {UNNAMED: vector}
    (point,) = canonical_ids([_plain(model.values["id"])])
    return _Point(point, vectors, _plain(dict(payload or {})))


def _check_unshared(value: Any, most: int) -> None:
    """Raise unless a value has at most so many parts: a few bytes can repeat one without end."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        inside: Any = one.values() if isinstance(one, dict) else one
        if isinstance(one, dict | list | tuple | set):
            waiting += inside
            most -= len(one)
        if most < 0:
            raise RefusedPickleError("repeats values, and would need much more memory than bytes")


def _plain(value: Any) -> Any:
    """Return a value without stand-ins."""
    if isinstance(value, _Uuid):
        return str(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _column(
    points: Sequence[_Point], name: str, spec: VectorSpec, problems: list[Problem]
) -> Floats:
    """Return a vector of all points (n, d); NaN, and a problem, where it cannot be kept."""
    X = np.full((len(points), spec.size), np.nan, dtype=np.float32)
    for row, point in enumerate(points):
        given = point.vectors.get(name)
        if given is None:
            continue
        try:
            X[row] = _row(given, spec)
        except DAMAGE as error:
            problems.append((str(point.id), f"its vector {name!r} is left out: {short(error)}"))
    return X


def _row(given: Any, spec: VectorSpec) -> Floats:
    """Return one vector (d,); `ValueError` where it cannot be kept."""
    if not isinstance(given, list) or len(given) != spec.size:
        size = len(given) if isinstance(given, list) else "other"
        raise ValueError(f"it has {size} dimensions, not {spec.size}")
    row = np.array(given, dtype=np.float64)
    with np.errstate(over="ignore"):  # beyond float32: infinity, which is refused below
        kept = unit_rows(row[None])[0] if spec.distance == "Cosine" else row.astype(np.float32)
    if not np.isfinite(kept).all():
        raise ValueError("it holds NaN, or a number beyond float32")
    return kept
