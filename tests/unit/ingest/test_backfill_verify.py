"""A recomputed sample finds stale vectors, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from intramodal.errors import InputError, ManifestMismatchError, NotFound
from intramodal.ingest.backfill import verify
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.verify import storage_error, verify_vector
from intramodal.progress import LongRead, long_reads_told
from intramodal.projection.projection import Projection
from intramodal.store.base import Store, VectorSpec
from intramodal.store.origins import projected_origin
from intramodal.types import unit_rows
from tests.unit.ingest.backfill_kit import (
    MATRIX,
    PROJECTION,
    D,
    N,
    contents,
    photos_in,
    rows,
    write,
)


def test_a_fresh_backfill_has_nothing_stale(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    before = contents(photos, ["raw", "pca"])
    found = verify_vector(photos, PROJECTION, n=10 * N)
    assert (found.checked, found.stale, found.stale_ids, found.unverifiable) == (N, 0, [], 0)
    assert found.largest_deviation <= found.tolerance
    assert contents(photos, ["raw", "pca"]) == before
    assert photos.manifest.vectors["pca"].is_complete


def test_a_long_verification_is_foretold(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 20: by the rate of its first points, of which it reads some at once."""
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    monkeypatch.setattr("intramodal.progress.MEASURED_S", 0.0)
    monkeypatch.setattr("intramodal.progress.LONG_S", 0.0)
    monkeypatch.setattr(verify, "_READ_AT_ONCE", N // 4)
    found: list[LongRead] = []
    with long_reads_told(found.append):
        verify_vector(photos, PROJECTION, n=N)
    assert found[-1].n == N


def test_a_changed_source_is_found_with_its_ids(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    changed = rows([4, 40], salt=3)
    was = contents(photos, ["pca"])
    store.update_vectors("photos", "raw", [4, 40], changed)
    found = verify_vector(photos, PROJECTION, n=N)
    assert (found.checked, found.stale, found.stale_ids) == (N, 2, [4, 40])
    Z = changed.astype(np.float64) @ MATRIX
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    stored = np.array([np.frombuffer(was[i][1]["pca"], np.float32) for i in (4, 40)])
    # float32 components of unit vectors
    assert found.largest_deviation == pytest.approx(np.abs(Z - stored).max(), abs=1e-6)
    assert found.sentence.endswith("since 'pca' was computed; recompute them")


def test_the_smallest_change_that_matters_is_found_and_rounding_is_not(store: Store) -> None:
    photos = photos_in(store, n=2)
    backfill(photos, PROJECTION)
    X = rows(range(2))
    nudged = X.copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], np.float32(2))  # one unit in the last place
    nudged[1, 0] += np.float32(1e-3)
    store.update_vectors("photos", "raw", [0, 1], nudged)
    assert verify_vector(photos, PROJECTION, n=2).stale_ids == [1]


def test_the_sample_is_seeded_and_of_the_size_asked_for(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    store.update_vectors("photos", "raw", list(range(N)), rows(range(N), salt=5))
    one, same, other = (verify_vector(photos, PROJECTION, n=7, seed=s) for s in (1, 1, 2))
    assert one == same
    assert len(one.stale_ids) == one.checked == 7
    assert one.stale_ids != other.stale_ids


def test_a_point_whose_source_is_gone_cannot_be_checked(store: Store) -> None:
    photos = photos_in(store, n=3)
    backfill(photos, PROJECTION)
    store.update_vectors("photos", "raw", [1], np.zeros((1, D), np.float32))
    found = verify_vector(photos, PROJECTION, n=3)
    assert (found.checked, found.unverifiable, found.stale) == (2, 1, 0)


def test_points_that_lack_the_vector_are_not_in_the_sample(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    write(photos, range(10))
    assert verify_vector(photos, PROJECTION, n=N).checked == N - 10


def test_a_vector_stored_as_half_floats_is_not_stale(store: Store) -> None:
    photos = photos_in(store)
    store.add_vector("photos", "pca", VectorSpec(D // 2, datatype="float16"))
    photos.declare("pca", projected_origin(PROJECTION, photos.origin("raw"), "raw"))
    ids = list(range(N))
    store.update_vectors("photos", "pca", ids, PROJECTION.apply(rows(ids)))
    assert verify_vector(photos, PROJECTION, n=N).stale == 0


@pytest.mark.parametrize("dim", [8, 64, 512])
def test_the_error_of_turbo4_bounds_that_of_codes_of_4_bits_in_a_turned_frame(dim: int) -> None:
    rng = np.random.default_rng(0)
    X = unit_rows(rng.normal(size=(500, dim)))
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    step = 0.3352 / np.sqrt(dim)  # of 16 equal steps, the best one for normal components
    codes = np.clip(np.floor(X @ turn / step), -8, 7)
    back = unit_rows(((codes + 0.5) * step) @ turn.T)
    largest = np.abs(back - X).max()
    allowed = storage_error(VectorSpec(dim, datatype="turbo4"))
    assert allowed / 4 < largest < allowed


def test_a_vector_of_another_projection_is_refused(store: Store) -> None:
    photos = photos_in(store, n=2)
    with pytest.raises(NotFound, match="run the backfill first"):
        verify_vector(photos, PROJECTION, n=1)
    backfill(photos, PROJECTION)
    with pytest.raises(ManifestMismatchError):
        verify_vector(photos, Projection(-MATRIX, "pca", "test", "ab"), n=1)
    with pytest.raises(InputError, match="at least 1"):
        verify_vector(photos, PROJECTION, n=0)
