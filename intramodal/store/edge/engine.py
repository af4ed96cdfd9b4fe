"""The words of qdrant_edge: configuration, conditions, queries and error texts."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge

from intramodal.errors import (
    Conflict,
    InputError,
    IntramodalError,
    Locked,
    NotFound,
    StoreError,
    StoreUnavailable,
    Unsupported,
)
from intramodal.store.base import IndexKind, VectorSpec, plain_id
from intramodal.store.edge import space
from intramodal.store.edge.repair import (
    CONFIG_FILE,
    clear_unfinished,
    hold,
    is_begun,
    is_whole,
    stop_reading_ahead,
)
from intramodal.store.filters import Dialect
from intramodal.store.queries import Answer, SearchPlan
from intramodal.types import Floats, parsed_json

log = logging.getLogger(__name__)


def _typed(value: str | int | bool) -> Any:
    """Return booleans as NumPy's: qdrant-edge 0.9 reads Python's, which are ints, as 1 and 0."""
    return np.bool_(value) if isinstance(value, bool) else value


EDGE = Dialect(
    all_of=lambda must, must_not: edge.Filter(must=must, must_not=must_not),
    any_of=lambda conditions: edge.Filter(should=conditions),
    has_id=lambda ids: edge.HasIdCondition(set(ids)),
    has_vector=edge.HasVectorCondition,
    is_value=lambda key, value: edge.FieldCondition(key, match=edge.MatchValue(_typed(value))),
    is_among=lambda key, values: edge.FieldCondition(key, match=edge.MatchAny(values)),
    is_float=lambda key, value: edge.FieldCondition(
        key, range=edge.RangeFloat(gte=value, lte=value)
    ),
    is_absent=edge.IsEmptyCondition,
)

INDEX_TYPES: dict[IndexKind, Any] = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "bool": edge.PayloadSchemaType.Bool,
    "datetime": edge.PayloadSchemaType.Datetime,
}

_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
    "turbo8": edge.VectorStorageDatatype.Turbo8,
    "turbo16": edge.VectorStorageDatatype.Turbo16,
}
_CLUSTER_OPTIONS = ("shard_number", "replication_factor", "write_consistency_factor")
_ENGINE_OPTIONS = ("hnsw_config", "quantization_config", "optimizers_config")
_VECTOR_OPTIONS = ("on_disk", "memory", "hnsw_config", "quantization_config")
# How long a shard may still be held by a process that was just killed, or by its child.
_LOCK_DEADLINE_S = 2.0
_HELD = (
    "another process (or another open store in this one) holds it; stop it or wait for it, or use "
    "a server, which many can share"
)
_OPENING_DEADLINE_S = 600.0
_DOING = {"open": "opening", "optimize": "optimizing"}
# A write to a mapped file for which the disk has no room; Windows knows no such signal.
_FULL = -getattr(signal, "SIGBUS", 7)
_RRF_K = 2  # the server's default
_POLL_S = 0.05


class DamagedLogError(StoreError):
    """The engine cannot read its log, and does not open the collection."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise our errors for the engine's, which are bare `Exception` with a text."""
    try:
        yield
    except (IntramodalError, MemoryError):
        raise
    except Exception as error:
        if space.is_full(error):
            raise space.full(what) from error
        raise _ours(
            str(error), what, is_typed=isinstance(error, (TypeError, ValueError))
        ) from error


def _ours(text: str, what: str, *, is_typed: bool) -> IntramodalError:
    message = f"cannot {what}: {' '.join(text.split())}"
    if "WouldBlock" in text:
        return Locked(f"cannot {what}: {_HELD}")
    if "read WAL" in text:
        return DamagedLogError(
            f"{message}; the collection's log is damaged: `intramodal doctor --repair` sets it "
            f"aside and keeps what the collection had saved before"
        )
    if is_typed or "dimension error" in text:
        return InputError(message)
    if "No point with id" in text or "Not existing vector name" in text:
        return NotFound(message)
    if "already exists with different" in text:
        return Conflict(message)
    if "No appropriate index" in text or "No range index" in text:
        return Unsupported(message)
    return StoreError(message)


