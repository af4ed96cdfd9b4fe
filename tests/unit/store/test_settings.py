"""What is read of a collection's settings makes an equal one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import models

from intramodal.errors import Unsupported
from intramodal.store.base import Store, VectorSpec
from intramodal.store.open import open_store
from intramodal.store.server import convert

INT8 = {"scalar": {"type": "int8", "always_ram": True}}
OPTIONS = {
    "hnsw_config": {"m": 8, "ef_construct": 64, "full_scan_threshold": 500},
    "quantization_config": INT8,
    "optimizers_config": {"indexing_threshold": 1000},
}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Store]:
    pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py for this platform")
    with open_store(str(tmp_path / "store")) as store:
        yield store


def server_answer() -> models.CollectionInfo:
    """Return what a server answers about a sharded collection with every kind of setting."""
    raw = models.VectorParams(
        size=4, distance="Cosine", on_disk=True, hnsw_config=models.HnswConfigDiff(m=24)
    )
    config = models.CollectionConfig(
        params=models.CollectionParams(
            vectors={"raw": raw, "plain": models.VectorParams(size=2, distance="Dot")},
            shard_number=6,
            replication_factor=2,
            write_consistency_factor=1,
            on_disk_payload=False,
        ),
        hnsw_config=models.HnswConfig(m=16, ef_construct=100, full_scan_threshold=10000),
        optimizer_config=models.OptimizersConfig(default_segment_number=2, flush_interval_sec=5),
        wal_config=models.WalConfig(wal_capacity_mb=32, wal_segments_ahead=0),
        quantization_config=models.ScalarQuantization(**INT8),
        strict_mode_config=models.StrictModeConfigOutput(enabled=True, max_query_limit=100),
    )
    return models.CollectionInfo(
        status="green", optimizer_status="ok", segments_count=1, config=config, payload_schema={}
    )


def test_the_settings_of_a_server_become_creation_options_of_the_same_values() -> None:
    settings = convert.settings_of(server_answer())
    made = convert.collection_options(settings)
    hnsw = made["hnsw_config"]
    assert (hnsw.m, hnsw.ef_construct, hnsw.full_scan_threshold) == (16, 100, 10000)
    assert made["quantization_config"] == models.ScalarQuantization(**INT8)
    assert made["strict_mode_config"] == models.StrictModeConfig(enabled=True, max_query_limit=100)
    assert (made["shard_number"], made["replication_factor"]) == (6, 2)
    assert made["on_disk_payload"] is False
    specs = {"raw": VectorSpec(4), "plain": VectorSpec(2, "Dot")}
    assert convert.vectors_config(specs, settings["vectors"]) == (
        server_answer().config.params.vectors
    )


def test_what_no_option_can_make_is_told_and_refused() -> None:
    answer = server_answer()
    answer.config.params.sparse_vectors = {"words": models.SparseVectorParams()}
    settings = convert.settings_of(answer)
    assert set(settings["sparse_vectors"]) == {"words"}
    with pytest.raises(Unsupported, match="sparse_vectors"):
        convert.collection_options(settings)


def test_the_settings_of_the_embedded_engine_outlive_its_process(edge: Store) -> None:
    edge.create("photos", {"raw": VectorSpec(4)}, options=OPTIONS)
    edge.close()
    with open_store(edge.location) as again:
        found = again.settings("photos")
        again.create("copy", {"raw": VectorSpec(4)}, options=found)
        assert again.settings("copy") == found
    assert found["quantization_config"] == INT8
    hnsw = {key: found["hnsw_config"][key] for key in OPTIONS["hnsw_config"]}
    assert hnsw == OPTIONS["hnsw_config"]
    assert found["optimizers_config"]["indexing_threshold"] == 1000
