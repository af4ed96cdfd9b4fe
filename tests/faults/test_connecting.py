"""Finding out what answers at an address, and whether the same server speaks gRPC."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
import pytest
from click.testing import CliRunner
from qdrant_client.grpc import collections_pb2, qdrant_pb2
from qdrant_client.grpc.collections_service_pb2_grpc import (
    CollectionsServicer,
    add_CollectionsServicer_to_server,
)
from qdrant_client.grpc.qdrant_pb2_grpc import QdrantServicer, add_QdrantServicer_to_server

from intramodal.cli import cli
from intramodal.errors import AccessDenied, InputError, StoreError, StoreUnavailable
from intramodal.store.base import VectorSpec
from intramodal.store.open import open_store
from intramodal.store.server.client import Retry, connect_server
from tests.faults.proxy import Fault, failing, page
from tests.faults.schedules import Wire
from tests.faults.wire.server import VERSION

pytestmark = pytest.mark.serial  # connecting gives up after so many seconds


@contextmanager
def silent(port: int) -> Iterator[None]:
    """Accept connections and say nothing."""
    with listener(port):
        yield


@contextmanager
def rude(port: int) -> Iterator[None]:
    """Accept connections and close them."""
    with listener(port) as listening:

        def close() -> None:
            while True:
                try:
                    listening.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=close, daemon=True).start()
        yield
        listening.shutdown(socket.SHUT_RDWR)


def listener(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen()
    return listening


class Root(QdrantServicer):
    def __init__(self, version: str) -> None:
        self._version = version

    def HealthCheck(self, request: Any, context: Any) -> Any:
        return qdrant_pb2.HealthCheckReply(title="qdrant", version=self._version)


class Collections(CollectionsServicer):
    def __init__(self, names: list[str], status: grpc.StatusCode | None) -> None:
        self._names, self._status = names, status

    def List(self, request: Any, context: Any) -> Any:
        if self._status is not None:
            context.set_trailing_metadata((("retry-after", "30"),))
            context.abort(self._status, "not now")
        described = [collections_pb2.CollectionDescription(name=name) for name in self._names]
        return collections_pb2.ListCollectionsResponse(collections=described)


@contextmanager
def qdrant(
    port: int,
    *,
    version: str = VERSION,
    names: list[str] | None = None,
    status: grpc.StatusCode | None = None,
) -> Iterator[None]:
    """Speak Qdrant's gRPC, as far as connecting asks."""
    server = grpc.server(ThreadPoolExecutor(2))
    add_QdrantServicer_to_server(Root(version), server)  # type: ignore[no-untyped-call]
    collections = Collections(["photos"] if names is None else names, status)
    add_CollectionsServicer_to_server(collections, server)  # type: ignore[no-untyped-call]
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    server.start()
    yield
    server.stop(None).wait()


def test_the_same_server_is_spoken_to_in_grpc(wire: Wire) -> None:
    wire.store().create("photos", {"raw": VectorSpec(4)})
    with qdrant(wire.proxy.port + 1), open_store(wire.proxy.url) as store:
        assert store.describe()["protocol"] == "grpc"


@pytest.mark.parametrize(
    "stranger",
    [
        silent,
        rude,
        lambda port: qdrant(port, version="1.18.3"),
        lambda port: qdrant(port, names=["other"]),
        lambda port: qdrant(port, status=grpc.StatusCode.UNAUTHENTICATED),
        lambda port: qdrant(port, status=grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["silent", "rude", "other version", "other collections", "other key", "busy"],
)  # fmt: skip
def test_whoever_else_has_the_next_port_is_not_spoken_to(
    wire: Wire, stranger: Callable[[int], AbstractContextManager[None]]
) -> None:
    wire.store().create("photos", {"raw": VectorSpec(4)})
    with stranger(wire.proxy.port + 1), open_store(wire.proxy.url) as store:
        assert store.describe()["protocol"] == "rest"
        assert store.collections() == ["photos"]


def test_a_closed_grpc_port_means_rest(wire: Wire) -> None:
    with open_store(wire.proxy.url) as store:
        assert store.describe()["protocol"] == "rest"


def test_a_server_that_is_starting_is_waited_for(wire: Wire) -> None:
    wire.proxy.plan([Fault("refuse")])
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            wire.proxy.plan([failing(503), Fault("reset")])

    connection = connect_server(wire.proxy.url, retry=Retry(deadline_s=60, sleep=sleep))
    connection.client.close()
    assert len(pauses) == 5


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault("refuse"), StoreUnavailable, "is the server running"),
        (Fault("reset"), StoreUnavailable, "broke"),
        (failing(401, "no key"), AccessDenied, "QDRANT_API_KEY"),
        (page(), StoreError, "not Qdrant's"),
        (Fault("answer", 200, b"{}"), StoreError, "not Qdrant's"),
        (Fault("answer", 200, b'{"title": "other", "version": "x"}'), StoreError, "Qdrant"),
        (failing(404), StoreError, "broken"),
    ],
    ids=str,
)
def test_what_is_no_usable_server_is_said_while_connecting(
    wire: Wire, fault: Fault, error: type[StoreError], words: str
) -> None:
    wire.proxy.plan([fault] * 1000)
    with pytest.raises(error, match=words) as caught:
        connect_server(wire.proxy.url, retry=wire.clock.retry(4.0))
    assert wire.proxy.url in str(caught.value)
    assert sum(wire.pauses()) <= 4.0


def test_timeout_and_deadline_are_those_that_were_asked_for(wire: Wire) -> None:
    wire.store().create("photos", {"raw": VectorSpec(4)})
    with open_store(wire.proxy.url, timeout_s=1, deadline_s=0.5) as store:
        wire.proxy.plan([Fault("stall")])
        started = time.perf_counter()
        with pytest.raises(
            StoreUnavailable, match=r"no response in time.*gave up after 1 attempt"
        ):
            store.count("photos")
        assert 0.9 < time.perf_counter() - started < 3
        wire.proxy.plan([failing(503)] * 1000)
        started = time.perf_counter()
        with pytest.raises(StoreUnavailable, match="gave up after"):
            store.count("photos")
        assert time.perf_counter() - started < 0.9


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("timeout_s", value) for value in (0, -1, float("nan"), 9_223_372_037, 10**20)),
        *(("deadline_s", value) for value in (-1, float("nan"), float("inf"), 10**20)),
    ],
)
def test_patience_that_cannot_be_meant_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name} must be at least"):
        open_store(":memory:", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["option", "environment", "file"])
def test_a_command_repeats_for_as_long_as_it_is_told_to(
    wire: Wire, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.store().create("photos", {"raw": VectorSpec(4)})
    monkeypatch.chdir(tmp_path)
    words = ["search", "photos", "--id", "1", "--store", wire.proxy.url]
    if how == "option":
        words += ["--deadline", "0.3"]
    elif how == "environment":
        monkeypatch.setenv("INTRAMODAL_DEADLINE", "0.3")
    else:
        Path("intramodal.toml").write_text("deadline = 0.3\n")
    # Found, and then no more.
    wire.proxy.plan([None, None, *[failing(503)] * 1000])
    started = time.perf_counter()
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 1
    assert "gave up after" in done.stderr
    assert time.perf_counter() - started < 5
