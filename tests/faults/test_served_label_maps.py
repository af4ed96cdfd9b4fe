"""Maps that saw labels, on a server: each job that takes a map takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.evaluation.index import evaluate_index
from intramodal.evaluation.index_search import IndexSearch
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.ingest.pipeline import ingest_vectors
from intramodal.ingest.vectors.export import export_vector
from intramodal.ingest.vectors.ready import open_ready
from intramodal.projection.fit import fit_label_map, fit_posterior
from intramodal.projection.stored_map import StoredMap
from intramodal.store.base import Filter, Store
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from tests.faults.wire import WireServer
from tests.unit.ingest.backfill_kit import LABELLED, N, photos_in, rows

MAPS = {
    "label": fit_label_map(LABELLED),
    "posterior": fit_posterior(LABELLED),
    "known": fit_posterior(LABELLED, known=True),
}


@pytest.fixture(params=MAPS)
def made(request: pytest.FixtureRequest) -> StoredMap:
    found: StoredMap = MAPS[request.param]
    return found


@pytest.fixture(params=[False, True], ids=["rest", "grpc"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with WireServer(speaks_grpc=request.param) as server, open_store(server.url) as opened:
        yield opened


def n_stale(photos: ImageCollection, made: StoredMap, vector: str | None = None) -> int:
    return verify_vector(photos, made, n=1000, vector=vector).stale


def test_it_is_filled_checked_searched_exported_and_taken_back(
    store: Store, made: StoredMap, tmp_path: Path
) -> None:
    photos, name = photos_in(store), made.default_vector
    assert backfill(photos, made).projected == N
    assert photos.vectors[name].distance == made.distance
    assert recompute(photos, made, where=Filter(equals={"label": ["l1"]})).projected == N // 3
    assert n_stale(photos, made) == 0
    hits = photos.neighbours([0], using=name, k=5)
    assert 0 not in hits.ids[0]
    assert list(hits.scores[0]) == sorted(hits.scores[0], reverse=True)
    export_vector(photos, tmp_path / "Z.npy", vector=name)
    assert np.load(tmp_path / "Z.npy").shape == (N, made.dim_out)
    rollback_vector(photos, vector=name, yes=True)
    assert set(photos.info().vectors) == {"raw"}


@pytest.mark.parametrize("how", [{"datatype": "float16"}, {"quantize": "scalar"},
                                 {"quantize": "binary"}])  # fmt: skip
def test_it_may_be_stored_smaller(store: Store, made: StoredMap, how: dict[str, str]) -> None:
    photos = photos_in(store)
    backfill(photos, made, **how)  # type: ignore[arg-type]  # all values are texts
    spec = photos.info().vectors[made.default_vector]
    assert (spec.distance, spec.datatype) == (made.distance, how.get("datatype", "float32"))
    assert n_stale(photos, made) == 0


@pytest.mark.parametrize("vector", [None, "codes"], ids=["own name", "another name"])
def test_points_that_come_later_get_it(
    store: Store, made: StoredMap, tmp_path: Path, vector: str | None
) -> None:
    photos = photos_in(store)
    backfill(photos, made, vector=vector)
    np.save(tmp_path / "X.npy", rows(range(900, 906)))
    lines = ["id,label", *(f"{900 + i},l{i % 3}" for i in range(6))]
    (tmp_path / "meta.csv").write_text("\n".join(lines))
    ready = open_ready(tmp_path / "X.npy", table=tmp_path / "meta.csv", dataset="photos")
    assert ingest_vectors(ready, photos, projection=made).written == 6
    assert photos.count(Filter(has_vector=vector or made.default_vector)) == N + 6
    assert n_stale(photos, made) == 0


def test_it_goes_into_a_copy(store: Store, made: StoredMap) -> None:
    photos = photos_in(store)
    copy_collection(photos, made, new_collection="next")
    assert n_stale(ImageCollection.open(store, "next"), made) == 0


def test_it_is_judged_by_the_rows_it_has_not_seen(store: Store, made: StoredMap) -> None:
    photos, name = photos_in(store), made.default_vector
    backfill(photos, made)
    how: Any = {"vectors": ["raw", name], "fields": ["label"]}
    if made.labels is not None and made.labels.known:
        with pytest.raises(ValueError, match="holds labels of 'label' themselves"):
            evaluate_retrieval(photos, **how)
        return
    judged = evaluate_retrieval(photos, **how).to_dict()
    assert judged["held_out"]["n_fit_rows"] == sum(map(LABELLED.rows.holds, range(N)))
    (found,) = evaluate_index(photos, searches=[IndexSearch(name)], fields=["label"])
    assert not any(LABELLED.rows.holds(point) for point in found.query_ids)
