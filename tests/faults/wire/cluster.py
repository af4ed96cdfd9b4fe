"""Several nodes of one stand-in: which shard a point is in, and who knows a new vector when."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from intramodal.types import PointId
from tests.faults.wire.errors import WireError
from tests.faults.wire.points import Collection, Given, Place, Point, ShardKey, bare, known_id

FIRST_PEER = 100

MARKED_DEAD = "The replica set for shard 1 on peer 100 does not have enough active replicas"
NOT_MARKED = (
    "1 of 2 read operations failed:\n  Service internal error: Tonic status error: code: "
    "'The service is currently unavailable', message: \"tcp connect error\""
)

_UNREACHABLE = (
    "Service internal error: Tonic status error: code: 'The service is currently unavailable', "
    'message: "tcp connect error"'
)


@dataclass
class Cluster:
    """Peers that learn of a new vector name only after some more requests.

    Shard s lies on peer s and the next ones, as many as there are replicas.

    Parameters
    ----------
    n_peers : int
    replicas : int
        Of each shard.
    lag : dict of int to int
        Peer (from 0) -> requests for which it goes on without knowing a new vector.
    is_one_down : bool
        Whether a replica is dead, without which not all can be read.
    down_says : str
        What a read of all gets then: `NOT_MARKED` until a write has met the dead replica.
    takes_keys : bool
        Whether shard keys can be made; a server alone refuses that, but tests need not be several.
    deaf_after_404 : int
        So many updates are missed by the last replica of each shard after one that held an absent
        point: it is deactivated then, and may come back without them.
    orderings : list
        What the writes asked for, None by default.
    down : int, optional
        The peer that does not answer, not the one that is asked. Its replicas are dead for the
        others once a write has reached those beside it.
    """

    n_peers: int = 1
    replicas: int = 1
    lag: dict[int, int] = field(default_factory=dict)
    is_one_down: bool = False
    down_says: str = MARKED_DEAD
    takes_keys: bool = True
    deaf_after_404: int = 0
    orderings: list[str | None] = field(default_factory=list)
    down: int | None = None
    n_deaf: int = 0
    _left: dict[tuple[str, int], int] = field(default_factory=dict)

    def added(self, vector: str) -> None:
        """Take note of a new vector."""
        self._left.update({(vector, peer): n for peer, n in self.lag.items() if n})

    def tick(self) -> None:
        """Let time pass: one request more."""
        self._left = {key: n - 1 for key, n in self._left.items() if n > 1}

    def is_known(self, vector: str, peer: int) -> bool:
        """Return whether a peer knows a vector name."""
        return (vector, peer) not in self._left

    def refuses(self, vector: str, shard: int, *, reads_all: bool = True) -> bool:
        """Return whether a peer that has to answer for a shard does not know a vector name."""
        peers = self.holders(shard)[: None if reads_all else 1]
        return not all(self.is_known(vector, peer) for peer in peers)

    def check_search(self, vector: str, n_shards: int, *, reads_all: bool) -> None:
        """Raise what a search gets if one of the shards refuses, or all replicas cannot answer."""
        if reads_all:
            self.check_all()
        if any(self.refuses(vector, s, reads_all=reads_all) for s in range(n_shards)):
            raise unknown(vector)

    def check_all(self) -> None:
        """Raise what a read of all replicas gets where one is dead."""
        if self.is_one_down:
            raise WireError(500, f"Service internal error: {self.down_says}")

    def placed(self, found: Collection, shard: int) -> list[int]:
        """Return the peers that hold a replica of a shard of a collection."""
        n = max(self.replicas, found.config.replication_factor or 1)
        return [(shard + k) % self.n_peers for k in range(min(n, self.n_peers))]

    def reaches(self, found: Collection, shard: int) -> bool:
        """Return whether a peer that holds a shard answers."""
        return self.placed(found, shard) != [self.down]

    def check_read(self, found: Collection, *, reads_all: bool = False) -> None:
        """Raise what a read gets if the peer that is down is needed for it."""
        for shard in range(found.n_shards):
            holders = self.placed(found, shard)
            if self.down not in holders:
                continue
            if reads_all and shard in found.dead:
                text = f"The replica set for shard {shard} on peer {FIRST_PEER} does not have"
                raise WireError(500, f"Service internal error: {text} enough active replicas")
            if reads_all or len(holders) == 1:
                text = f"1 of {len(holders)} read operations failed:\n  {_UNREACHABLE}"
                raise WireError(500, f"Service internal error: {text}")

    def after_write(self, found: Collection, shards: Iterable[int]) -> None:
        """Raise what a write of some shards gets, although it is kept where a peer answers."""
        touched = set(shards)
        hit = {shard for shard in touched if self.down in self.placed(found, shard)}
        least = found.config.write_consistency_factor or 1
        failed = {shard for shard in hit if len(self.placed(found, shard)) - 1 < least}
        found.dead |= hit - failed
        if failed:
            text = f"{len(failed)} out of {len(touched)} shards failed to apply operation."
            first = f"First error captured: {_UNREACHABLE}"
            raise WireError(500, f"Service internal error: {text} {first}")

    def not_found(
        self, found: Collection, shard: int | None, peer: int, error: WireError
    ) -> WireError:
        """Return the 404 of a point in the words of the peer that is asked: others' are quoted."""
        if error.status != 404 or shard is None or peer in self.placed(found, shard):
            return error
        text = f"code: 'Some requested entity was not found', message: \"{error}\" not found"
        return WireError(404, f"Not found: {text}")

    def seen(
        self, matches: Callable[[PointId, Point], bool], found: Collection, peer: int
    ) -> Callable[[PointId, Point], bool]:
        """Return a condition that a point meets if it does on the replica that a peer reads."""
        if self.n_peers == 1:
            return matches

        def on_replica(point: PointId, stored: Point) -> bool:
            holders = self.holders(shard_of(point, stored.shard_key, found))
            return matches(point, stored.on(peer if peer in holders else holders[0]))

        return on_replica

    def given_by_all(
        self,
        found: Collection,
        places: Iterable[Place],
        matches: Callable[[PointId, Point], bool],
        limit: int,
    ) -> Iterator[Place]:
        """Yield the points that all replicas of their shard give: each gives its first `limit`."""
        n_given: Counter[tuple[int, int]] = Counter()
        for place in places:
            stored = found.points[place]
            shard = shard_of(bare(place), stored.shard_key, found)
            replicas = [(shard, peer) for peer in self.holders(shard)]
            givers = [
                (shard, peer)
                for shard, peer in replicas
                if n_given[shard, peer] < limit and matches(bare(place), stored.on(peer))
            ]
            n_given.update(givers)
            if givers == replicas:
                yield place

    def after_update(
        self, found: Collection, points: Sequence[Given], key: Any, had: Sequence[set[str]]
    ) -> None:
        """Let the last replicas miss an update that was written, where they are deaf.

        They lack the vectors then that they have not `had` before, and keep the old others.
        """
        if self.n_deaf and self.replicas > 1:
            self.n_deaf -= 1
            for given, names in zip(points, had, strict=True):
                point = known_id(given.id)
                last = self.holders(shard_of(point, key, found))[-1]
                stored = found.points[found.place(point, key)]
                stored.lacks.setdefault(last, set()).update(set(given.vectors) - names)
                stored.stale.setdefault(last, set()).update(set(given.vectors) & names)

    def last_has(self, found: Collection, point: Any, key: Any) -> set[str]:
        """Return the vectors of a point that the last replica of its shard has."""
        stored = found.points.get(found.place(point, key))
        last = self.holders(shard_of(known_id(point), key, found))[-1]
        return set() if stored is None else set(stored.on(last).vectors)

    def are_alike(self, stored: Point, wanted: Any) -> bool:
        """Return whether all replicas of a point have the same vectors of those wanted."""
        names = set(wanted) if isinstance(wanted, list) else set(stored.vectors if wanted else ())
        return not any(names & missed for missed in stored.stale.values())

    def holders(self, shard: int) -> list[int]:
        """Return the peers that hold a replica of a shard."""
        return [(shard + n) % self.n_peers for n in range(self.replicas)]

    def shards(self, collection: Collection, peer: int) -> dict[str, Any]:
        """Return what ``GET /collections/NAME/cluster`` says on a peer."""
        local, remote = [], []
        # The peer that is asked knows of all shards; it counts the points of its own.
        for s, key in enumerate(collection.shard_keys or [None] * collection.n_shards):
            n_points = sum(
                shard_of(bare(place), point.shard_key, collection) == s
                for place, point in collection.points.items()
            )
            for holder in self.placed(collection, s):
                if holder == peer:
                    local.append(_shard(s, key, points_count=n_points, state="Active"))
                else:
                    is_dead = (self.is_one_down and s == 1) or (
                        holder == self.down and s in collection.dead
                    )
                    state = "Dead" if is_dead else "Active"
                    remote.append(_shard(s, key, peer_id=FIRST_PEER + holder, state=state))
        return {
            "peer_id": FIRST_PEER + peer,
            "shard_count": len(collection.shard_keys) or collection.n_shards,
            "local_shards": local,
            "remote_shards": remote,
            "shard_transfers": [],
        }

    def status(self, peer: int) -> dict[str, Any]:
        """Return what ``GET /cluster`` says; a server alone is no cluster."""
        if self.n_peers == 1:
            return {"status": "disabled"}
        pending = sum(key[1] == peer for key in self._left)
        peers = {
            str(FIRST_PEER + n): {"uri": f"http://node-{n}:6335"} for n in range(self.n_peers)
        }
        return {
            "status": "enabled",
            "peer_id": FIRST_PEER + peer,
            "peers": peers,
            "raft_info": {
                "term": 1, "commit": 7, "pending_operations": pending,
                "leader": FIRST_PEER, "role": "Follower" if peer else "Leader", "is_voter": True,
            },
            "consensus_thread_status": {
                "consensus_thread_status": "working", "last_update": "2026-01-01T00:00:00Z",
            },
            "message_send_failures": self._send_failures(),
        }  # fmt: skip

    def _send_failures(self) -> dict[str, Any]:
        """Return which peers cannot be sent to, as 1.19.0 says it before any write has met one."""
        if self.down is None:
            return {}
        uri = f"http://node-{self.down}:6335/"
        why = "Error in closure supplied to transport channel pool: code: "
        why += f"'The service is currently unavailable', message: \"Failed to connect to {uri}, "
        why += 'error: transport error"'
        at = "2026-01-01T00:00:00Z"
        return {uri: {"count": 73, "latest_error": why, "latest_error_timestamp": at}}


def _shard(s: int, key: ShardKey | None, **more: Any) -> dict[str, Any]:
    return {"shard_id": s, **({} if key is None else {"shard_key": key}), **more}


def shard_of(point: PointId, key: Any, collection: Collection) -> int:
    """Return the shard of a point."""
    if collection.is_custom:
        return collection.shard_keys.index(key)
    return zlib.crc32(str(point).encode()) % collection.n_shards


def unknown(vector: str) -> WireError:
    """Return the refusal of a node that does not know a vector name."""
    return WireError(400, f"Wrong input: Not existing vector name error: {vector}")
