from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from intramodal.store.base import Store
from intramodal.store.open import open_store
from tests.contract.store_contract import StoreContract

pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py for this platform")


class TestEdgeStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with open_store(str(tmp_path / "store")) as store:
            yield store
