"""TLS is checked, and a key goes to nobody else."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from intramodal.errors import InputError, StoreError
from intramodal.store.server.client import Retry, connect_server

KEY = "planted-4717"
ONCE = Retry(deadline_s=0.0)


class Listening:
    """Answers nothing of use, and keeps the keys that it was given."""

    def __init__(self, certificate: Path | None = None, moved_to: str = "") -> None:
        self.keys: list[str] = []
        own = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                own.keys.append(self.headers.get("api-key", ""))
                self.send_response(307 if moved_to else 404)
                if moved_to:
                    self.send_header("Location", moved_to + self.path)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server.server_address[1]}"

    def __enter__(self) -> Listening:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate for localhost that nobody has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-out", str(path), "-keyout", str(path.with_suffix(".key"))],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    with Listening(certificate) as server:
        with pytest.raises(StoreError, match="certificate cannot be verified") as refused:
            connect_server(server.url, api_key=KEY, retry=ONCE)
        assert server.keys == []
    assert KEY not in str(refused.value)


def test_a_certificate_of_an_authority_that_the_environment_names_is_taken(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Listening(certificate) as server:
        with pytest.raises(StoreError):  # it is no Qdrant
            connect_server(server.url, api_key=KEY, retry=ONCE)
        assert KEY in server.keys


def test_a_server_that_sends_elsewhere_is_not_followed(certificate: Path) -> None:
    with Listening() as other, Listening(moved_to=other.url) as server:
        with pytest.raises(StoreError):
            connect_server(server.url, api_key=KEY, retry=ONCE)
        assert KEY in server.keys
        assert other.keys == []


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{KEY}@localhost:6333",
        f"https://{KEY}@localhost:6333",
        f"http://localhost:6333/?api-key={KEY}",
        f"http://localhost:6333/#{KEY}",
    ],
)
def test_an_address_with_a_name_or_a_key_in_it_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError, match="QDRANT_API_KEY") as refused:
        connect_server(url, retry=ONCE)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "is_warned"),
    [("http://db.example:6333", True), ("http://localhost:1", False), ("https://x:1", False)],
)
def test_a_key_without_encryption_is_warned_of(
    url: str, is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from intramodal.store.server.client import _warn_of_clear_text

    _warn_of_clear_text(url, KEY)
    assert ("unencrypted" in caplog.text) == is_warned
    assert KEY not in caplog.text
