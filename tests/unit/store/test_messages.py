"""Messages made of bytes equal those that the client makes of Python's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc

from intramodal.store.server.convert import upsert_request
from intramodal.types import point_id


@pytest.mark.parametrize("sizes", [{"": 3}, {"raw": 5}, {"raw": 130, "pca": 1}])
def test_a_request_equals_the_clients_own(sizes: dict[str, int], rng: np.random.Generator) -> None:
    ids = [7, point_id("a", "b"), 2**64 - 1]
    vectors = {name: rng.normal(size=(3, d)).astype(np.float32) for name, d in sizes.items()}
    payloads = [{"a": 1, "b": [None, 1.5, {"ü": True}]}, {}, {"text": "x" * 1000}]
    points = [
        models.PointStruct(
            id=i,
            payload=payload,
            vector=vectors[""][n].tolist()
            if "" in vectors
            else {name: X[n].tolist() for name, X in vectors.items()},
        )
        for n, (i, payload) in enumerate(zip(ids, payloads, strict=True))
    ]
    expected = grpc.UpsertPoints(
        collection_name="photos",
        wait=True,
        points=[RestToGrpc.convert_point_struct(point) for point in points],
    )
    assert upsert_request("photos", ids, vectors, payloads) == expected


def test_rows_that_are_not_contiguous_are_sent_as_they_read(rng: np.random.Generator) -> None:
    X = rng.normal(size=(6, 8)).astype(np.float32)[::2, ::-1]
    request = upsert_request("photos", [1, 2, 3], {"raw": X}, [{}] * 3)
    sent = [list(point.vectors.vectors.vectors["raw"].dense.data) for point in request.points]
    np.testing.assert_array_equal(np.array(sent, np.float32), X)
