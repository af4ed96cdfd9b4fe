"""The stand-in of the wire keeps the promises of a server, through our store and HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from intramodal.store.base import Store
from intramodal.store.connect import Connection, connect_server
from intramodal.store.open import open_store
from intramodal.store.server import ServerStore
from tests.contract.store_contract import NAME, RAW, StoreContract
from tests.faults.wire import WireServer


@pytest.fixture(scope="module", params=["rest", "grpc"])
def connection(server: WireServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    connection = connect_server(server.url, prefer_grpc=request.param == "grpc")
    assert connection.uses_grpc == (request.param == "grpc")
    yield connection
    connection.client.close()


class TestStoreOverTheWire(StoreContract):
    @pytest.fixture
    def store(self, server: WireServer, connection: Connection) -> Store:
        server.storage.clear()
        return ServerStore(connection)  # one client for all: each costs 0.1 s

    @pytest.fixture
    def closable(self, server: WireServer, store: Store) -> Store:
        own = open_store(server.url)
        own.create(NAME, RAW)
        return own

    def test_a_closed_store_says_so_and_closes_twice(self, closable: Store) -> None:
        super().test_a_closed_store_says_so_and_closes_twice(closable)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/collections/x", {"vectors": {"raw": {"size": 4}}}, 400),
        ("PUT", "/collections/x", {"vectors": {}, "shards": 3}, 400),
        ("PUT", "/collections/x/points", {"ids": [1]}, 400),
        ("POST", "/collections/x/points/scroll", {"limit": "ten"}, 400),
        ("POST", "/collections/x/points/scroll", {}, 404),
        ("POST", "/collections/x/points/recommend", {}, 501),
        ("GET", "/collections/x", None, 404),
    ],
)
def test_a_wrong_request_fails(
    server: WireServer, method: str, path: str, body: object, status: int
) -> None:
    server.storage.clear()
    assert httpx.request(method, server.url + path, json=body).status_code == status
    assert server.storage.collections == {}
