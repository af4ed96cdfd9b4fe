"""Ports of the loopback interface that nobody else gets."""

from __future__ import annotations

import socket


def bound(port: int) -> socket.socket:
    """Return a socket that holds a port of the loopback interface, without listening."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError:
        listening.close()
        raise
    return listening


def two_ports() -> tuple[tuple[socket.socket, socket.socket], int]:
    """Reserve two neighbouring ports without listening, so that nobody else gets them."""
    for _ in range(100):
        first = bound(0)
        port = int(first.getsockname()[1])
        try:
            return (first, bound(port + 1)), port
        except (OSError, OverflowError):
            first.close()
    raise OSError("found no two neighbouring free ports on 127.0.0.1 in 100 attempts")
