"""How the new vector is defined and set up: as its source, unless somebody wants it otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from intramodal.errors import InputError
from intramodal.store.base import UNNAMED, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Distance, VectorMap

QUANTIZATIONS = ("none", "scalar", "binary", "turbo")
"""What a new vector can be quantized by; product quantization is never taken or made."""

_FLOATS = ("float32", "float16")
_KEPT_IN_MEMORY: dict[str, dict[str, Any]] = {
    "scalar": {"scalar": {"type": "int8", "always_ram": True}},
    "binary": {"binary": {"always_ram": True}},
    "turbo": {"turbo": {"always_ram": True}},
}
"""By kind, what a vector is set up with if its source is not quantized so."""

_PLACES = ("on_disk", "memory")
_NOT_SET_UP = ("memory", "local")
"""Backends that keep a vector's settings for nothing."""

_WHY_NO_UINT8 = (
    "components of projected vectors lie between -1 and 1, and uint8 keeps whole numbers from 0 "
    "to 255"
)
_WHY_NO_PRODUCT = (
    "one of its codes would stand for a larger part of the shorter vector; measure another kind "
    "with `intramodal evaluate index`"
)


@dataclass(frozen=True)
class Storing:
    """How a new vector is to be stored; None: as its source.

    Parameters
    ----------
    on_disk : bool or None
        Whether its numbers are read from disk instead of memory.
    quantize : {"none", "scalar", "binary", "turbo"} or None
        What is kept in memory beside them for searches.
    datatype : str or None
        Type of its numbers: ``"float32"``, ``"float16"`` or another one that the store knows.
    """

    on_disk: bool | None = None
    quantize: str | None = None
    datatype: str | None = None

    def __post_init__(self) -> None:
        """Raise `InputError` for a quantization that is none of ours."""
        if self.quantize not in (None, *QUANTIZATIONS):
            raise InputError(
                f"a vector cannot be quantized by {self.quantize!r}; choose one of "
                f"{', '.join(QUANTIZATIONS)}"
            )


@dataclass(frozen=True)
class NewVector:
    """Definition and settings of a new vector.

    Parameters
    ----------
    spec : VectorSpec
    settings : dict
        As `Store.add_vector` takes them.
    notes : list of str
        What it takes from its source, what not, and what changes for clients.
    """

    spec: VectorSpec
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add_to(self, collection: ImageCollection, name: str, origin: VectorOrigin) -> None:
        """Add the vector to a collection, or what it lacks of the settings."""
        collection.add_vector(
            name, self.spec.size, origin, datatype=self.spec.datatype, settings=self.settings
        )


def new_vector(
    collection: ImageCollection,
    source: str,
    vector: str,
    made_by: VectorMap,
    storing: Storing,
) -> NewVector:
    """Return how a vector beside its source is defined and set up; a complete one stays as it is.

    Parameters
    ----------
    collection : ImageCollection
    source, vector : str
    made_by : VectorMap
        What makes the new vector: its size and distance.
    storing : Storing

    Raises
    ------
    InputError
        If what is wanted cannot be.
    """
    size, distance = made_by.dim_out, made_by.distance
    specs = collection.vectors
    there = specs.get(vector)
    if there is not None:
        _check_datatype(there, vector, storing)
        storing = replace(storing, datatype=there.datatype)
        known = collection.manifest.vectors.get(vector)
        if known is not None and known.is_complete:
            # It is its owner's, who may have set it up otherwise since: only what is asked for.
            told = collection.described.settings
            wanted = _wanted(told.get("vectors", {}).get(vector, {}), told, storing, only=True)
            return NewVector(VectorSpec(size, distance, there.datatype), wanted)
    backend, settings = collection.store.describe()["backend"], collection.described.settings
    if backend in _NOT_SET_UP:
        settings, storing = {}, _in_local_mode(storing, there)
    found = as_source(specs[source], source, vector, made_by, settings=settings, storing=storing)
    collection.store.check_storable(vector, found.spec)
    clients = _on_clients(source, vector, has_description=backend != "edge")
    return replace(found, notes=[*clients, *found.notes])


def as_source(
    spec: VectorSpec,
    source: str,
    vector: str,
    made_by: VectorMap,
    *,
    settings: Mapping[str, Any],
    storing: Storing,
) -> NewVector:
    """Return a new vector that a map makes, stored as its source where nothing else is wanted.

    Parameters
    ----------
    spec : VectorSpec
        Of the source.
    source, vector : str
    made_by : VectorMap
        What makes the new vector.
    settings : mapping
        What `Store.settings` tells of the collection that has the source.
    storing : Storing

    Raises
    ------
    InputError
        If the vector would be stored as uint8, or cannot be quantized as wanted.
    """
    if storing.datatype == "uint8":
        raise InputError(
            f"{vector!r} cannot be stored as uint8: {_WHY_NO_UINT8}; choose float32, float16 or "
            f"another type that the store knows"
        )
    own = settings.get("vectors", {}).get(source, {})
    datatype = storing.datatype or (spec.datatype if spec.datatype in _FLOATS else "float32")
    notes = [
        *_on_distance(spec, source, vector, made_by.distance),
        *_on_taken(own, spec, source, vector, storing),
        *_on_collection(settings, storing),
    ]
    new = VectorSpec(made_by.dim_out, made_by.distance, datatype)
    return NewVector(new, _wanted(own, settings, storing), notes)


