"""The stand-in as a server on the loopback interface: HTTP, and gRPC on the next port."""

from __future__ import annotations

import json
import math
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
from qdrant_client.grpc.collections_service_pb2_grpc import (
    CollectionsServicer,
    add_CollectionsServicer_to_server,
)
from qdrant_client.grpc.points_service_pb2_grpc import (
    PointsServicer,
    add_PointsServicer_to_server,
)
from qdrant_client.grpc.qdrant_pb2_grpc import QdrantServicer, add_QdrantServicer_to_server

from tests.faults.ports import two_ports
from tests.faults.wire import rpc
from tests.faults.wire.errors import WireError
from tests.faults.wire.keys import Keys, is_writing, is_writing_call
from tests.faults.wire.routes import check_timeout, prepared
from tests.faults.wire.storage import Storage
from tests.faults.wire.versions import VERSION, adds_vectors, seen_by

Before = Callable[[str, str], None]
"""Is told of each request before it is served: protocol's method and path, or "gRPC" and call."""


_OPEN = {"/healthz": "healthz check passed", "/readyz": "all shards are ready"}


class HangUp(Exception):  # noqa: N818  no error: what the server does
    """The connection is closed without an answer."""


class WireServer:
    """Answers on ``http://127.0.0.1:port``, and in gRPC on the next port, while the block lasts.

    Parameters
    ----------
    largest_request : int
        Bytes of a REST body; 400 beyond.
    hangs_up : bool
        Whether a client that sends more than that finds its connection closed, without an answer.
    largest_call : int
        Bytes of a gRPC message; no limit, as on a server, by default.
    version : str
        What the server tells; below 1.18 it cannot add vectors, below 1.17 and 1.16 it ignores
        the mode and the filter of an update.
    keys : Keys
        By default everybody may do everything.
    speaks_grpc : bool
        Otherwise the next port stays closed.
    storage : Storage, optional
        That of another node of the same cluster.
    peer : int
        Which node of the cluster this is.
    port : int, optional
        That of a server that has stopped; with gRPC only.
    certificate : Path, optional
        PEM file, its key beside it (``.key``): both ports speak TLS, as ``https://localhost``.

    Attributes
    ----------
    before : callable
        Replaced by tests.
    rpc_faults : list of RpcFault or None
        What happens to the next gRPC calls.
    """

    def __init__(
        self,
        *,
        largest_request: int = 32 * 1024**2,
        hangs_up: bool = False,
        largest_call: int = -1,
        version: str = VERSION,
        keys: Keys | None = None,
        speaks_grpc: bool = False,
        storage: Storage | None = None,
        peer: int = 0,
        port: int | None = None,
        certificate: Path | None = None,
    ) -> None:
        self.storage = storage or Storage(version)
        self._peer = peer
        self.keys = keys or Keys()
        self.before: Before = lambda method, path: None
        self.rpc_faults: list[rpc.RpcFault | None] = []
        self._largest_request = largest_request
        self._hangs_up = hangs_up
        self._largest_call = largest_call
        self._version = version
        self._certificate = certificate
        self._http, self._grpc = self._bound(speaks_grpc, port)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def _bound(
        self, speaks_grpc: bool, port: int | None
    ) -> tuple[ThreadingHTTPServer, grpc.Server | None]:
        handler = _handler(self.answer)
        if not speaks_grpc:
            return self._secured(ThreadingHTTPServer(("127.0.0.1", 0), handler)), None
        if port is None:
            guards, port = two_ports()
            for guard in guards:
                guard.close()
        options = [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", self._largest_call),
        ]
        served = grpc.server(ThreadPoolExecutor(8), options=options)
        self._register(served)
        if self._certificate is None:
            served.add_insecure_port(f"127.0.0.1:{port + 1}")
        else:
            key = self._certificate.with_suffix(".key").read_bytes()
            pair = (key, self._certificate.read_bytes())
            served.add_secure_port(f"127.0.0.1:{port + 1}", grpc.ssl_server_credentials([pair]))
        return self._secured(ThreadingHTTPServer(("127.0.0.1", port), handler)), served

    def _secured(self, http: ThreadingHTTPServer) -> ThreadingHTTPServer:
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate, self._certificate.with_suffix(".key"))
            # The handshake is the handler's: a client that never speaks holds up only its own.
            http.socket = context.wrap_socket(
                http.socket, server_side=True, do_handshake_on_connect=False
            )
        return http

    def _register(self, served: grpc.Server) -> None:
        root = {"HealthCheck": rpc.health(self._version)}
        for add, base, calls in (
            (add_QdrantServicer_to_server, QdrantServicer, root),
            (add_CollectionsServicer_to_server, CollectionsServicer, rpc.COLLECTIONS),
            (add_PointsServicer_to_server, PointsServicer, rpc.POINTS),
        ):
            add(rpc.servicer(base, calls, self.answer_call), served)

    @property
    def url(self) -> str:
        """Return the address."""
        if self._certificate is not None:
            return f"https://localhost:{self.port}"
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Return the port of HTTP."""
        return int(self._http.server_address[1])

    def __enter__(self) -> WireServer:
        """Start."""
        self._thread.start()
        if self._grpc is not None:
            self._grpc.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop, and wait for requests under way."""
        if self._grpc is not None:
            self._grpc.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, content and headers of the answer to one REST request.

        Content is JSON, a text, or None for an empty body.
        """
        path = urlsplit(target).path
        if method == "GET" and path in _OPEN:  # without a key
            return 200, _OPEN[path], {"Content-Type": "text/plain; charset=utf-8"}
        if (method, path) == ("GET", "/"):
            return 200, {"title": "qdrant - vector search engine", "version": self._version}, {}
        given = headers.get("api-key")
        try:
            self.before(method, path)
            self.keys.check(given)
            self._check_size(len(body))
            with self.storage.lock:
                self.storage.cluster.tick()
                act = prepared(
                    self.storage, method, target, body, peer=self._peer, version=self._version
                )
                if is_writing(method, path):  # after the body was read, as the server does
                    self.keys.check_write(given, path)
                result = act()
            return 200, {"result": result, "status": "ok"}, {}
        except WireError as error:
            content: Any = {"status": {"error": str(error)}, "time": 0.0}
            if error.status == 401 or not str(error):
                content = str(error) or None
            return error.status, content, _waiting(error)

    def _check_size(self, n: int) -> None:
        """Raise for a body that is too large, which a server may say by closing."""
        most = self._largest_request
        if n > most:
            if self._hangs_up:
                raise HangUp
            text = f"JSON payload ({n} bytes) is larger than allowed (limit: {most} bytes)."
            raise WireError(400, text)

    def answer_call(self, name: str, call: rpc.Call, request: Any, context: Any) -> Any:
        """Return the answer to one gRPC call, or end it with a status."""
        self.before("gRPC", name)
        fault = self.rpc_faults.pop(0) if self.rpc_faults and name != "HealthCheck" else None
        if fault is not None and not fault.is_applied:
            fault.end(context)
        given = dict(context.invocation_metadata()).get("api-key")
        try:
            if name != "HealthCheck":
                self.keys.check(given)
                if is_writing_call(name):
                    self.keys.check_write(given)
            if name.endswith("VectorName") and not adds_vectors(self._version):
                raise WireError(501, "")
            with self.storage.lock:
                self.storage.cluster.tick()
                if "timeout" in rpc.given_fields(request):
                    check_timeout(self.storage, request.collection_name, request.timeout)
                answer = call(self.storage, seen_by(self._version, request))
        except WireError as error:
            context.set_trailing_metadata(tuple(_waiting(error).items()))
            context.abort(rpc.code_of(error), str(error))
        if fault is not None:
            fault.end(context)
        return answer


def _waiting(error: WireError) -> dict[str, str]:
    """Return the header, or the metadata, that says when to come again."""
    return {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}


def _encoded(content: Any) -> bytes:
    """Return a body: numbers that are not finite are null, as the server writes them."""
    if content is None or isinstance(content, str):
        return (content or "").encode()
    try:
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        return json.dumps(_finite(content), separators=(",", ":")).encode()


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _handler(answer: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                status, content, headers = answer(self.command, self.path, self.headers, body)
            except HangUp:
                self.close_connection = True
                return
            encoded = _encoded(content)
            self.send_response(status)
            if isinstance(content, dict):
                self.send_header("Content-Type", "application/json")
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815  as http.server calls them

        def log_message(self, *args: object) -> None:
            """Say nothing: tests read the storage."""

    return Handler
