from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from intramodal.store.base import Store, VectorSpec
from intramodal.store.open import open_store
from tests.contract.store_contract import StoreContract

pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py for this platform")


class TestEdgeStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with open_store(str(tmp_path / "store")) as store:
            yield store


def test_what_is_written_is_saved_now_and_then_and_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 20, item 8."""
    monkeypatch.setattr("intramodal.store.edge.store._UNSAVED", 20)

    def saved(folder: Path, n: int) -> int:
        with open_store(str(folder)) as store:
            store.create("c", {"raw": VectorSpec(2)})
            for at in range(0, n, 10):
                X = np.ones((10, 2), dtype=np.float32)
                store.upsert("c", list(range(at, at + 10)), {"raw": X}, [{}] * 10)
            return sum(path.stat().st_size for path in folder.rglob("*id_tracker.mappings"))

    assert saved(tmp_path / "few", 10) == 0
    assert saved(tmp_path / "more", 30) > 0
