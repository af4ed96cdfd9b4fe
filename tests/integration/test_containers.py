"""How containers are asked for, told by what a daemon hears; no daemon is needed.

The daemon is a stand-in that answers testcontainers' requests; the "container" that it starts is
the stand-in of the wire. What a real image does is shown where a real daemon is.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from tests.faults.wire import Keys, WireServer
from tests.integration.servers import (
    IMAGE,
    OLD_IMAGE,
    SERVER,
    STAND_IN,
    URL,
    chosen,
    kinds,
    qdrant_container,
    why_no_container,
    why_no_image,
)


class Daemon:
    """Keeps the settings of the container that it was asked for, and runs a stand-in for it."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.images = {IMAGE, OLD_IMAGE}
        self.pulled: list[str] = []
        self.removed = False
        self._running = ExitStack()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"tcp://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Daemon:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._running.close()
        self._http.shutdown()
        self._http.server_close()

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.asked["Env"])

    def port(self, inside: int) -> int:
        return int(self.asked["HostConfig"]["PortBindings"][f"{inside}/tcp"][0]["HostPort"])

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/version":
            return 200, {"ApiVersion": "1.44", "Version": "25"}
        if path == "/containers/create":
            self.asked = json.loads(body)
            return 201, {"Id": "abc", "Warnings": []}
        if path.endswith("/start"):
            self._run()
            return 204, None
        if method == "DELETE":
            self.removed = True
            return 204, None
        if path == "/containers/json":
            return 200, [self._seen()]
        if path == "/networks":
            return 200, []
        if path.startswith("/images/"):
            return self._image(method, path)
        return 200, self._seen()

    def _image(self, method: str, path: str) -> tuple[int, Any]:
        if method == "POST":
            self.pulled.append(path)
            return 500, {"message": "Get https://registry/v2/: dial tcp: no such host"}
        name = unquote(path.removeprefix("/images/").removesuffix("/json"))
        return (200, {"Id": name}) if name in self.images else (404, {"message": "No such image"})

    def _run(self) -> None:
        told = self.environment
        service = "QDRANT__SERVICE__{}API_KEY"
        keys = Keys(told[service.format("")], told[service.format("READ_ONLY_")])
        version = self.asked["Image"].rpartition(":v")[2]
        server = WireServer(version=version, keys=keys, speaks_grpc=True, port=self.port(6333))
        self._running.enter_context(server)

    def _seen(self) -> dict[str, Any]:
        ports = {
            f"{n}/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(self.port(n))}]
            for n in (6333, 6334)
        }
        bridge = {"Gateway": "127.0.0.1", "IPAddress": "127.0.0.1"}
        return {
            "Id": "abc",
            "Name": "/abc",
            "State": {"Status": "running"},
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Networks": {"bridge": bridge}, "Ports": ports},
        }


def _handler(daemon: Daemon) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = re.sub(r"^/v[\d.]+", "", self.path.partition("?")[0])
            status, content = daemon.answer(self.command, path, body)
            encoded = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815  as http.server calls them

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    pytest.importorskip("testcontainers", reason="testcontainers is not installed")
    config = pytest.importorskip("testcontainers.core.config").testcontainers_config
    monkeypatch.setattr(config, "ryuk_disabled", True)
    with Daemon() as daemon:
        monkeypatch.setenv("DOCKER_HOST", daemon.url)
        yield daemon


@pytest.mark.parametrize("image", [IMAGE, OLD_IMAGE])
def test_a_server_with_two_keys_is_started_where_the_client_looks_and_removed(
    daemon: Daemon, image: str
) -> None:
    assert why_no_container() == ""
    with qdrant_container(image) as server:
        assert daemon.asked["Image"] == image
        assert daemon.port(6334) == daemon.port(6333) + 1
        assert server.url.endswith(f":{daemon.port(6333)}")
        assert daemon.environment["QDRANT__TELEMETRY_DISABLED"] == "true"
        keys = (server.api_key, server.read_only_key)
        assert all(len(str(key)) >= 32 for key in keys)
        assert len(set(keys)) == 2
        assert server.why_no_grpc() == ""
        with server.store() as store:
            assert store.describe()["version"] == image.rpartition(":v")[2]
    assert daemon.removed


@pytest.fixture
def no_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(URL, raising=False)
    why_no_image.cache_clear()
    yield
    why_no_image.cache_clear()


def test_a_daemon_that_cannot_pull_an_image_is_as_good_as_none(
    daemon: Daemon, no_address: None
) -> None:
    daemon.images.clear()
    assert kinds(URL, IMAGE) == [SERVER, STAND_IN]
    assert daemon.pulled == []  # collecting tests pulls nothing
    reasons = {why_no_image(IMAGE) for _ in range(36)}
    assert len(reasons) == 1
    (reason,) = reasons
    assert reason.startswith(f"no image {IMAGE}: the container daemon cannot pull it (")
    assert "no such host" in reason
    assert len(daemon.pulled) == 1


def test_an_image_that_is_there_is_not_pulled(daemon: Daemon, no_address: None) -> None:
    assert kinds(URL, IMAGE) == [SERVER]
    assert why_no_image(IMAGE) == ""
    assert daemon.pulled == []


def test_the_helper_of_testcontainers_is_needed_unless_it_is_turned_off(
    daemon: Daemon, no_address: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pytest.importorskip("testcontainers.core.config").testcontainers_config
    monkeypatch.setattr(config, "ryuk_disabled", False)
    assert kinds(URL, IMAGE) == [SERVER, STAND_IN]
    assert why_no_image(IMAGE).startswith(f"no image {config.ryuk_image}: ")
    why_no_image.cache_clear()
    daemon.images.add(config.ryuk_image)
    assert why_no_image(IMAGE) == ""


def test_images_of_ones_own_registry_are_named_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert chosen(URL, IMAGE) == IMAGE
    monkeypatch.setenv("INTRAMODAL_TEST_QDRANT_IMAGE", "registry.example/qdrant:v1.19.0")
    assert chosen(URL, IMAGE) == "registry.example/qdrant:v1.19.0"
