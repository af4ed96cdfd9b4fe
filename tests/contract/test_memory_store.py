from __future__ import annotations

from collections.abc import Iterator

import pytest

from intramodal.store.base import Store
from intramodal.store.open import open_store
from tests.contract.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    keeps_the_bits_of_unit_rows = False
    sets_up_vectors = False

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        with open_store(":memory:") as store:
            yield store
