"""Several nodes of one stand-in: which shard a point is in, and who knows a new vector when."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

from tests.faults.wire.errors import WireError

FIRST_PEER = 100


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
    """

    n_peers: int = 1
    replicas: int = 1
    lag: dict[int, int] = field(default_factory=dict)
    is_one_down: bool = False
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
        peers = [(shard + n) % self.n_peers for n in range(self.replicas if reads_all else 1)]
        return not all(self.is_known(vector, peer) for peer in peers)

    def check_search(self, vector: str, n_shards: int, *, reads_all: bool) -> None:
        """Raise what a search gets if one of the shards refuses, or all replicas cannot answer."""
        if reads_all and self.is_one_down:
            text = "Service internal error: The replica set for shard 1 on peer 100 does not have "
            raise WireError(500, text + "enough active replicas")
        if any(self.refuses(vector, s, reads_all=reads_all) for s in range(n_shards)):
            raise unknown(vector)

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
            "message_send_failures": {},
        }  # fmt: skip


def shard_of(point: Any, n_shards: int) -> int:
    """Return the shard of a point."""
    return zlib.crc32(str(point).encode()) % n_shards


def unknown(vector: str) -> WireError:
    """Return the refusal of a node that does not know a vector name."""
    return WireError(400, f"Wrong input: Not existing vector name error: {vector}")
