"""A model hub on this machine: what its clients ask for one repository."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40


@contextmanager
def serving(folder: Path, repo: str) -> Iterator[str]:
    """Serve the files of a folder as those of a repository; yields the address of the hub."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(has_body=True)

        def do_HEAD(self) -> None:
            self._answer(has_body=False)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, *, has_body: bool) -> None:
            place, _, name = self.path.partition(f"/{repo}/resolve/")
            file = folder / name.partition("/")[2]
            is_there = not place and bool(name) and file.is_file()
            content = file.read_bytes() if is_there else b"[]"
            self.send_response(200 if is_there or "/tree/" in self.path else 404)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if not is_there:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if has_body:
                self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
