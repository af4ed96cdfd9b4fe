"""Who may do what: no key, a wrong one, one for reading, and the one for all."""

from __future__ import annotations

from typing import Any

import pytest

from intramodal.store.base import Filter
from tests.cli.kit import invoke, run
from tests.integration.servers import Qdrant
from tests.integration.shop import BACKFILL, Shop, fit, ingest

N = 300
READING: dict[str, tuple[str, ...]] = {
    "compare": ("compare", "shop", "--labels", "kind", "--no-controls"),
    "retrieval": ("evaluate", "retrieval", "shop", "--labels", "kind"),
    "fewshot": ("evaluate", "fewshot", "shop", "--labels", "kind", "--episodes", "2"),
    "misalignment": ("evaluate", "misalignment", "shop", "--labels", "kind"),
    "search": ("search", "shop", "--id", "7"),
    "export": ("export", "shop", "--vector", "pca", "-o", "rows.npy"),
    "verify": (*BACKFILL, "--verify", "50"),
    "plan": (*BACKFILL, "--dry-run"),
}
WRITING: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest", "X.npy", "--collection", "shop", "--made-by", "another model"),
    "backfill": ("backfill", "shop", "--to", "other", "--projection", "pca.safetensors"),
    "copy": (*BACKFILL, "--new-collection", "shop_v2"),
    "rollback": ("backfill", "shop", "--rollback", "--yes"),
    "adopt": ("adopt", "shop", "--vector", "raw", "--made-by", "another model"),
}


@pytest.fixture
def shop(locked_qdrant: Qdrant, at_server: Qdrant) -> Qdrant:
    """Return a server with a filled collection, in whose environment the full key is."""
    Shop.of(N).save()
    fit()
    ingest()
    run(*BACKFILL)
    return locked_qdrant


def state(server: Qdrant) -> Any:
    """Return all that a command could have changed."""
    with server.store() as store:
        info = store.info("shop")
        counts = [store.count("shop", Filter(has_vector=v)) for v in sorted(info.vectors)]
        return store.collections(), info.vectors, info.metadata, info.n_points, counts


@pytest.mark.parametrize("name", READING)
def test_a_key_that_may_only_read_is_enough_to_judge_and_search(
    shop: Qdrant, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with_all = run(*READING[name])
    monkeypatch.setenv("QDRANT_API_KEY", str(shop.read_only_key))
    assert set(run(*READING[name])) == set(with_all)


@pytest.mark.parametrize("name", WRITING)
def test_a_key_that_may_only_read_changes_nothing(
    shop: Qdrant, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = state(shop)
    monkeypatch.setenv("QDRANT_API_KEY", str(shop.read_only_key))
    error = run(*WRITING[name], code=1)["error"]
    assert error["type"] in ("AccessDenied", "ManifestMismatchError")
    assert state(shop) == before


def test_a_plan_says_that_a_key_may_only_read_and_the_full_key_is_told_nothing(
    shop: Qdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ("backfill", "shop", "--to", "other", "--projection", "pca.safetensors", "--dry-run")
    before = state(shop)
    assert not any("key" in note for note in run(*plan)["notes"])
    monkeypatch.setenv("QDRANT_API_KEY", str(shop.read_only_key))
    assert any("the key in QDRANT_API_KEY may only read" in note for note in run(*plan)["notes"])
    assert state(shop) == before


@pytest.mark.parametrize("key", [None, "planted-4717"])
def test_without_the_right_key_nothing_is_told_and_the_key_is_not_repeated(
    shop: Qdrant, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.delenv("QDRANT_API_KEY")
    if key is not None:
        monkeypatch.setenv("QDRANT_API_KEY", key)
    refused = invoke("search", "shop", "--id", "7")
    assert refused.exit_code == 1
    assert "QDRANT_API_KEY" in refused.stderr
    assert "planted-4717" not in refused.output


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
def test_the_full_key_opens_both_protocols(locked_qdrant: Qdrant, grpc: bool) -> None:
    if grpc and (reason := locked_qdrant.why_no_grpc()):
        pytest.skip(reason)
    with locked_qdrant.store(grpc=grpc) as store:
        assert store.collections() == []
        assert store.describe()["protocol"] == ("grpc" if grpc else "rest")
