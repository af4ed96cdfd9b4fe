"""What a backfill costs: bytes, memory, and the index that is built again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from intramodal.store.base import Filter, VectorSpec
from intramodal.store.collection import ImageCollection

_BYTES = {"float32": 4, "float16": 2, "uint8": 1, "turbo4": 0.5, "turbo8": 1, "turbo16": 2}
_DEFAULT_M = 16
_LINK_BYTES = 4
# Bits a component beside the original (Qdrant's documentation; plus small metadata).
_BINARY_BITS = {"one_bit": 1.0, "one_and_half_bits": 1.5, "two_bits": 2.0}
_TURBO_BITS = {"bits1": 1.0, "bits1_5": 1.5, "bits2": 2.0, "bits4": 4.0, "bits8": 8.0}

REINDEX_S = (0.6e-3, 6.3e-3)
"""Seconds a point of 768 dimensions, measured on the embedded engine with two cores: the first
build of 100,000 clustered points took 60 s on a quiet machine; the build after a backfill of
20,000 random ones, of 1,024 dimensions, took 168 s beside four other jobs."""

_REINDEX_DIMS = 768


@dataclass(frozen=True)
class VectorCost:
    """One vector's size in bytes: `data` as stored, `memory` as an index in memory needs it."""

    data: int
    memory: int


def vector_cost(spec: VectorSpec, n: int, settings: Mapping[str, Any], name: str) -> VectorCost:
    """Return what `n` vectors cost.

    Parameters
    ----------
    spec : VectorSpec
    n : int
        Points that have the vector.
    settings : mapping
        Of the collection, as `Store.settings` tells them.
    name : str
        The vector's name there.
    """
    own = settings.get("vectors", {}).get(name, {})
    data = n * spec.size * _BYTES.get(spec.datatype, 4)
    quantized = n * spec.size * _quantized_bits(settings, own) / 8
    is_on_disk = own.get("on_disk") or own.get("memory") == "cold"
    held = quantized + (0 if is_on_disk else data)
    links = n * links_a_point(settings, own) * _LINK_BYTES
    return VectorCost(int(data), int(held + links))


def links_a_point(settings: Mapping[str, Any], own: Mapping[str, Any]) -> int:
    """Return the links of a point in the lowest layer of an HNSW graph, nearly all there are."""
    if not settings.get("has_index", True):
        return 0
    merged = {**settings.get("hnsw_config", {}), **own.get("hnsw_config", {})}
    return 2 * int(merged.get("m", _DEFAULT_M))


def _quantized_bits(settings: Mapping[str, Any], own: Mapping[str, Any]) -> float:
    config = own.get("quantization_config") or settings.get("quantization_config") or {}
    if "scalar" in config:
        return 8.0
    if "binary" in config:
        return _BINARY_BITS.get(config["binary"].get("encoding") or "one_bit", 2.0)
    if "turbo" in config:
        return _TURBO_BITS.get(config["turbo"].get("bits") or "bits4", 8.0)
    if "product" in config:  # "x16" is the 16th of float32
        return 32.0 / int(str(config["product"]["compression"]).lstrip("x"))
    return 0.0


def collection_costs(
    collection: ImageCollection, settings: Mapping[str, Any]
) -> dict[str, VectorCost]:
    """Return what each vector of a collection costs now."""
    return {
        name: vector_cost(spec, collection.count(Filter(has_vector=name)), settings, name)
        for name, spec in collection.info().vectors.items()
        if not spec.is_multivector
    }


def reindex_seconds(n_points: int, dims: int) -> tuple[int, int]:
    """Return the least and the most that an index of `n_points` took on two cores, scaled."""
    low, high = (a_point * n_points * dims / _REINDEX_DIMS for a_point in REINDEX_S)
    return round(low), round(high)
