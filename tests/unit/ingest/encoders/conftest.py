from __future__ import annotations

import socket
from typing import Any

import pytest

from tests.tiny_models import offline, shelf

__all__ = ["offline", "shelf"]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is asked of the network, all of which fails; libraries are not told so."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda _: None)  # a client of the hub tries five times
    seen: list[str] = []

    def refuse(*address: Any, **_: Any) -> Any:
        seen.append(str(address))
        raise OSError("nobody is there")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return seen
