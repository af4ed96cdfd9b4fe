"""`ServerStore`: qdrant-client, for a server, a cluster, or ``:memory:``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qdrant_client import models
from qdrant_client.http.exceptions import ResponseHandlingException

from intramodal.errors import Unsupported
from intramodal.store import words
from intramodal.store.base import Filter, Hits, Page
from intramodal.store.calls import Known, batch_size, in_batches
from intramodal.store.checks import (
    LARGEST_SIGNED,
    LARGEST_UNSIGNED,
    canonical_ids,
    check_points,
    check_vector,
    checked_payload,
    require_vectors,
)
from intramodal.store.fields import selection
from intramodal.store.filters import spell
from intramodal.store.hits import Answer, rank
from intramodal.store.messages import upsert_request
from intramodal.store.pages import page_of
from intramodal.store.plans import SearchPlan, plan_search
from intramodal.store.server_collections import ServerCollections
from intramodal.store.shard_keys import (
    ShardKey,
    by_key,
    keys_of,
    require_all,
    with_new_points,
)
from intramodal.types import Floats, Payload, PointId

log = logging.getLogger(__name__)

_REST_BATCH, _GRPC_BATCH, _UPDATE_BATCH, _QUERY_BATCH = 256, 1000, 500, 100
_READ_BATCH, _ID_BATCH = 1000, 10_000
_INSERTS_SINCE = (1, 16)
"""Older servers ignore the update filter in silence."""


class ServerStore(ServerCollections):
    """Collections of a Qdrant server, or of the client's local mode.

    Use `intramodal.store.open.open_store`. Requests that fail for a passing reason are repeated,
    with growing pauses, until a deadline.

    Parameters
    ----------
    connection : Connection
        From `intramodal.store.connect`; closed with the store.
    retry : Retry, optional
        Also gives clock and sleep to everything that waits.
    cluster : Cluster, optional
        How a cluster is used.
    """

    def upsert(
        self,
        name: str,
        ids: Sequence[PointId],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
    ) -> None:
        """Write whole points durably, vectors and payload; replaces points with these ids."""
        self._write(name, ids, vectors, payloads, only_absent=False)

    def insert(
        self,
        name: str,
        ids: Sequence[PointId],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
    ) -> None:
        """Write the points that are absent, whole; those that exist stay untouched."""
        self._warn_of_replacing()
        self._write(name, ids, vectors, payloads, only_absent=True)

    @property
    def _largest_number(self) -> int:
        return LARGEST_SIGNED if self._connection.uses_grpc else LARGEST_UNSIGNED

    def _warn_of_replacing(self) -> None:
        is_new_enough = self._connection.version_numbers >= _INSERTS_SINCE
        if self._is_local or is_new_enough or self._has_warned:
            return
        self._has_warned = True
        log.warning(
            "Qdrant %s at %s replaces points that exist instead of leaving them alone: nobody "
            "else may write to them meanwhile; Qdrant 1.16 and later can tell",
            self._connection.version,
            self.location,
        )

    def _write(
        self,
        name: str,
        ids: Sequence[PointId],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
        *,
        only_absent: bool,
    ) -> None:
        points = canonical_ids(ids, unique=True)
        known = self._server.know(name, list(vectors))
        checked = check_points(known.specs, points, vectors, payloads)
        largest = self._largest_number
        pairs = zip(payloads, points, strict=True)
        payloads = [checked_payload(payload, point, largest=largest) for payload, point in pairs]
        width = sum(X.shape[1] for X in checked.values())

        def send(part: slice) -> None:
            for key, rows in self._by_key(name, known, points, part, are_new=True):
                some = {vector: X[rows] for vector, X in checked.items()}
                told = [payloads[row] for row in rows]
                which = [points[row] for row in rows]
                self._write_points(name, which, some, told, key, only_absent=only_absent)

        most = _GRPC_BATCH if self._connection.uses_grpc else _REST_BATCH
        size = self._batch_size(known, most, width, payloads)
        self._streams_of(known).send(send, len(points), size)

    def upload_streams(self, name: str) -> int:
        """Return how many writes to a collection are best under way at once."""
        return self._streams_of(self._server.know(name)).n

    def delete(self, name: str, ids: Sequence[PointId]) -> None:
        """Delete points; absent ids are ignored."""
        points = canonical_ids(ids)
        self._server.look(name)
        known = self._server.know(name)

        def send(part: slice) -> None:
            for key, rows in self._by_key(name, known, points, part, are_new=None):
                self._delete_points(name, [points[row] for row in rows], key)

        in_batches(send, len(points), _ID_BATCH)

    def update_vectors(
        self, name: str, vector: str, ids: Sequence[PointId], X: Floats, *, wait: bool = True
    ) -> None:
        """Set one named vector of existing points; everything else stays untouched."""
        points = canonical_ids(ids, unique=True)
        known = self._server.know(name, [vector])
        X = check_vector(known.specs, vector, X, len(points))

        def send(part: slice) -> None:
            for key, rows in self._by_key(name, known, points, part):
                changes = words.vector_updates(vector, [points[row] for row in rows], X[rows])
                self._update_points(name, vector, changes, key, wait=wait)

        size = self._batch_size(known, _UPDATE_BATCH, X.shape[1])
        self._streams_of(known).send(send, len(points), size)

    def set_payload(self, name: str, ids: Sequence[PointId], payload: Payload) -> None:
        """Merge the same payload keys into the given points."""
        payload = checked_payload(payload, largest=self._largest_number)
        points = canonical_ids(ids)
        known = self._server.know(name)

        def send(part: slice) -> None:
            for key, rows in self._by_key(name, known, points, part):
                self._set_payload_of(name, [points[row] for row in rows], payload, key)

        in_batches(send, len(points), _ID_BATCH)

    def scroll(
        self,
        name: str,
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
        where: Filter | None = None,
        batch_size: int = 1000,
        offset: PointId | None = None,
    ) -> Iterator[Page]:
        """Yield all (matching) points in id order; `payload=True` means every key."""
        known = self._server.know(name, vectors)
        require_vectors(known.specs, vectors)
        condition = spell(words.CLIENT, where)
        wanted = selection(payload, knows_quotes=not self._is_local)
        limit = min(batch_size, known.limits.answers_a_query or batch_size)
        start = None if offset is None else canonical_ids([offset])[0]
        while True:
            records, following = self._server.call(
                f"read {name!r}",
                lambda: self._server.client.scroll(
                    name,
                    scroll_filter=condition,
                    limit=limit,
                    offset=start,  # noqa: B023  called before the next round
                    with_payload=wanted,
                    with_vectors=words.vector_selection(vectors),
                ),
            )
            page = page_of(records, known.specs, vectors, payload, following)
            if page.ids:
                yield page
            start = page.next_offset
            if start is None:
                return

    def retrieve(
        self,
        name: str,
        ids: Sequence[PointId],
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
    ) -> Page:
        """Return the points that exist among `ids`, in the order of `ids`."""
        points = canonical_ids(ids)
        known = self._server.know(name, vectors)
        require_vectors(known.specs, vectors)
        wanted = selection(payload, knows_quotes=not self._is_local)
        by_id: dict[Any, models.Record] = {}

        def read(part: slice) -> None:
            records = self._server.call(
                f"read {name!r}",
                lambda: self._server.client.retrieve(
                    name,
                    points[part],
                    with_payload=wanted,
                    with_vectors=words.vector_selection(vectors),
                ),
            )
            by_id.update({record.id: record for record in records})

        in_batches(read, len(points), _READ_BATCH)
        return page_of([by_id[i] for i in points if i in by_id], known.specs, vectors, payload)

    def query_batch(
        self,
        name: str,
        Q: Floats,
        *,
        using: str,
        k: int,
        exact: bool = True,
        exclude: Sequence[PointId | None] | None = None,
        where: Filter | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Hits:
        """Return the k nearest points of every row of `Q` (n, d)."""
        known = self._server.know(name, [using])
        plan = plan_search(
            known.specs, Q, using=using, k=k, exact=exact, exclude=exclude, params=params
        )
        _check_limits(name, known.limits, k, exact=exact)
        filters = [spell(words.CLIENT, where, i) for i in plan.exclude]
        size = min(_QUERY_BATCH, known.limits.queries_a_batch or _QUERY_BATCH)

        def search(rows: Sequence[int], limit: int) -> list[Answer]:
            parts = [rows[start : start + size] for start in range(0, len(rows), size)]
            return [a for part in parts for a in self._search(name, plan, part, filters, limit)]

        most = plan.most(known.limits.answers_a_query)
        return rank(search, len(plan.Q), k, distance=plan.distance(known.specs), most=most)

    def count(self, name: str, where: Filter | None = None) -> int:
        """Return the exact number of (matching) points."""
        condition = spell(words.CLIENT, where)
        answer = self._server.call(
            f"count {name!r}",
            lambda: self._server.client.count(name, count_filter=condition, exact=True),
        )
        return int(answer.count)

    def _batch_size(
        self, known: Known, most: int, width: int, payloads: Sequence[Payload] = ()
    ) -> int:
        return batch_size(self._connection, known.limits, most, width, payloads)

    def _by_key(
        self,
        name: str,
        known: Known,
        points: Sequence[PointId],
        part: slice,
        *,
        are_new: bool | None = False,
    ) -> Iterator[tuple[ShardKey | None, list[int]]]:
        """Yield the rows of a part by the key of their shards; one group where there are none.

        Absent points are new ones, or none may be; None: they are left out.
        """
        if not known.has_shard_keys:
            yield None, list(range(part.start, part.stop))
            return
        ids = points[part]
        keys = keys_of(self._server, name, ids)
        if are_new:
            keys = with_new_points(name, ids, keys, self._cluster.shard_key)
        elif are_new is not None:
            require_all(name, ids, keys)
        for key, places in by_key(ids, keys).items():
            yield key, [part.start + place for place in places]

    def _write_points(
        self,
        name: str,
        ids: list[Any],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
        key: ShardKey | None,
        *,
        only_absent: bool,
    ) -> None:
        replaced = words.NO_POINT if only_absent else None

        def upload() -> None:
            request = upsert_request(name, ids, vectors, payloads, key, replaced)
            self._server.client.grpc_points.Upsert(request, timeout=self._connection.timeout_s)

        def upsert() -> None:
            batch = models.Batch(
                ids=ids, vectors=words.point_vectors(vectors), payloads=list(payloads)
            )
            self._server.client.upsert(
                name, batch, wait=True, shard_key_selector=key, update_filter=replaced
            )

        send = upload if self._connection.uses_grpc else upsert
        self._server.call_spreading(f"write points to {name!r}", name, vectors, send)

    def _update_points(
        self,
        name: str,
        vector: str,
        changes: list[models.PointVectors],
        key: ShardKey | None,
        *,
        wait: bool,
    ) -> None:
        def update() -> None:
            result = self._server.client.update_vectors(
                name, changes, wait=wait, shard_key_selector=key
            )
            # The one write whose missing result the client does not notice over REST (1.20).
            if result is None:
                raise ResponseHandlingException(ValueError("no result"))

        self._server.call_spreading(f"update {vector!r} in {name!r}", name, [vector], update)

    def _set_payload_of(
        self, name: str, ids: list[Any], payload: Payload, key: ShardKey | None
    ) -> None:
        self._server.call(
            f"set payload in {name!r}",
            lambda: self._server.client.set_payload(
                name, payload, points=ids, wait=True, shard_key_selector=key
            ),
        )

    def _delete_points(self, name: str, ids: list[Any], key: ShardKey | None) -> None:
        self._server.call(
            f"delete points of {name!r}",
            lambda: self._server.client.delete(
                name, points_selector=ids, wait=True, shard_key_selector=key
            ),
        )

    def _search(
        self, name: str, plan: SearchPlan, rows: Sequence[int], filters: Sequence[Any], limit: int
    ) -> list[Answer]:
        requests = [
            words.query_request(plan, row, filters[row], limit, is_local=self._is_local)
            for row in rows
        ]
        responses = self._server.call(
            f"search {name!r}", lambda: self._server.client.query_batch_points(name, requests)
        )
        return [words.answer(response) for response in responses]


def _check_limits(name: str, limits: words.Limits, k: int, *, exact: bool) -> None:
    if exact and not limits.allows_exact:
        raise Unsupported(
            f"the strict mode of {name!r} forbids exact search; set search_allow_exact for it, "
            f"or search with exact=False"
        )
    if limits.answers_a_query is not None and k > limits.answers_a_query:
        raise Unsupported(
            f"the strict mode of {name!r} gives at most {limits.answers_a_query} answers a query, "
            f"asked for {k}; ask for fewer or raise max_query_limit"
        )
