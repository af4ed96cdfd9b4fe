"""A server that answers questions only, and a collection to ask about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from intramodal import ImageCollection, open_store
from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.store.manifest import VectorOrigin
from intramodal.types import unit_rows
from tests.faults.wire import WireServer

N, D, N_KINDS, N_ANCHORS = 80, 16, 4, 40
_READS = ("/points/scroll", "/points/count", "/points/query/batch", "/points")


class ReadOnly(WireServer):
    """Refuses, once `refused` is a list, whatever would write, and keeps it there."""

    refused: list[tuple[str, str]] | None = None

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Any, dict[str, str]]:
        path = target.partition("?")[0]
        is_read = method == "GET" or (method == "POST" and path.endswith(_READS))
        if self.refused is not None and not is_read:
            self.refused.append((method, path))
            return 403, {"status": {"error": "Forbidden: Write access required"}, "time": 0.0}, {}
        return super().answer(method, target, headers, body)


@contextmanager
def read_only_server(**about: Any) -> Iterator[ReadOnly]:
    """Yield a server that holds `photos`; their projection is in pca.safetensors."""
    with ReadOnly(**about) as server:
        with open_store(server.url) as store:
            fill(store)
        server.refused = []
        yield server


def fill(store: Store, **payload: Any) -> ImageCollection:
    """Write `photos`; pca.safetensors, T.npy (texts of its kinds), A.npy and names.txt here."""
    rng = np.random.default_rng(1)
    X = unit_rows(rng.normal(size=(N, D)))
    projection = Projection(np.linalg.qr(rng.normal(size=(D, 8)))[0], "pca", "clip", "3f9a")
    projection.save("pca.safetensors")
    np.save("T.npy", unit_rows(rng.normal(size=(N_KINDS, D))))
    np.save("A.npy", unit_rows(rng.normal(size=(N_ANCHORS, D))))
    Path("names.txt").write_text("".join(f"thing {n}\n" for n in range(N_ANCHORS)))
    raw = VectorOrigin("clip", "3f9a")
    made = VectorOrigin("clip", "3f9a", projection=projection.fingerprint, source="raw")
    photos = ImageCollection.create(store, "photos", {"raw": (D, raw), "pca": (8, made)})
    payloads = [{"kind": f"k{n % N_KINDS}", "path": f"{n}.jpg", **payload} for n in range(N)]
    photos.write(list(range(N)), {"raw": X, "pca": projection.apply(X)}, payloads)
    return photos
