"""Stores and a model-free encoder for the tests of the ingest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.store.open import open_store
from tests.plain_encoder import PlainEncoder, plain_projection


@pytest.fixture(params=[":memory:", "edge"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    location = ":memory:" if request.param == ":memory:" else str(tmp_path / "store")
    with open_store(location) as opened:
        yield opened


@pytest.fixture
def encoder() -> PlainEncoder:
    return PlainEncoder()


@pytest.fixture
def projection(encoder: PlainEncoder) -> Projection:
    return plain_projection(encoder)


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not [name for name in left if name.startswith(("decode", "store"))]
