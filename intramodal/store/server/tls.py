"""TLS: whose certificates are trusted, and what is wrong where a server cannot be spoken to."""

from __future__ import annotations

import os
import re
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from intramodal.errors import InputError, StoreError

UNVERIFIED = "CERTIFICATE_VERIFY_FAILED"
"""What OpenSSL and gRPC's BoringSSL call a certificate that nobody whom we trust has signed."""

_REASON = re.compile(r"certificate verify failed: (.*?)(?:\.? \(_ssl|$)")
_PATIENCE_S = 1.0
_HELLO = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def trusted(ca: str | None, url: str = "https://") -> ssl.SSLContext | bool:
    """Return what checks certificates of REST: the file `ca` alone; True: the usual authorities.

    Those are not even read for an `url` of http://, whatever the environment names.

    Raises
    ------
    InputError
        If `ca` is no readable file with certificates.
    """
    if ca is None and url.startswith("http://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
    ca = ca or os.environ.get("SSL_CERT_FILE") or None
    if ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:  # the second is one of the first
        why = error.strerror if not isinstance(error, ssl.SSLError) else "no certificate in it"
        raise InputError(
            f"{ca} cannot be used as the certificate of an authority ({why}); give a PEM file"
        ) from error


def roots(ca: str | None) -> bytes | None:
    """Return the certificates of the same authorities for gRPC, which reads other variables."""
    if ca is None and "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" not in os.environ:
        ca = os.environ.get("SSL_CERT_FILE") or None
    if ca is None:
        return None
    try:
        return Path(ca).read_bytes()
    except OSError as error:
        raise InputError(f"{ca} cannot be read ({error.strerror}); give a PEM file") from error


def unverified(text: str) -> str:
    """Return why a certificate is refused, and what to do, from the text of an error."""
    found = _REASON.search(text)
    reason = found[1] if found else "no authority that is trusted here has signed it"
    if "mismatch" in reason.lower():
        remedy = "reach the server by a name that its certificate is for"
    elif "expired" in reason.lower():
        remedy = "have it renewed"
    else:
        remedy = (
            "if an authority of your own has signed it, give the file of that authority's "
            "certificate (ca, INTRAMODAL_CA)"
        )
    return f"its certificate cannot be verified ({reason}); {remedy}"


def check_scheme(url: str) -> None:
    """Raise `StoreError` where a port speaks TLS and the address says http, or the other way."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 6333)
    if parts.scheme == "http" and _speaks_tls(address):
        other, fault = "https", "speaks TLS"
    elif parts.scheme == "https" and _speaks_http(address):
        other, fault = "http", "does not speak TLS"
    else:
        return
    right = urlunsplit(parts._replace(scheme=other))
    raise StoreError(f"the server at {url} {fault}; write {right}")


def _speaks_tls(address: tuple[str, int]) -> bool:
    """Return whether a handshake succeeds; nothing is sent after it, whoever that is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(address, timeout=_PATIENCE_S) as connection,
            context.wrap_socket(connection, server_hostname=address[0]),
        ):
            return True
    except (OSError, ValueError):
        return False


def _speaks_http(address: tuple[str, int]) -> bool:
    """Return whether plain HTTP is answered; a TLS port of a proxy answers it with 400."""
    try:
        with socket.create_connection(address, timeout=_PATIENCE_S) as connection:
            connection.sendall(_HELLO)
            answer = connection.recv(64)
    except OSError:
        return False
    return answer.startswith(b"HTTP/") and b" 400 " not in answer[:16]
