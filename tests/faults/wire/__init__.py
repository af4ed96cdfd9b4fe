"""The part of Qdrant's API that our store sends, answered from dictionaries.

A test double of the wire, not of our code: requests are read with the client's own models, so
that a wrong one fails; points live in a dictionary; search is exact, in numpy. Its answers are
held against those of real servers (tests/faults/recordings); what was not recorded was read in
the server's source (v1.19).
"""

from tests.faults.wire.keys import Keys
from tests.faults.wire.points import Point
from tests.faults.wire.rpc import RpcFault
from tests.faults.wire.server import WireServer

__all__ = ["Keys", "Point", "RpcFault", "WireServer"]
