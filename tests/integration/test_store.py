"""The promises of every store, kept by a running server over both protocols."""

from __future__ import annotations

import numpy as np
import pytest

from intramodal.errors import InputError, Unsupported
from intramodal.store.base import Filter, Store, VectorSpec
from intramodal.types import unit_rows
from tests.contract.store_contract import StoreContract
from tests.integration.servers import SERVER, Qdrant

N, D = 300, 16
STRICT = {
    "enabled": True,
    "upsert_max_batchsize": 50,
    "max_query_limit": 40,
    "search_max_batchsize": 7,
    "search_allow_exact": False,
}


@pytest.mark.parametrize("running_qdrant", [SERVER], indirect=True)  # else in tests/faults
class TestServer(StoreContract):
    """`store` is the fixture of this folder."""

    @pytest.fixture
    def store(self, store: Store) -> Store:
        return store


@pytest.fixture
def strict(store: Store) -> Store:
    store.create("strict", {"raw": VectorSpec(D)}, options={"strict_mode_config": STRICT})
    return store


def test_writes_and_reads_shrink_to_what_strict_mode_allows(
    strict: Store, rng: np.random.Generator
) -> None:
    X = unit_rows(rng.normal(size=(N, D)))
    strict.upsert("strict", range(N), {"raw": X}, [{"n": i} for i in range(N)])
    pages = list(strict.scroll("strict", vectors=["raw"], batch_size=1000))
    assert [i for page in pages for i in page.ids] == list(range(N))
    np.testing.assert_allclose(np.vstack([p.vectors["raw"] for p in pages]), X, atol=1e-6)
    strict.add_vector("strict", "pca", VectorSpec(4))
    strict.update_vectors("strict", "pca", range(N), X[:, :4].copy())
    assert strict.count("strict", Filter(has_vector="pca")) == N
    found = strict.query_batch("strict", X[:20], using="raw", k=1, exact=False)
    assert found.ids == [[i] for i in range(20)]


def test_what_strict_mode_forbids_is_said_and_never_answered_otherwise(
    strict: Store, rng: np.random.Generator
) -> None:
    X = unit_rows(rng.normal(size=(N, D)))
    strict.upsert("strict", range(N), {"raw": X}, [{}] * N)
    with pytest.raises(Unsupported, match="search_allow_exact"):
        strict.query_batch("strict", X[:1], using="raw", k=5)
    with pytest.raises(Unsupported, match="max_query_limit"):
        strict.query_batch("strict", X[:1], using="raw", k=41, exact=False)


def test_shards_and_replicas_are_those_that_were_asked_for(store: Store) -> None:
    options = {"shard_number": 3, "replication_factor": 1, "write_consistency_factor": 1}
    store.create("sharded", {"raw": VectorSpec(D)}, options=options)
    settings = store.settings("sharded")
    assert {name: settings[name] for name in options} == options
    X = unit_rows(np.random.default_rng(0).normal(size=(N, D)))
    store.upsert("sharded", range(N), {"raw": X}, [{}] * N)
    assert store.query_batch("sharded", X[:9], using="raw", k=1).ids == [[i] for i in range(9)]


def test_both_protocols_write_the_same_bits(qdrant: Qdrant, rng: np.random.Generator) -> None:
    X = unit_rows(rng.normal(size=(N, D)))
    if reason := qdrant.why_no_grpc():
        pytest.skip(reason)
    with qdrant.store(grpc=False) as rest, qdrant.store(grpc=True) as other:
        for name, writer in (("by-rest", rest), ("by-grpc", other)):
            writer.create(name, {"raw": VectorSpec(D)})
            writer.upsert(name, range(N), {"raw": X}, [{"n": i} for i in range(N)])
        read = [
            next(iter(reader.scroll(name, vectors=["raw"], payload=True)))
            for name in ("by-rest", "by-grpc")
            for reader in (rest, other)
        ]
    for page in read[1:]:
        np.testing.assert_array_equal(page.vectors["raw"], read[0].vectors["raw"])
        assert (page.ids, page.payloads) == (read[0].ids, read[0].payloads)


def test_a_hundred_thousand_floats_in_one_call_stay_below_the_servers_limit(
    store: Store, rng: np.random.Generator
) -> None:
    """2,100 points of 1,536 floats: 71 MB of JSON, where REST takes 32."""
    X = unit_rows(rng.normal(size=(2100, 1536)))
    store.create("wide", {"raw": VectorSpec(1536)})
    store.upsert("wide", range(2100), {"raw": X}, [{}] * 2100)
    assert store.count("wide", Filter(has_vector="raw")) == 2100


def test_ids_that_are_none_are_refused_before_the_server_sees_them(store: Store) -> None:
    store.create("shop", {"raw": VectorSpec(D)})
    with pytest.raises(InputError):
        store.upsert("shop", ["sku-7"], {"raw": np.ones((1, D), np.float32)}, [{}])
    assert store.count("shop") == 0
