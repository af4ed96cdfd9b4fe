"""A wire from our store through a fault proxy to a server, for the tests of faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.schedules import Wire


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
