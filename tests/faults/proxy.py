"""A proxy on the loopback interface that breaks what it is told to, request by request."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException

from tests.faults.ports import bound, two_ports

Kind = Literal["refuse", "reset", "late", "lose", "stall", "half", "cut", "answer"]

_PAGE = b"<html><head><title>Sign in</title></head><body>You are offline.</body></html>"
_PATIENCE_S, _IMPATIENCE_S = 20.0, 0.1
_LONGEST_STALL_S = 5.0


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    Parameters
    ----------
    kind : str
        ``"refuse"``: no connection. ``"reset"``: it breaks while the request is sent. ``"late"``:
        the same, but the request arrives after the next one. ``"lose"``: applied, then the
        connection breaks. ``"stall"``: applied, the answer comes after the client's patience.
        ``"half"``: applied, half the answer comes. ``"cut"``: the same, without the length that
        would tell. ``"answer"``: something in between answers.
    status, body, headers
        Of that answer.
    is_applied : bool
        Whether the request reaches the server nevertheless.
    """

    kind: Kind
    status: int = 0
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    is_applied: bool = False

    def __str__(self) -> str:
        """Return the kind, or what is answered."""
        return self.kind if self.kind != "answer" else f"{self.status}{dict(self.headers) or ''}"

    @property
    def retry_after_s(self) -> int:
        """Return the pause that is asked for."""
        asked = dict(self.headers).get("Retry-After", "")
        return int(asked) if asked.isdigit() else 0


def failing(status: int, text: str = "broken", *, is_applied: bool = False) -> Fault:
    """Return an error of the server itself."""
    body = b'{"status": {"error": "%s"}, "time": 0.0}' % text.encode()
    return Fault("answer", status, body, is_applied=is_applied)


def busy(retry_after: str | None) -> Fault:
    """Return the server's rate limit."""
    headers = () if retry_after is None else (("Retry-After", retry_after),)
    return Fault("answer", 429, failing(429, "Rate limiting exceeded").body, headers)


def page(status: int = 200, *, is_applied: bool = False) -> Fault:
    """Return the web page of a proxy or a login gate."""
    return Fault("answer", status, _PAGE, (("Content-Type", "text/html"),), is_applied)