def create_shard(
    path: Path, vectors: Mapping[str, VectorSpec], options: Mapping[str, Any]
) -> edge.EdgeShard:
    """Create and open the engine's folder of a collection."""
    for option in _CLUSTER_OPTIONS:
        if options.get(option, 1) != 1:
            raise Unsupported(
                f"{option}={options[option]!r} needs a server: the embedded store is one shard "
                f"in one process; leave the option out or use http://host:port as the store"
            )
    unknown = sorted(set(options) - {*_CLUSTER_OPTIONS, *_ENGINE_OPTIONS, "vectors"})
    if unknown:
        raise Unsupported(
            f"the embedded store does not know the option {unknown[0]!r}; it takes "
            f"{', '.join((*_ENGINE_OPTIONS, 'vectors'))}"
        )
    own = options.get("vectors") or {}
    params = {name: vector_params(name, spec, own.get(name)) for name, spec in vectors.items()}
    config = edge.EdgeConfig(vectors=params, **_engine_options(options))
    path.mkdir(parents=True)
    return edge.EdgeShard.create(str(path), config)


def settings(path: Path) -> dict[str, Any]:
    """Return the options that `create_shard` was given, and ``sparse_vectors``, if there are."""
    stored = _config(path)
    stored["optimizers_config"] = stored.pop("optimizers", None)
    own = {
        name: {key: value for key, value in params.items() if key in _VECTOR_OPTIONS}
        for name, params in stored["vectors"].items()
    }
    stored["vectors"] = {name: found for name, found in own.items() if found}
    told = (*_ENGINE_OPTIONS, "sparse_vectors", "vectors")
    return {option: stored[option] for option in told if stored.get(option)}


def specs_of(path: Path) -> dict[str, VectorSpec]:
    """Return the dense vectors in the engine's folder, whoever has made them."""
    return {
        name: VectorSpec(
            size=params["size"],
            distance=params["distance"],
            datatype=params.get("datatype") or "float32",
            is_multivector=params.get("multivector_config") is not None,
        )
        for name, params in _config(path)["vectors"].items()
    }


def _config(path: Path) -> dict[str, Any]:
    stored: dict[str, Any] = parsed_json((path / CONFIG_FILE).read_text(encoding="utf-8"))
    return stored


