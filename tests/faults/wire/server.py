"""The stand-in as an HTTP server on the loopback interface."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.faults.wire.points import WireError
from tests.faults.wire.routes import answered
from tests.faults.wire.storage import Storage

VERSION = "1.19.0"


class WireServer:
    """Answers on ``http://127.0.0.1:port`` while the block lasts.

    Parameters
    ----------
    largest_request : int
        Bytes of a body; 413 beyond.
    version : str
        What `GET /` tells.
    """

    def __init__(self, *, largest_request: int = 32 * 1024**2, version: str = VERSION) -> None:
        self.storage = Storage()
        self._largest_request = largest_request
        self._version = version
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self.answer))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Return the address."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> WireServer:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop, and wait for requests under way."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Return status and JSON of one request."""
        path = urlsplit(target).path
        if (method, path) == ("GET", "/"):
            return 200, {"title": "qdrant - vector search engine", "version": self._version}
        try:
            if len(body) > self._largest_request:
                raise WireError(413, "A payload reached size limit.")
            with self._lock:
                return 200, {"result": answered(self.storage, method, path, body), "status": "ok"}
        except WireError as error:
            return error.status, {"status": {"error": str(error)}, "time": 0.0}


def _handler(answer: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = answer(self.command, self.path, body)
            encoded = json.dumps(content, separators=(",", ":")).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815  as http.server calls them

        def log_message(self, *args: object) -> None:
            """Say nothing: tests read the storage."""

    return Handler
