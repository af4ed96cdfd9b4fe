"""The main job on a server, from ready vectors to a verdict, with the figures of other means."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, Projection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.runs.ledger import RunLedger
from intramodal.store.base import Filter
from intramodal.types import unit_rows
from tests.cli.kit import run
from tests.integration.servers import Qdrant
from tests.integration.shop import BACKFILL, PROJECTION, Shop, fit, ingest, n_points

N_SMALL = 1000
EMBEDDED = ("--store", DEFAULT_STORE)
FIGURES: dict[str, tuple[str, ...]] = {
    "compare": ("compare", "shop", "--labels", "kind,shelf", "--no-controls"),
    "retrieval": ("evaluate", "retrieval", "shop", "--labels", "kind"),
    "fewshot": ("evaluate", "fewshot", "shop", "--labels", "kind", "--episodes", "5"),
    "misalignment": ("evaluate", "misalignment", "shop", "shop:pca", "--labels", "kind"),
}
UNEQUAL = ("seconds", "run_id", "cost", "store")
"""What two runs of one command may tell differently."""


@pytest.fixture
def shop(at_server: Qdrant) -> Shop:
    """Return a small shop with both vectors on the server."""
    shop = Shop.of(N_SMALL)
    shop.save()
    fit()
    ingest()
    run(*BACKFILL)
    return shop


def projected(X: np.ndarray) -> np.ndarray:
    matrix = Projection.load(Path(PROJECTION)).matrix.astype(np.float64)
    return unit_rows(X.astype(np.float64) @ matrix)


def test_many_points_are_taken_up_projected_and_read_back(at_server: Qdrant) -> None:
    n = n_points(at_server)
    shop = Shop.of(n)
    shop.save()
    fit()
    assert ingest()["written"] == n
    assert ingest()["skipped"] == n
    assert run(*BACKFILL, "--dry-run")["n_missing"] == n
    assert run(*BACKFILL)["projected"] == n
    assert run(*BACKFILL)["projected"] == 0
    with at_server.store() as store:
        assert store.count("shop", Filter(has_vector="pca")) == n
        table = ImageCollection.open(store, "shop").table(["raw", "pca"], payload=["kind"])
        assert store.info("shop").status == "green"
    rows = np.array(table.ids, dtype=np.intp)
    assert sorted(table.ids) == list(range(n))
    assert table.payload["kind"] == [f"kind {shop.kinds[row]}" for row in rows]
    # Rows that are unit long to 1e-6 keep their bits; two float32 products over 64 terms.
    np.testing.assert_allclose(table.vectors["raw"], shop.X[rows], rtol=0, atol=1e-6)
    np.testing.assert_allclose(table.vectors["pca"], projected(shop.X[rows]), rtol=0, atol=2e-6)


def test_a_sample_is_verified_and_what_was_spoilt_is_found_and_mended(
    shop: Shop, at_server: Qdrant
) -> None:
    assert run(*BACKFILL, "--verify", str(N_SMALL))["stale"] in (0, [])
    with at_server.store() as store:
        store.update_vectors("shop", "pca", [7], np.ones((1, 32), np.float32))
    assert run(*BACKFILL, "--verify", str(N_SMALL), code=1)["stale"]
    run(*BACKFILL, "--recompute", "id=7")
    assert run(*BACKFILL, "--verify", str(N_SMALL))["stale"] in (0, [])


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_that_of_the_embedded_store(shop: Shop, name: str) -> None:
    ingest(*EMBEDDED)
    run(*BACKFILL, *EMBEDDED)
    served, embedded = run(*FIGURES[name]), run(*FIGURES[name], *EMBEDDED)
    assert_same(served, embedded)


def assert_same(served: Any, embedded: Any, where: str = "") -> None:
    """Compare two answers, numbers to the rounding of a stored float32."""
    assert type(served) is type(embedded), where
    if isinstance(served, dict):
        assert served.keys() == embedded.keys(), where
        for key in served:
            if key not in UNEQUAL:
                assert_same(served[key], embedded[key], f"{where}.{key}")
    elif isinstance(served, list):
        assert len(served) == len(embedded), where
        for n, (a, b) in enumerate(zip(served, embedded, strict=True)):
            assert_same(a, b, f"{where}[{n}]")
    elif isinstance(served, float):
        # Scores differ in their last bit; one swapped place of 1,000 moves a mean AP by 1e-6, one
        # pair of 9,500 in the next of 80 bins a density by 0.01.
        atol = 0.05 if ".density[" in where else 1e-4
        assert served == pytest.approx(embedded, abs=atol, nan_ok=True), where
    elif isinstance(served, str):
        assert bool(served) == bool(embedded), where
    else:
        assert served == embedded, where


def test_the_kind_gains_and_what_texts_do_not_name_does_not(shop: Shop) -> None:
    fields = run(*FIGURES["compare"])["fields"]
    assert fields["kind"]["verdict"] == "better"
    assert fields["shelf"]["verdict"] != "better"


@pytest.mark.parametrize("vector", ["raw", "pca"])
def test_an_exact_search_equals_the_matrix_product_and_never_finds_itself(
    shop: Shop, vector: str
) -> None:
    X = shop.X if vector == "raw" else projected(shop.X)
    for query in (0, 17, 999):
        found = run("search", "shop", "--id", str(query), "--vectors", vector, "--exact")
        hits = found["vectors"][vector]
        scores = X @ X[query]
        scores[query] = -np.inf
        best = np.sort(scores)[::-1][:10]
        assert query not in [hit["id"] for hit in hits]
        # float32 products over 64 terms in another order
        np.testing.assert_allclose([hit["score"] for hit in hits], best, rtol=0, atol=2e-6)
        np.testing.assert_allclose([scores[hit["id"]] for hit in hits], best, rtol=0, atol=2e-6)


def test_a_rollback_leaves_the_collection_as_it_was(shop: Shop, at_server: Qdrant) -> None:
    run("backfill", "shop", "--rollback", "--yes")  # which servers below 1.19 want
    with at_server.store() as store:
        assert set(store.info("shop").vectors) == {"raw"}
        assert store.count("shop") == N_SMALL
        assert set(ImageCollection.open(store, "shop").manifest.vectors) == {"raw"}


def test_a_killed_command_is_completed_by_the_same_command(at_server: Qdrant) -> None:
    n = n_points(at_server)
    shop = Shop.of(n)
    shop.save()
    fit()
    ingest("--shards", "4")  # several writes are under way when it dies
    command = [*BACKFILL, "--batch-size", "100", "--throttle", "2000"]
    script = "import sys; from intramodal.cli import cli; cli(sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", script, *command], env=os.environ) as child:
        with at_server.store() as store:
            n_done = wait_for_some(store, child)
        child.kill()
    assert 0 < n_done < n
    done = run(*BACKFILL)
    assert done["projected"] + done["skipped"] == n
    assert done["projected"] > 0
    assert run(*BACKFILL, "--verify", "1000")["stale"] in (0, [])


def wait_for_some(store: Any, child: subprocess.Popen[bytes]) -> int:
    """Return how many points have the vector, once some have."""
    while child.poll() is None:
        if "pca" in store.info("shop").vectors:
            n_done = int(store.count("shop", Filter(has_vector="pca")))
            if n_done:
                return n_done
    raise AssertionError(f"the backfill ended with {child.returncode} before it was seen at work")


def test_runs_of_a_server_are_kept_in_postgresql(at_server: Qdrant, database: str) -> None:
    Shop.of(200).save()
    fit()
    runs = ("--runs", database)
    done = [ingest(*runs), run(*BACKFILL, *runs), run(*FIGURES["retrieval"], *runs)]
    listed = {row["id"]: row["status"] for row in run("runs", "list", *runs)["runs"]}
    assert {str(one["run_id"]): "COMPLETE" for one in done}.items() <= listed.items()
    with RunLedger.open(database) as ledger:
        assert "password" not in repr(ledger.describe()).lower()


@pytest.mark.slow
def test_the_demo_of_the_containers_runs_twice_and_gives_its_report(
    at_server: Qdrant, tmp_path: Path
) -> None:
    pytest.importorskip("open_clip", reason="the demo needs intramodal[encoders]")
    script = Path(__file__).parents[2] / "docker" / "demo.sh"
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for _ in range(2):
        done = subprocess.run(
            ["/bin/sh", str(script), str(tmp_path)],
            env={**os.environ, "PATH": beside}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "better" in done.stdout
    assert (tmp_path / "report.html").read_text("utf-8").count("data:image/webp;base64,") > 100


def test_a_store_is_opened_by_its_address_alone(at_server: Qdrant) -> None:
    with open_store(at_server.url) as store:  # the key is in the environment
        told = store.describe()
    assert told["backend"] == "server"
    assert at_server.api_key is None or at_server.api_key not in repr(told)
