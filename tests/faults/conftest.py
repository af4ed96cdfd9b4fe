"""A stand-in of a server, and a wire to one through a fault proxy, for the tests of faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.schedules import Wire
from tests.faults.wire import WireServer


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with WireServer(speaks_grpc=True) as server:
        yield server


@pytest.fixture(scope="module")
def whole_wire() -> Iterator[Wire]:
    with Wire.opened() as wire:
        yield wire


@pytest.fixture
def wire(whole_wire: Wire) -> Wire:
    whole_wire.proxy.heal()
    whole_wire.server.storage.clear()
    whole_wire.journal.clear()
    return whole_wire