@dataclass(frozen=True)
class Request:
    """A request on its way."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Served:
    """One request, and what went wrong with it."""

    method: str
    path: str
    fault: Fault | None


@dataclass
class FaultProxy:
    """Stands on ``http://127.0.0.1:port`` before a server, while the block lasts.

    The next port is bound and never listens: gRPC finds nobody there.

    Parameters
    ----------
    upstream : str
        Address of the server.
    journal : list
        Takes a `Served` a request; a clock may write its pauses into the same list.
    largest_body : int or None
        Bytes; larger ones are refused before they are read, as servers do.
    is_curt : bool
        Whether that is done without a word: the connection breaks.
    """

    upstream: str
    journal: list[Any] = field(default_factory=list)
    largest_body: int | None = None
    is_curt: bool = False

    def __post_init__(self) -> None:
        self._steps: deque[Fault | None] = deque()
        self._late: list[Request] = []
        self._lock = threading.RLock()
        self._guards, self.port = two_ports()
        self._listener: socket.socket | None = None
        self._is_closed = False

    @property
    def url(self) -> str:
        """Return the address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultProxy:
        """Start."""
        self._open()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop."""
        self._is_closed = True
        self._shut()
        for guard in self._guards:
            guard.close()

    def plan(self, steps: Iterable[Fault | None]) -> None:
        """Set what happens to the next requests; those after them pass."""
        with self._lock:
            self._steps = deque(steps)
            self._arrange()

    def heal(self) -> None:
        """Let everything pass from now on."""
        self.plan([])

    def watch(self, client: QdrantClient) -> None:
        """Give the client patience for all but stalled answers, and learn of refusals."""
        client.http.client.add_middleware(self._watched)

    def _watched(self, request: httpx.Request, send: Any) -> Any:
        is_stalled = bool(self._steps) and self._steps[0] == Fault("stall")
        patience = _IMPATIENCE_S if is_stalled else _PATIENCE_S
        request.extensions["timeout"] = dict.fromkeys(
            ("connect", "read", "write", "pool"), patience
        )
        try:
            return send(request)
        except ResponseHandlingException as error:
            if isinstance(error.source, httpx.ConnectError):
                self._refused(request)
            raise

    def _refused(self, request: httpx.Request) -> None:
        with self._lock:
            if self._steps and self._steps[0] == Fault("refuse"):
                self._pop(request.method, request.url.raw_path.decode())

    def _pop(self, method: str, target: str) -> Fault | None:
        with self._lock:
            fault = self._steps.popleft() if self._steps else None
            self.journal.append(Served(method, urlsplit(target).path, fault))
            self._arrange()
            return fault

    def oversized(self, length: int) -> Fault | None:
        """Return what happens to a body of so many bytes, if it is too large."""
        if self.largest_body is None or length <= self.largest_body:
            return None
        limit = f"is larger than allowed (limit: {self.largest_body} bytes)."
        return (
            Fault("reset")
            if self.is_curt
            else failing(400, f"JSON payload ({length} bytes) {limit}")
        )

    def _arrange(self) -> None:
        """Listen unless the next connection is to be refused."""
        is_refusing = bool(self._steps) and self._steps[0] == Fault("refuse")
        if is_refusing:
            self._shut()
        elif self._listener is None and not self._is_closed:
            self._open()

    def _open(self) -> None:
        with self._lock:
            if self._listener is None:
                self._listener = bound(self.port)
                self._listener.listen(64)
                accepting = threading.Thread(
                    target=self._accept, args=(self._listener,), daemon=True
                )
                accepting.start()

    def _shut(self) -> None:
        with self._lock:
            if self._listener is not None:
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
                self._listener.close()
                self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:  # shut
                return
            threading.Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        with connection:
            _Handler(connection, address, self)  # type: ignore[arg-type]  # no socketserver here

    def forward(self, request: Request) -> tuple[int, bytes]:
        """Send a request to the server, then those that were held back; return its answer."""
        answer = self._sent(request)
        with self._lock:
            late, self._late = self._late, []
        for held_back in late:
            self._sent(held_back)
        return answer

    def hold_back(self, request: Request) -> None:
        """Keep a request until another one was forwarded."""
        with self._lock:
            self._late.append(request)

    def _sent(self, request: Request) -> tuple[int, bytes]:
        upstream = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=60)
        try:
            connection.request(
                request.method, request.target, request.body or None, dict(request.headers)
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultProxy  # type: ignore[assignment]

    def _handle(self) -> None:
        self.close_connection = True
        large = self.server.oversized(int(self.headers.get("Content-Length", 0)))
        if large is not None:
            return self._refuse(large)
        fault = self.server._pop(self.command, self.path)
        if fault is not None and fault.kind == "reset":
            return self._reset()
        request = Request(self.command, self.path, self._passed_on(), self._body())
        if fault is None:
            status, content = self.server.forward(request)
            return self._send(status, content, length=len(content))
        act = {
            "late": self._be_late,
            "lose": self._lose,
            "stall": self._stall,
            "half": self._halve,
            "cut": self._halve,
            "answer": self._answer,
        }[fault.kind]
        return act(fault, request)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815  as http.server calls them

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _passed_on(self) -> dict[str, str]:
        own = ("host", "connection", "content-length", "accept-encoding")
        return {name: value for name, value in self.headers.items() if name.lower() not in own}

    def _refuse(self, fault: Fault) -> None:
        """Answer without reading the body."""
        self.server.journal.append(Served(self.command, urlsplit(self.path).path, fault))
        if fault.kind == "reset":
            return self._reset()
        return self._send(fault.status, fault.body, length=len(fault.body))

    def _be_late(self, fault: Fault, request: Request) -> None:
        self.server.hold_back(request)
        self._reset()

    def _lose(self, fault: Fault, request: Request) -> None:
        self.server.forward(request)
        self._reset()

    def _stall(self, fault: Fault, request: Request) -> None:
        self.server.forward(request)
        self.connection.settimeout(_LONGEST_STALL_S)
        with suppress(OSError):
            self.connection.recv(1)  # until the client hangs up

    def _halve(self, fault: Fault, request: Request) -> None:
        status, content = self.server.forward(request)
        # An error says enough by its status: there the length tells that something is missing.
        is_told = fault.kind == "half" or status != 200
        length = len(content) if is_told else None
        self._send(status, content[: len(content) // 2], length=length)

    def _answer(self, fault: Fault, request: Request) -> None:
        if fault.is_applied:
            self.server.forward(request)
        self._send(fault.status, fault.body, fault.headers, length=len(fault.body))

    def _reset(self) -> None:
        """Close without a goodbye: the client sees a connection reset by its peer."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _send(self, status: int, content: bytes, headers: Any = (), *, length: int | None) -> None:
        self.send_response_only(status)
        fields = {"Content-Type": "application/json", "Connection": "close", **dict(headers)}
        if length is not None:
            fields["Content-Length"] = str(length)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Say nothing: the journal tells."""
