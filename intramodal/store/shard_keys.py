"""Collections that put points into shards by key: each write must say the key of its points.

A server refuses a write without one (``Shard key not specified``). Points that exist tell theirs;
new ones get the one that the store was opened with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from intramodal.errors import InputError, NotFound
from intramodal.store.calls import Caller, in_batches
from intramodal.store.pages import plain_id
from intramodal.types import PointId

ShardKey = str | int

_IDS_AT_ONCE = 1000


def keys_of(server: Caller, name: str, ids: Sequence[PointId]) -> dict[PointId, ShardKey | None]:
    """Return the shard key of each point that exists."""
    found: dict[PointId, ShardKey | None] = {}

    def read(part: slice) -> None:
        some: list[Any] = list(ids[part])
        records = server.call(
            f"read {name!r}",
            lambda: server.client.retrieve(name, some, with_payload=False, with_vectors=False),
        )
        # The client's type of a key is looser than a key is.
        found.update({plain_id(record.id): cast(ShardKey, record.shard_key) for record in records})

    in_batches(read, len(ids), _IDS_AT_ONCE)
    return found


def by_key(
    ids: Sequence[PointId], known: dict[PointId, ShardKey | None]
) -> dict[ShardKey | None, list[int]]:
    """Return the places in `ids` of each key's points; absent points are left out."""
    groups: dict[ShardKey | None, list[int]] = {}
    for place, point in enumerate(ids):
        if point in known:
            groups.setdefault(known[point], []).append(place)
    return groups


def with_new_points(
    name: str,
    ids: Sequence[PointId],
    known: dict[PointId, ShardKey | None],
    key: ShardKey | None,
) -> dict[PointId, ShardKey | None]:
    """Return the keys of all points: those that are absent get `key`."""
    absent = [point for point in ids if point not in known]
    if absent and key is None:
        raise InputError(
            f"{name!r} puts points into shards by key and {absent[0]!r} is new; give the key of "
            f"new points (--into-shard KEY), one that the collection has"
        )
    return {**known, **dict.fromkeys(absent, key)}


def require_all(
    name: str, ids: Sequence[PointId], known: dict[PointId, ShardKey | None]
) -> dict[PointId, ShardKey | None]:
    """Return `known`; `NotFound` unless it has all points."""
    for point in ids:
        if point not in known:
            raise NotFound(f"cannot change {name!r}: No point with id {point} found")
    return known