def _in_local_mode(storing: Storing, there: VectorSpec | None) -> Storing:
    """Return what is wanted of the client's local mode, which (1.20) adds float32 alone."""
    if there is None and storing.datatype not in (None, "float32"):
        raise InputError(
            f"the client's local mode adds vectors of float32 only, not of {storing.datatype}; "
            f"leave datatype out, or use a directory or a server as the store"
        )
    return replace(storing, datatype="float32" if there is None else there.datatype)


def _check_datatype(there: VectorSpec, vector: str, storing: Storing) -> None:
    if storing.datatype not in (None, there.datatype):
        raise InputError(
            f"{vector!r} is stored as {there.datatype} already, and a store cannot change that to "
            f"{storing.datatype}; fill another `vector`, or roll this one back first"
        )


def _wanted(
    own: Mapping[str, Any], settings: Mapping[str, Any], storing: Storing, *, only: bool = False
) -> dict[str, Any]:
    """Return the source's settings with what is wanted otherwise, or that only."""
    before = own.get("quantization_config", {})
    taken = {} if only else own
    found = {key: value for key, value in taken.items() if not _is_product(key, value)}
    if storing.on_disk is not None:
        found = {key: value for key, value in found.items() if key not in _PLACES}
        # Where a vector has `memory`, that is what counts.
        memory = {"memory": "cold" if storing.on_disk else "cached"}
        found |= memory if "memory" in own else {"on_disk": storing.on_disk}
    if storing.quantize is None:
        return found
    found.pop("quantization_config", None)
    if storing.quantize != "none":
        is_same = storing.quantize in before
        found["quantization_config"] = before if is_same else _KEPT_IN_MEMORY[storing.quantize]
    elif only and before:
        raise InputError(
            f"the vector is complete and quantized by {next(iter(before))} already, which is its "
            f"owner's to undo; leave quantize out, or choose one of {', '.join(QUANTIZATIONS[1:])}"
        )
    elif settings.get("quantization_config"):
        raise InputError(
            "a vector of this collection cannot be quantized by nothing: the collection's own "
            f"quantization is for all that have none; choose one of {', '.join(QUANTIZATIONS[1:])}"
        )
    return found


def _is_product(key: str, value: Any) -> bool:
    return key == "quantization_config" and "product" in value


def _on_clients(source: str, vector: str, *, has_description: bool) -> list[str]:
    if source != UNNAMED or not has_description:
        return []
    return [
        f"the collection's description changes for good: its vectors become a map of '' and "
        f"{vector!r}, and clients that read the size there must look below ''; upserts and "
        f"searches that name no vector work as before"
    ]


def _on_distance(spec: VectorSpec, source: str, vector: str, distance: Distance) -> list[str]:
    if distance == "Dot":
        return [
            f"{vector!r} is ranked by Dot: its numbers are chances of classes, and their lengths "
            f"count"
        ]
    if spec.distance == "Cosine":
        return []
    return [
        f"{source!r} is ranked by {spec.distance}; its vectors are scaled to unit length before "
        f"they are projected, so that {vector!r} ranks by cosine and lengths do not count"
    ]


def _on_taken(
    own: Mapping[str, Any], spec: VectorSpec, source: str, vector: str, storing: Storing
) -> list[str]:
    taken = (
        [] if storing.on_disk is not None else [_spelled(k, own[k]) for k in _PLACES if k in own]
    )
    taken += [_spelled("hnsw_config", own["hnsw_config"])] if own.get("hnsw_config") else []
    quantization = own.get("quantization_config") if storing.quantize is None else None
    left = []
    if quantization and "product" in quantization:
        left.append(f"product quantization ({_WHY_NO_PRODUCT})")
    elif quantization:
        taken.append(_spelled("quantization_config", quantization))
    if storing.datatype is None and spec.datatype == "uint8":
        left.append(f"uint8 ({_WHY_NO_UINT8})")
    elif storing.datatype is None and spec.datatype != "float32":
        (taken if spec.datatype in _FLOATS else left).append(spec.datatype)
    notes = [f"{vector!r} takes from {source!r}: {', '.join(taken)}"] if taken else []
    return [*notes, *(f"{vector!r} does not take from {source!r}: {one}" for one in left)]


def _on_collection(settings: Mapping[str, Any], storing: Storing) -> list[str]:
    if storing.quantize is not None or "product" not in settings.get("quantization_config", {}):
        return []
    return [
        f"the collection's own product quantization is for every vector that has none, also for "
        f"the new one: {_WHY_NO_PRODUCT} (quantize)"
    ]


def _spelled(key: str, value: Any) -> str:
    """Return a setting as a person reads it."""
    if key == "on_disk":
        return "on disk" if value else "in memory"
    if key == "memory":
        return f"memory {value}"
    if key == "hnsw_config":
        return "HNSW " + " ".join(f"{name}={number}" for name, number in value.items())
    return f"{next(iter(value))} quantization"
