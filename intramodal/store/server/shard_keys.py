"""Collections with custom sharding: which shards a request is for, and the names of their points.

An id is unique in its shard only. A server that is asked for several shards drops all but one of
the points with the same id, so each shard is asked by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import and_
from typing import Any, NamedTuple, cast

import numpy as np

from intramodal.errors import InputError, NotFound
from intramodal.store.base import Filter, Page, plain_id
from intramodal.store.checks import canonical_ids, check_unique, typed_id
from intramodal.store.queries import Answer
from intramodal.store.server.client import Caller, in_batches
from intramodal.types import Distance, KeyedId, PointId, ShardKey, key_text, read_key, unkeyed

_IDS_AT_ONCE = 1000
_MOST_SHOWN = 5


class Group(NamedTuple):
    """Points of one shard: their rows in a sequence of names, and their ids there."""

    key: ShardKey | None
    rows: list[int]
    ids: list[Any]


class Span(NamedTuple):
    """The points of one shard that match a filter, from an offset on, in the order of ids."""

    key: ShardKey | None
    where: Filter | None
    offset: PointId | None = None
    following: PointId | None = None
    """Where the next shard begins."""


class Shards:
    """Whose points a request is for: all of a collection, or those of one shard key.

    Names of points are bare ids here; see `KeyedShards`.
    """

    def __init__(self, key: ShardKey | None = None) -> None:
        self.keys: tuple[ShardKey | None, ...] = (key,)

    def named(self, key: ShardKey | None, ids: Sequence[PointId]) -> list[PointId]:
        """Return the names of points of a shard."""
        return list(ids)

    def names(self, ids: Sequence[PointId], *, unique: bool = False) -> list[Any]:
        """Return canonical names; `InputError` for what cannot be one, or is there twice."""
        return canonical_ids(ids, unique=unique)

    def groups(
        self, names: Sequence[PointId], part: slice, *, absent: str = "refuse"
    ) -> Iterator[Group]:
        """Yield a part of some points by the shards that hold them.

        Points that name no shard and are absent are ``"new"`` ones, or one ``"skip"``s them, or
        must ``"refuse"`` them.
        """
        yield Group(self.keys[0], list(range(part.start, part.stop)), list(names[part]))

    def reads(self, where: Filter | None) -> Iterator[tuple[ShardKey | None, Filter | None]]:
        """Yield each shard in which a filter can match, and the filter with its bare ids."""
        yield self.keys[0], where

    def counts(self, where: Filter | None) -> Iterator[tuple[ShardKey | None, Filter | None]]:
        """Yield what adds up to the number of points: a server counts several shards right."""
        yield from self.reads(where)

    def spans(self, where: Filter | None, offset: PointId | None) -> list[Span]:
        """Return what is read, shard by shard, from the point of a name on."""
        start = None if offset is None else self.names([offset])[0]
        return [Span(key, there, start) for key, there in self.reads(where)]

    def page(self, span: Span, page: Page) -> Page:
        """Return a page of a span with the names of its points."""
        return page

    def located(self, names: Sequence[PointId | None]) -> list[PointId | None]:
        """Return names that tell the shard of their point, if it is there at all."""
        return list(names)

    def own(self, key: ShardKey | None, name: PointId | None) -> PointId | None:
        """Return the id of a located point of a shard, None for one that is elsewhere."""
        return name


class OneShard(Shards):
    """The points of one shard key of a collection; their names are their ids."""

    def __init__(self, name: str, key: ShardKey, keys: Sequence[ShardKey]) -> None:
        super().__init__(key)
        self._name, self._key, self._keys = name, key, keys

    def names(self, ids: Sequence[PointId], *, unique: bool = False) -> list[Any]:
        """Return ids; a name with the key of another shard is refused."""
        return canonical_ids([self._id(point) for point in ids], unique=unique)

    def _id(self, point: PointId) -> PointId:
        if not isinstance(point, str) or "/" not in point:
            return point
        found = parsed(self._name, point, self._keys)
        if found.shard_key != self._key:
            raise InputError(
                f"{str(point)!r} is not a point of the shard key {self._key!r}, to which the "
                f"store is limited; name points of that key, or open the store without a key"
            )
        return found.point

    def reads(self, where: Filter | None) -> Iterator[tuple[ShardKey | None, Filter | None]]:
        """Yield the shard and the filter with its bare ids."""
        yield self._key, None if where is None else _with_ids(where, self.names)

    def located(self, names: Sequence[PointId | None]) -> list[PointId | None]:
        """Return bare ids."""
        return [None if point is None else self._id(point) for point in names]


class KeyedShards(Shards):
    """All points of a collection with shard keys; they are named by `KeyedId`.

    Parameters
    ----------
    server : Caller
    name : str
        Of the collection.
    keys : sequence of str or int
        All its shard keys, sorted.
    """

    def __init__(self, server: Caller, name: str, keys: Sequence[ShardKey]) -> None:
        self.keys = tuple(keys)
        self._server, self._name = server, name

    def named(self, key: ShardKey | None, ids: Sequence[PointId]) -> list[PointId]:
        """Return the names of points of a shard."""
        return [KeyedId(cast(ShardKey, key), point) for point in ids]

    def names(self, ids: Sequence[PointId], *, unique: bool = False) -> list[Any]:
        """Return `KeyedId`s, and bare ids where no key was named."""
        found = [self._name_of(point) for point in ids]
        if unique:
            n_keyed = sum(isinstance(point, KeyedId) for point in found)
            # A bare id may be that of a point that is named with its key, too.
            check_unique(self.located(found) if 0 < n_keyed < len(found) else found)
        return found

    def _name_of(self, point: PointId) -> PointId:
        if isinstance(point, str) and "/" in point:
            return parsed(self._name, point, cast(Sequence[ShardKey], self.keys))
        known: PointId = canonical_ids([point])[0]
        return known

    def groups(
        self, names: Sequence[PointId], part: slice, *, absent: str = "refuse"
    ) -> Iterator[Group]:
        """Yield a part of some points by the shards that hold them."""
        rows = range(part.start, part.stop)
        bare = [names[row] for row in rows if not isinstance(names[row], KeyedId)]
        holders = self._holders(bare)
        groups: dict[ShardKey, list[int]] = {}
        for row in rows:
            point = names[row]
            key = point.shard_key if isinstance(point, KeyedId) else self._one(point, holders)
            if key is not None:
                groups.setdefault(key, []).append(row)
            elif absent != "skip":
                raise self._absent(point, is_new=absent == "new")
        for key, found in groups.items():
            yield Group(key, found, [unkeyed(names[row]) for row in found])

    def reads(self, where: Filter | None) -> Iterator[tuple[ShardKey | None, Filter | None]]:
        """Yield each shard in which a filter can match, and the filter with its bare ids."""
        if where is None or not _names_ids(where):
            yield from ((key, where) for key in self.keys)
            return
        where = _with_ids(where, self._located)
        for key in self.keys:
            there = _with_ids(where, partial(_ids_of, key))
            if all(one.ids is None or one.ids for one in there.conditions):
                yield key, there

    def counts(self, where: Filter | None) -> Iterator[tuple[ShardKey | None, Filter | None]]:
        """Yield what adds up to the number of points: a server counts several shards right."""
        if where is None or not _names_ids(where):
            yield None, where
        else:
            yield from self.reads(where)

    def spans(self, where: Filter | None, offset: PointId | None) -> list[Span]:
        """Return what is read, shard by shard, from the point of a name on."""
        reads = list(self.reads(where))
        (start,) = self.located([offset])
        if isinstance(start, KeyedId):
            place = self.keys.index(start.shard_key)
            reads = [(key, there) for key, there in reads if self.keys.index(key) >= place]
        # No id comes before 0.
        nexts = [*(KeyedId(cast(ShardKey, key), 0) for key, _ in reads[1:]), None]
        return [
            Span(key, there, self.own(key, start), following)
            for (key, there), following in zip(reads, nexts, strict=False)
        ]

    def page(self, span: Span, page: Page) -> Page:
        """Return a page of a span with the names of its points."""
        following = span.following
        if page.next_offset is not None:
            following = self.named(span.key, [page.next_offset])[0]
        return replace(page, ids=self.named(span.key, page.ids), next_offset=following)

    def located(self, names: Sequence[PointId | None]) -> list[PointId | None]:
        """Return names that tell the shard of their point, if it is there at all."""
        given = [point for point in names if point is not None]
        bare = [point for point in self.names(given) if not isinstance(point, KeyedId)]
        there = {unkeyed(point): point for point in self._located(bare)}
        named = iter(self.names(given))
        return [None if point is None else there.get(n := next(named), n) for point in names]

    def own(self, key: ShardKey | None, name: PointId | None) -> PointId | None:
        """Return the id of a located point of a shard, None for one that is elsewhere."""
        return name.point if isinstance(name, KeyedId) and name.shard_key == key else None

    def _located(self, ids: Sequence[PointId]) -> list[PointId]:
        """Return the points of some names that exist, or may where they name a shard."""
        names = self.names(ids)
        groups = self.groups(names, slice(0, len(names)), absent="skip")
        return [KeyedId(cast(ShardKey, key), point) for key, _, found in groups for point in found]

    def _holders(self, ids: Sequence[PointId]) -> dict[PointId, list[ShardKey]]:
        """Return which shards hold each of some ids that name no key."""
        found: dict[PointId, list[ShardKey]] = {}
        for key in self.keys if ids else ():
            in_batches(
                partial(self._look, cast(ShardKey, key), ids, found), len(ids), _IDS_AT_ONCE
            )
        return found

    def _look(
        self,
        key: ShardKey,
        ids: Sequence[PointId],
        found: dict[PointId, list[ShardKey]],
        part: slice,
    ) -> None:
        some: list[Any] = list(ids[part])
        records = self._server.call(
            f"read {self._name!r}",
            lambda: self._server.client.retrieve(
                self._name, some, with_payload=False, with_vectors=False, shard_key_selector=key
            ),
        )
        for record in records:
            found.setdefault(plain_id(record.id), []).append(key)

    def _one(self, point: PointId, holders: dict[PointId, list[ShardKey]]) -> ShardKey | None:
        """Return the only shard that holds an id, None if none does."""
        keys = holders.get(point, [])
        if len(keys) > 1:
            shown = ", ".join(map(repr, keys[:_MOST_SHOWN]))
            raise InputError(
                f"{self._name!r} has the id {point!r} under the shard keys {shown}; write which "
                f"point is meant, such as {KeyedId(keys[0], point)}, or open the store for one key"
            )
        return keys[0] if keys else None

    def _absent(self, point: PointId, *, is_new: bool) -> InputError | NotFound:
        if not is_new:
            return NotFound(f"cannot change {self._name!r}: No point with id {point} found")
        return InputError(
            f"{self._name!r} puts points into shards by key and {point!r} is new; give the key of "
            f"new points (`shard_key`), one that the collection has"
        )


def parsed(name: str, text: str, keys: Sequence[ShardKey]) -> KeyedId:
    """Return the point that a text ``KEY/ID`` names; `InputError` if there is no such key."""
    if isinstance(text, KeyedId) and text.shard_key in keys:
        known: PointId = canonical_ids([text.point])[0]
        return text if known == text.point else KeyedId(text.shard_key, known)
    key, _, rest = text.rpartition("/")
    point: PointId = canonical_ids([typed_id(rest)])[0]
    return KeyedId(meant_key(name, key, keys, is_text=True), point)


def meant_key(
    name: str, given: ShardKey, keys: Sequence[ShardKey], *, is_text: bool = False
) -> ShardKey:
    """Return the key of a collection that is meant; `InputError` if it has none such.

    A value means an equal key, `is_text` one that is written so; either may spell a number.
    """
    if is_text:
        exact = [key for key in keys if given == key_text(key) or key == read_key(str(given))]
    else:
        exact = [key for key in keys if key == given]
    for key in [*exact, *(key for key in keys if str(given) in (key_text(key), str(key)))]:
        return key
    shown = ", ".join(map(repr, keys[:_MOST_SHOWN])) or "none yet"
    more = f" and {len(keys) - _MOST_SHOWN:,} more" if len(keys) > _MOST_SHOWN else ""
    raise InputError(f"{name!r} has no shard key {given!r}; it has {shown}{more}")


def _names_ids(where: Filter) -> bool:
    return any(one.ids is not None for one in where.conditions)


def _with_ids(where: Filter, change: Callable[[Sequence[PointId]], Sequence[PointId]]) -> Filter:
    """Return a filter with other ids in its conditions on ids."""
    if not _names_ids(where):
        return where
    changed = (
        one if one.ids is None else replace(one, ids=change(one.ids)) for one in where.conditions
    )
    return reduce(and_, changed)


def _ids_of(key: ShardKey | None, names: Sequence[PointId]) -> list[PointId]:
    return [i.point for i in names if isinstance(i, KeyedId) and i.shard_key == key]


def keys_of(server: Caller, name: str) -> tuple[ShardKey, ...]:
    """Return all shard keys of a collection, as the cluster knows them."""
    info = server.call(
        f"read the shard keys of {name!r}", lambda: server.client.collection_cluster_info(name)
    )
    # The client's type of a key is looser than a key is.
    shards: list[Any] = [*info.local_shards, *info.remote_shards]
    found = {shard.shard_key for shard in shards if shard.shard_key is not None}
    return tuple(sorted(found, key=key_order))


def key_order(key: ShardKey) -> tuple[bool, ShardKey]:
    """Return the sort key of shard keys: numbers by value, then texts."""
    return isinstance(key, str), key


def merged(
    answers: Sequence[Sequence[Answer]], n: int, limit: int, distance: Distance
) -> list[Answer]:
    """Return the `limit` best answers to each of `n` queries, of all shards together."""
    if len(answers) == 1:
        return list(answers[0])
    return [_merged([found[row] for found in answers], limit, distance) for row in range(n)]


def _merged(answers: Sequence[Answer], limit: int, distance: Distance) -> Answer:
    ids = [point for found, _ in answers for point in found]
    scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in answers)])
    sign = -1 if distance in ("Cosine", "Dot") else 1
    order = np.argsort(sign * scores, kind="stable")[:limit]
    return [ids[row] for row in order], scores[order]