def as_written(vector: str, spec: VectorSpec, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return a vector's settings as the engine writes them, in a collection made for that."""
    with tempfile.TemporaryDirectory(prefix="intramodal-") as folder:
        path = Path(folder) / "shard"
        options = {"vectors": {vector: wanted}}
        space.require(Path(folder), space.of_collection({vector: spec}), "try the settings")
        with translated(f"set up the vector {vector!r} by {dict(wanted)}"):
            create_shard(path, {vector: spec}, options).close()
        return own_settings(path, vector)


def segment_version() -> str:
    """Return the version of the segments that the engine writes."""
    with tempfile.TemporaryDirectory(prefix="intramodal-") as folder:
        path = Path(folder) / "shard"
        create_shard(path, {"": VectorSpec(1)}, {}).close()
        (found,) = (path / "segments").glob("*/version.info")
        return found.read_text(encoding="utf-8").strip()


def indexes_of(shard: edge.EdgeShard) -> dict[str, str]:
    """Return the kind of each payload index of an open shard."""
    kinds = {field: str(index.data_type) for field, index in shard.info().payload_schema.items()}
    return {field: kind.rpartition(".")[2].lower() for field, kind in kinds.items()}


def own_settings(path: Path, vector: str) -> dict[str, Any]:
    """Return the settings of a single vector."""
    found: dict[str, Any] = settings(path).get("vectors", {}).get(vector, {})
    return found


def vector_params(
    name: str, spec: VectorSpec, settings: Mapping[str, Any] | None = None
) -> edge.EdgeVectorParams:
    """Return the engine's definition of a vector."""
    return edge.EdgeVectorParams(
        size=spec.size,
        distance=distance(spec),
        datatype=datatype(name, spec),
        **_vector_options(name, settings or {}),
    )


def _vector_options(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(settings) - set(_VECTOR_OPTIONS))
    if unknown:
        raise Unsupported(
            f"the embedded store cannot set up the vector {name!r} by {unknown[0]!r}; it takes "
            f"{', '.join(_VECTOR_OPTIONS)}"
        )
    built: dict[str, Any] = {}
    with translated(f"set up the vector {name!r} by {dict(settings)}"):
        for key, value in settings.items():
            make = _MAKERS.get(key)
            built[key] = value if make is None else make(value)
    return built


def distance(spec: VectorSpec) -> Any:
    """Return the engine's word for the distance."""
    return getattr(edge.Distance, spec.distance)


def datatype(name: str, spec: VectorSpec) -> Any:
    """Return the engine's word for the datatype; `Unsupported` if it has none."""
    if spec.datatype not in _DATATYPES:
        raise Unsupported(
            f"vector {name!r} cannot be stored as {spec.datatype!r}; the embedded store knows "
            f"{', '.join(_DATATYPES)}"
        )
    return _DATATYPES[spec.datatype]


def _engine_options(options: Mapping[str, Any]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    with translated("use these collection options"):
        if options.get("hnsw_config"):
            built["hnsw_config"] = _hnsw(options["hnsw_config"])
        if options.get("optimizers_config"):
            built["optimizers"] = edge.EdgeOptimizersConfig(**options["optimizers_config"])
        if options.get("quantization_config"):
            built["quantization_config"] = _quantization(options["quantization_config"])
    return built


def _hnsw(config: Mapping[str, Any]) -> Any:
    defaults = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}
    return edge.HnswIndexConfig(**_with_words({**defaults, **config}))


def _quantization(config: Mapping[str, Any]) -> Any:
    """Return a quantization, in the server's spelling: ``{"scalar": {...}}``."""
    kind, given = next(iter(config.items()), ("", {}))
    if len(config) != 1 or kind not in _QUANTIZATIONS:
        raise Unsupported(
            f"the embedded store quantizes by {', '.join(_QUANTIZATIONS)}, got "
            f"{', '.join(config) or 'nothing'}; use a server for other kinds"
        )
    return _QUANTIZATIONS[kind](**_with_words(given))


def _with_words(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings whose words are the engine's: ``"two_bits"`` is `TwoBits`."""
    return {
        key: _word(_WORDS[key], value) if key in _WORDS else value for key, value in config.items()
    }


def _word(kind: Any, text: str) -> Any:
    known = {_letters(name): getattr(kind, name) for name in dir(kind) if name[0] != "_"}
    if _letters(text) not in known:
        plain = (str(one).rpartition(".")[2] for one in known.values())
        names = (re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in plain)
        raise InputError(f"{text!r} is none of {', '.join(names)}; choose one of these")
    return known[_letters(text)]


def _letters(name: str) -> str:
    return name.replace("_", "").lower()


_QUANTIZATIONS: dict[str, Any] = {
    "scalar": edge.ScalarQuantizationConfig,
    "binary": edge.BinaryQuantizationConfig,
    "turbo": edge.TurboQuantQuantizationConfig,
}
_WORDS: dict[str, Any] = {
    "type": edge.ScalarType,
    "encoding": edge.BinaryQuantizationEncoding,
    "query_encoding": edge.BinaryQuantizationQueryEncoding,
    "bits": edge.TurboQuantBitSize,
    "memory": edge.Memory,
}
_MAKERS: dict[str, Callable[[Any], Any]] = {
    "hnsw_config": _hnsw,
    "quantization_config": _quantization,
    "memory": lambda text: _word(edge.Memory, text),
}


def buffers(X: Floats) -> Iterator[Any]:
    """Return the rows as buffers: the engine (0.9) reads an array's items three times slower."""
    return map(memoryview, X)


def load_shard(path: Path, what: str) -> edge.EdgeShard:
    """Open the engine's folder; `Locked` if another process still holds it after a moment.

    On a nearly full disk it is seen first that opening does not fill it.
    """
    _spare_the_disk(path, what)
    deadline = time.monotonic() + _LOCK_DEADLINE_S
    while True:
        try:
            with translated(what):
                return edge.EdgeShard.load(str(path))
        except Locked:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _spare_the_disk(path: Path, what: str) -> None:
    """Make what can be made of a nearly full disk, and let another process open it first."""
    if not is_whole(path) or space.has_room_for_holes(path):
        return
    space.ease(path.parent)
    with held(path, what):
        clear_unfinished(path)
        try:
            stop_reading_ahead(path)
        except OSError as error:  # a read-only directory
            if space.is_full(error):
                raise space.full(what) from error
    if space.is_tight(path):
        _try_opening(path, what)


def has_any(shard: edge.EdgeShard, vector: str) -> bool:
    """Return whether a point has the vector."""
    filled = edge.Filter(must=[edge.HasVectorCondition(vector)])
    return count(shard, filled) > 0


def count_points(path: Path) -> int | None:
    """Return how many points a folder of no collection holds, None if that cannot be told."""
    if not is_whole(path):
        return 0 if is_begun(path) else None
    try:
        shard = load_shard(path, f"open {path}")
    except StoreError:
        return None
    try:
        return count(shard)
    finally:
        shard.close()


def count(shard: edge.EdgeShard, condition: Any = None) -> int:
    """Return the exact number of (matching) points."""
    return int(shard.count(edge.CountRequest(exact=True, filter=condition)))


@contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Keep everybody from opening the engine's folder; `Locked` if it is open for a moment."""
    deadline = time.monotonic() + _LOCK_DEADLINE_S
    while True:
        with hold(path) as is_ours:
            if is_ours:
                yield
                return
        if time.monotonic() > deadline:
            raise Locked(f"cannot {what}: {_HELD}")
        time.sleep(_POLL_S)


def search(
    shard: edge.EdgeShard,
    plan: SearchPlan,
    rows: Sequence[int],
    filters: Sequence[Any],
    limit: int,
) -> list[Answer]:
    """Answer the given rows of a plan with up to `limit` points, each under its own filter."""
    requests = [
        _request(plan, row, condition, limit) for row, condition in zip(rows, filters, strict=True)
    ]
    return [
        ([plain_id(p.id) for p in found], np.array([p.score for p in found], dtype=np.float32))
        for found in shard.query_batch(edge.QueryBatchRequest(requests))
    ]


def search_params(plan: SearchPlan) -> edge.SearchParams:
    """Return the engine's search parameters."""
    given = dict(plan.params)
    if given.get("quantization"):
        given["quantization"] = edge.QuantizationSearchParams(**given["quantization"])
    return edge.SearchParams(exact=plan.exact, **given)


def _request(plan: SearchPlan, row: int, condition: Any, limit: int) -> edge.QueryRequest:
    params = search_params(plan)
    prefetches = [
        edge.Prefetch(
            stage.limit,
            query=edge.Query.Nearest(stage.Q[row], using=stage.using),
            params=params,
            filter=condition,
        )
        for stage in plan.stages()
    ]
    query: Any = edge.Query.Nearest(plan.Q[row], using=plan.using)
    if plan.is_fused:
        query = edge.Fusion.Rrf(k=_RRF_K, weights=plan.weights and list(plan.weights))
    return edge.QueryRequest(
        limit=limit,
        query=query,
        prefetches=prefetches or None,
        filter=condition,
        params=params,
        with_payload=False,
        with_vector=False,
    )


def _try_opening(path: Path, what: str) -> None:
    """Open and close a collection in another process first: a full disk ends that one.

    `DiskFullError` if it does; other reasons are left to whoever opens the collection then.
    """
    status, _ = _in_child("open", path, _OPENING_DEADLINE_S)
    if status == _FULL:
        raise space.full(what)


def optimize_in_child(path: Path, deadline_s: float) -> None:
    """Run the engine's optimizer on a closed shard in another process, and wait for it."""
    _spare_the_disk(path, f"optimize {path}")
    status, complaint = _in_child("optimize", path, deadline_s)
    if status == _FULL or space.is_full(complaint):
        raise space.full(f"build the indexes in {path}, and searches are slower without them")
    if status:
        last = complaint.strip().splitlines()[-1:]
        raise StoreError(f"optimizing {path} failed: {' '.join(last) or status}")


def _in_child(task: str, path: Path, deadline_s: float) -> tuple[int, str]:
    """Do something with a closed shard in another process; return its status and complaint."""
    script = Path(__file__).with_name("child.py")
    # -P: our modules shadow nothing
    command = [sys.executable, "-P", str(script), task, str(path), str(os.getpid())]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, complaint = child.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        raise StoreUnavailable(
            f"{_DOING[task]} {path} was not done within {deadline_s:.0f} s and was stopped; all "
            f"points are there; give it more time"
        ) from None
    finally:
        # Also on Ctrl-C: a killed optimizer leaves the shard as it was.
        if child.poll() is None:
            child.kill()
            child.communicate()
    return child.returncode, complaint.decode(errors="replace")
