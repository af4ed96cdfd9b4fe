from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import Save, Shelf, offline, shelf

__all__ = ["offline", "shelf"]


@pytest.fixture
def copied(shelf: Shelf, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies a tiny model into a folder of its own, to be spoilt."""

    def copy(save: Save, **changes: Any) -> Path:
        source = shelf.name(save, **changes).rpartition("local-dir:")[2]
        return Path(shutil.copytree(source, tmp_path / "model"))

    return copy


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
