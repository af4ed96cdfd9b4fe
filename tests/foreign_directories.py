"""Directories that other programs keep, and what a folder holds to the last time of a change."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

N = 8


def make_local_mode(place: Path, **options: Any) -> None:
    """Write two collections with qdrant-client's local mode, as anybody would."""
    from qdrant_client import QdrantClient, models

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = QdrantClient(path=str(place), **options)
    client.create_collection(
        "products",
        vectors_config={"image": models.VectorParams(size=4, distance=models.Distance.COSINE)},
        metadata={"owner": "shop"},
    )
    points = [
        models.PointStruct(
            id=i, vector={"image": [1.0, i, 0.0, 1.0]}, payload={"category": "ab"[i % 2]}
        )
        for i in range(N)
    ]
    client.upsert("products", points)
    client.create_collection(
        "plain", vectors_config=models.VectorParams(size=3, distance=models.Distance.EUCLID)
    )
    some = [models.PointStruct(id=_uuid(i), vector=[i, 2.0, 3.0]) for i in range(N)]
    client.upsert("plain", some)
    client.close()


def _uuid(i: int) -> str:
    return f"00000000-0000-4000-8000-{i:012d}"


def make_shard(place: Path) -> None:
    """Write a shard with Qdrant Edge, as anybody would."""
    edge = pytest.importorskip("qdrant_edge")
    place.mkdir()
    params = edge.EdgeVectorParams(size=4, distance=edge.Distance.Cosine)
    shard = edge.EdgeShard.create(str(place), edge.EdgeConfig(vectors={"image": params}))
    points = [
        edge.Point(i, {"image": np.eye(4, dtype=np.float32)[i % 4] + i}, {"category": "ab"[i % 2]})
        for i in range(N)
    ]
    shard.update(edge.UpdateOperation.upsert_points(points))
    keyword = edge.PayloadSchemaType.Keyword
    shard.update(edge.UpdateOperation.create_field_index("category", keyword))
    shard.close()


def make_server(place: Path) -> None:
    """Write the skeleton of a server's storage."""
    shard = place / "collections" / "shop" / "0"
    (shard / "segments").mkdir(parents=True)
    (shard / "wal").mkdir()
    (shard / "shard_config.json").write_text('{"type":"Local"}')
    (shard.parent / "config.json").write_text("{}")
    (place / "aliases").mkdir()
    (place / "aliases" / "data.json").write_text("{}")
    (place / "raft_state.json").write_text("{}")


def make_photos(place: Path) -> None:
    """Write a folder of two pictures."""
    place.mkdir()
    for i in range(2):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(place / f"{i}.png")


def contents(place: Path) -> Mapping[str, tuple[Any, ...]]:
    """Return everything below a folder, itself included: sizes, modes, times and links."""
    paths = [place, *sorted(place.rglob("*"))]
    return {str(path): _stat(path) for path in paths}


def _stat(path: Path) -> tuple[Any, ...]:
    found = path.lstat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode, found.st_ino


FOREIGN: dict[str, Callable[[Path], None]] = {
    "local mode": make_local_mode,
    "shard": make_shard,
    "server": make_server,
    "files": make_photos,
}
