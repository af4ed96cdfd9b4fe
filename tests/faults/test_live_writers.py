"""A backfill beside writers of the same collection."""

from __future__ import annotations

import numpy as np
import pytest

from intramodal.store.base import VectorSpec
from intramodal.store.server.client import connect_server
from intramodal.store.server.store import ServerStore
from tests.faults.wire import WireServer

NAME = "photos"


@pytest.mark.parametrize("uses_grpc", [False, True])
@pytest.mark.parametrize(("version", "tells"), [("1.15.5", False), ("1.16.2", True)])
def test_a_server_that_cannot_leave_vectors_alone_is_warned_of_once(
    version: str, tells: bool, uses_grpc: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        WireServer(version=version, speaks_grpc=uses_grpc) as server,
        ServerStore(connect_server(server.url, prefer_grpc=uses_grpc)) as store,
    ):
        ours, theirs = np.eye(2, dtype=np.float32)
        store.create(NAME, {"raw": VectorSpec(2), "pca": VectorSpec(2)})
        store.upsert(NAME, [1], {"raw": ours[None], "pca": theirs[None]}, [{}])
        store.upsert(NAME, [2], {"raw": ours[None]}, [{}])
        for _ in range(2):
            store.update_vectors(NAME, "pca", [1, 2], np.stack([ours] * 2), only_lacking=True)
        found = store.retrieve(NAME, [1, 2], vectors=["pca"]).vectors["pca"]
        np.testing.assert_array_equal(found, [theirs if tells else ours, ours])
    warned = [text for text in caplog.messages if "replaces what others write" in text]
    assert len(warned) == (0 if tells else 1)
