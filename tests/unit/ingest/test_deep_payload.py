"""Payload nested too deep is a failed row, by every way in, and the store opens afterwards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.ingest.pipeline import ingest_images, ingest_vectors
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.vectors.load import vectors_of
from intramodal.ingest.vectors.ready import open_ready
from intramodal.store.checks import DEEPEST_PAYLOAD
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from tests.plain_encoder import DIM, PlainEncoder, collection_for
from tests.unit.ingest.pipeline_kit import png

LEVELS = [DEEPEST_PAYLOAD, DEEPEST_PAYLOAD + 1, 126, 900, 100_000]
FINE = [True, False, False, False, False]
# What cannot be stored costs neither the image nor the row; a line that is no JSON has no path.
N_KEPT, N_LISTED = 4, FINE.count(False)


def deep(levels: int) -> str:
    """Return JSON text: Python's own writer does not reach as deep."""
    return "[" * levels + "7" + "]" * levels


def jsonl_list(folder: Path) -> str:
    for n in range(len(LEVELS)):
        (folder / f"{n}.png").write_bytes(png(n))
    rows = [f'{{"path": "{n}.png", "p": {deep(levels)}}}' for n, levels in enumerate(LEVELS)]
    (folder / "list.jsonl").write_text("\n".join(rows))
    return str(folder / "list.jsonl")


def shard(folder: Path) -> str:
    with tarfile.open(folder / "s.tar", "w") as tar:
        for n, levels in enumerate(LEVELS):
            text = f'{{"p": {deep(levels)}}}'.encode()
            for name, data in ((f"{n}.png", png(n)), (f"{n}.json", text)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return str(folder / "s.tar")


def stored(location: Path, name: str) -> list[Any]:
    with open_store(str(location)) as store:
        pages = list(store.scroll(name, payload=["p"]))
        payloads = [payload for page in pages for payload in page.payloads]
        return [payload["p"] for payload in payloads if "p" in payload]


@pytest.mark.parametrize("make", [jsonl_list, shard])
def test_pictures_with_payload_that_is_too_deep_are_listed(
    tmp_path: Path, make: Callable[[Path], str]
) -> None:
    source = make(tmp_path)
    with open_store(str(tmp_path / "store")) as store:
        encoder = PlainEncoder()
        summary = ingest_images(
            open_source(source), collection_for(store, encoder), encoder=encoder
        )
    n_kept = len(LEVELS) if make is shard else N_KEPT  # a shard's pictures have names of their own
    assert (summary.written, summary.failed) == (n_kept, N_LISTED)
    reasons = [failure["reason"] for failure in summary.failures]
    assert sum("nested deeper than 32 levels; flatten it" in reason for reason in reasons) >= 2
    assert all("deeper" in reason or "recursion" in reason for reason in reasons)
    assert stored(tmp_path / "store", "photos") == [json.loads(deep(DEEPEST_PAYLOAD))]


def test_ready_vectors_with_payload_that_is_too_deep_are_listed(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(len(LEVELS), DIM)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    rows = [f'{{"id": {n}, "p": {deep(levels)}}}' for n, levels in enumerate(LEVELS)]
    (tmp_path / "meta.jsonl").write_text("\n".join(rows))
    ready = open_ready(tmp_path / "X.npy", dataset="shop", table=tmp_path / "meta.jsonl")
    origin = VectorOrigin("plain", "fp")
    with open_store(str(tmp_path / "store")) as store:
        collection = ImageCollection.ensure(store, "shop", vectors_of(ready, origin, "raw", None))
        summary = ingest_vectors(ready, collection)
    assert (summary.written, summary.failed) == (N_KEPT, N_LISTED)
    assert stored(tmp_path / "store", "shop") == [json.loads(deep(DEEPEST_PAYLOAD))]


def test_a_parquet_table_with_payload_that_is_too_deep_is_listed(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="needs pyarrow")
    import pyarrow.parquet as pq

    kind = pa.int64()
    for _ in range(DEEPEST_PAYLOAD + 1):
        kind = pa.list_(kind)
    fine = json.loads("[" * DEEPEST_PAYLOAD + "[]" + "]" * DEEPEST_PAYLOAD)
    values = pa.array([fine, json.loads(deep(DEEPEST_PAYLOAD + 1)), None], type=kind)
    X = pa.array(list(np.eye(3, DIM, dtype=np.float32)), type=pa.list_(pa.float32()))
    table = pa.table({"id": [0, 1, 2], "p": values, "vector": X})
    pq.write_table(table, tmp_path / "X.parquet")
    ready = open_ready(tmp_path / "X.parquet", dataset="shop")
    origin = VectorOrigin("plain", "fp")
    with open_store(str(tmp_path / "store")) as store:
        collection = ImageCollection.ensure(store, "shop", vectors_of(ready, origin, "raw", None))
        summary = ingest_vectors(ready, collection)
        # `fine` has an empty list at its deepest level, which is a level, too.
        assert (summary.written, summary.failed) == (3, 2)
        assert store.count("shop") == 3
