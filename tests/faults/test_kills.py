"""SIGKILL at seeded moments of ingests and of backfills; the same call again completes them.

And Ctrl-C, after which the process must end by itself.

``INTRAMODAL_KILLS`` says how many kills each gets (3 by default); with all 30, collections have
20,000 points instead of 3,000. Run as a module, this file is
the process that is killed: it tells on stdout which batch it has begun.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.fit_rows import FitRows
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.ingest.input_file import InputFile
from intramodal.ingest.pipeline import IngestSummary, ingest_images, ingest_vectors
from intramodal.ingest.sources.formats import open_source
from intramodal.ingest.vectors.load import vectors_of
from intramodal.ingest.vectors.matrices import NpyMatrix
from intramodal.ingest.vectors.ready import open_ready
from intramodal.projection.fit import LabelledRows, fit_posterior
from intramodal.projection.posterior import PosteriorMap
from intramodal.projection.projection import Projection
from intramodal.projection.stored_map import StoredMap
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import PointId, unit_rows
from tests.children import guarded
from tests.plain_encoder import (
    DIM,
    PlainEncoder,
    collection_for,
    plain_projection,
    write_pictures,
)

KILLS = int(os.environ.get("INTRAMODAL_KILLS", "3"))
DEADLINE_S = 120.0  # a child that imports and works on a busy machine

N_GOOD, N_BROKEN, INGEST_BATCH = 240, 6, 8
N_POINTS = 20_000 if KILLS >= 30 else 3000
BATCH = 100

if sys.platform == "win32":
    pytest.skip("needs SIGKILL", allow_module_level=True)

Contents = dict[Any, tuple[dict[str, Any], dict[str, bytes]]]


def say(batch: int) -> None:
    sys.stdout.write(f"{batch}\n")
    sys.stdout.flush()


class TellingEncoder(PlainEncoder):
    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        say(len(self.batches))
        return super().encode_pixels(pixels)


class TellingProjection(Projection):
    n_batches = 0

    def apply(self, X: np.ndarray) -> np.ndarray:
        say(self.n_batches)
        type(self).n_batches += 1
        return super().apply(X)


class TellingCodes(PosteriorMap):
    n_batches = 0

    def apply(self, X: np.ndarray) -> np.ndarray:
        say(self.n_batches)
        type(self).n_batches += 1
        return super().apply(X)


def plain_posterior(*, known: bool = False) -> PosteriorMap:
    """Return codes of three classes."""
    rng = np.random.default_rng(8)
    y = np.arange(90) % 3
    X = rng.normal(size=(90, DIM)) + rng.normal(size=(3, DIM))[y]
    encoder = PlainEncoder()
    made_by = (encoder.name, encoder.fingerprint)
    rows = LabelledRows(X, [f"l{code}" for code in y], "label", FitRows(share=0.5), made_by)
    return fit_posterior(rows, known=known)


def telling(made: StoredMap) -> StoredMap:
    """Return the map that says on stdout which batch it maps."""
    if isinstance(made, PosteriorMap):
        parts = (made.offset, made.weights, made.bias, made.directions)
        return TellingCodes(*parts, made.encoder, made.encoder_fingerprint, made.recipe)
    return TellingProjection(made.matrix, made.method, made.encoder, made.encoder_fingerprint)


class TellingMatrix(NpyMatrix):
    def blocks(self, size: int) -> Iterator[np.ndarray]:
        for n, X in enumerate(super().blocks(size)):
            say(n)
            yield X


# The work, in the process that is killed and in the one that goes on


def run_ingest(encoder: PlainEncoder, pictures: str, store: str) -> IngestSummary:
    projection = plain_projection(encoder)
    with open_store(store) as opened:
        collection = collection_for(opened, encoder, projection)
        source = open_source(pictures, label_from="parent")
        return ingest_images(
            source,
            collection,
            encoder=encoder,
            projection=projection,
            batch_size=INGEST_BATCH,
            workers=2,
        )


def run_backfill(projection: StoredMap, store: str) -> Any:
    with open_store(store) as opened:
        shop = ImageCollection.open(opened, "shop")
        return backfill(shop, projection, batch_size=BATCH)


def run_recompute(projection: StoredMap, store: str) -> Any:
    with open_store(store) as opened:
        shop = ImageCollection.open(opened, "shop")
        return recompute(shop, projection, where=Filter(), batch_size=BATCH)


def run_vectors(folder: str, store: str, *, is_telling: bool = False) -> IngestSummary:
    path = Path(folder)
    encoder = PlainEncoder()
    projection = plain_projection(encoder)
    ready = open_ready(path / "X.npy", dataset="shop", table=path / "meta.csv")
    if is_telling:
        ready.matrix = TellingMatrix(InputFile(path / "X.npy"))
    origin = VectorOrigin(encoder.name, encoder.fingerprint)
    with open_store(store) as opened:
        vectors = vectors_of(ready, origin, "raw", projection)
        collection = ImageCollection.ensure(opened, "shop", vectors)
        return ingest_vectors(ready, collection, projection=projection, batch_size=BATCH)


def contents(store: str, name: str, vectors: list[str]) -> Contents:
    with open_store(store) as opened:
        found = {}
        pages = ImageCollection.open(opened, name).scroll(vectors=vectors, payload=True)
        for page in pages:
            for row, point in enumerate(page.ids):
                rows = {vector: X[row].tobytes() for vector, X in page.vectors.items()}
                assert point not in found
                found[point] = (page.payloads[row], rows)
    return found


def kill_during(
    batch: int, pause_s: float, *arguments: str, by: signal.Signals = signal.SIGKILL
) -> None:
    """Start the work in a child, and end it `pause_s` after it has begun the given batch."""
    command = [sys.executable, "-m", "tests.faults.test_kills", *arguments]
    with started(command) as child:
        assert child.stdout is not None
        while (line := child.stdout.readline()) and int(line) < batch:
            pass
        assert line, f"the child ended with {child.wait()} before batch {batch}"
        time.sleep(pause_s)
        child.send_signal(by)
        assert child.wait(DEADLINE_S) == -by


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).parents[2]
    with guarded(command, DEADLINE_S, cwd=root, stdout=subprocess.PIPE) as child:
        yield child


def moment(kill: int, n_batches: int) -> tuple[int, float]:
    """Return a batch that is not the last one, and a pause as long as a batch takes."""
    rng = np.random.default_rng([11, kill])
    return int(rng.integers(0, n_batches - 1)), float(rng.uniform(0, 0.02))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, N_GOOD)
    for n in range(N_BROKEN):
        (folder / f"{n % 5}" / f"broken-{n}.png").write_bytes(b"\x89PNG")
    return str(folder)


@pytest.fixture(scope="module")
def uninterrupted(pictures: str, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    store = str(tmp_path_factory.mktemp("uninterrupted") / "store")
    summary = run_ingest(PlainEncoder(), pictures, store)
    assert (summary.written, summary.failed) == (N_GOOD, N_BROKEN)
    return contents(store, "photos", ["raw", "pca"])


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_ingest_is_completed_by_the_same_call(
    pictures: str, uninterrupted: Contents, tmp_path: Path, kill: int
) -> None:
    store = str(tmp_path / "store")
    kill_during(*moment(kill, N_GOOD // INGEST_BATCH), "ingest", pictures, store)
    survived = contents(store, "photos", ["raw", "pca"])
    assert survived.items() <= uninterrupted.items()  # whole points or none
    encoder = PlainEncoder()
    summary = run_ingest(encoder, pictures, store)
    assert encoder.n_encoded == N_GOOD - len(survived)
    assert (summary.skipped, summary.failed) == (len(survived), N_BROKEN)
    assert contents(store, "photos", ["raw", "pca"]) == uninterrupted
    again = run_ingest(encoder, pictures, store)
    assert (again.written, again.skipped) == (0, N_GOOD)


@pytest.mark.parametrize("kill", range(KILLS))
def test_an_interrupted_ingest_ends_and_is_completed_by_the_same_call(
    pictures: str, uninterrupted: Contents, tmp_path: Path, kill: int
) -> None:
    store = str(tmp_path / "store")
    batch, pause_s = moment(kill + 1000, N_GOOD // INGEST_BATCH)
    kill_during(batch, pause_s, "ingest", pictures, store, by=signal.SIGINT)
    assert contents(store, "photos", ["raw", "pca"]).items() <= uninterrupted.items()
    run_ingest(PlainEncoder(), pictures, store)
    assert contents(store, "photos", ["raw", "pca"]) == uninterrupted


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the store of a collection that was adopted, not ingested; closed."""
    folder = tmp_path_factory.mktemp("shop") / "store"
    X = unit_rows(np.random.default_rng(4).normal(size=(N_POINTS, DIM)))
    encoder = PlainEncoder()
    with open_store(str(folder)) as store:
        raw = VectorOrigin(encoder.name, encoder.fingerprint)
        made = ImageCollection.create(store, "shop", {"raw": (DIM, raw)})
        payloads = [{"label": f"l{n % 7}", "n": n} for n in range(N_POINTS)]
        made.write(list(range(N_POINTS)), {"raw": X}, payloads)
    return folder


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_backfill_is_completed_by_the_same_call(
    shop: Path, tmp_path: Path, kill: int
) -> None:
    store = str(tmp_path / "store")
    shutil.copytree(shop, store)
    before = contents(store, "shop", ["raw"])
    kill_during(*moment(kill, N_POINTS // BATCH), "backfill", store)
    assert contents(store, "shop", ["raw"]) == before
    projection = plain_projection(PlainEncoder())
    summary = run_backfill(projection, store)
    assert summary.projected + summary.skipped == N_POINTS
    assert contents(store, "shop", ["raw"]) == before
    with open_store(store) as opened:
        collection = ImageCollection.open(opened, "shop")
        assert collection.origin("pca").is_complete
        table = collection.table(["raw", "pca"])
    assert (len(table), table.n_incomplete) == (N_POINTS, 0)
    expected = unit_rows(projection.apply(table.vectors["raw"]))
    # float32 dot products over 24 terms, stored normalised
    np.testing.assert_allclose(table.vectors["pca"], expected, atol=1e-6)
    assert run_backfill(projection, store).projected == 0


@pytest.mark.parametrize(
    "kill",
    [0, *(pytest.param(kill, marks=pytest.mark.slow) for kill in range(1, max(20, KILLS)))],
)
def test_a_killed_backfill_of_posterior_codes_is_completed_by_the_same_call(
    shop: Path, tmp_path: Path, kill: int
) -> None:
    store = str(tmp_path / "store")
    shutil.copytree(shop, store)
    before = contents(store, "shop", ["raw"])
    kill_during(*moment(kill, N_POINTS // BATCH), "backfill-posterior", store)
    made = plain_posterior()
    summary = run_backfill(made, store)
    assert summary.projected + summary.skipped == N_POINTS
    assert contents(store, "shop", ["raw"]) == before
    with open_store(store) as opened:
        collection = ImageCollection.open(opened, "shop")
        origin = collection.origin("posterior_label")
        assert (origin.is_complete, origin.labels) == (True, made.labels)
        table = collection.table(["raw", "posterior_label"])
    assert (len(table), table.n_incomplete) == (N_POINTS, 0)
    # float32 numbers, stored as they are
    codes = table.vectors["posterior_label"]
    np.testing.assert_allclose(codes, made.apply(table.vectors["raw"]), atol=1e-6)
    assert run_backfill(made, store).projected == 0


@pytest.fixture(scope="module")
def relabelled(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the store with codes of known labels, all of which have changed since; closed."""
    folder = tmp_path_factory.mktemp("relabelled") / "store"
    shutil.copytree(shop, folder)
    assert run_backfill(plain_posterior(known=True), str(folder)).projected == N_POINTS
    with open_store(str(folder)) as store:
        for label in range(3):
            points: list[PointId] = list(range(label, N_POINTS, 3))
            store.set_payload("shop", points, {"label": f"l{label}"})
    return folder


@pytest.mark.parametrize(
    "kill",
    [0, *(pytest.param(kill, marks=pytest.mark.slow) for kill in range(1, max(20, KILLS)))],
)
def test_a_killed_recomputation_of_known_labels_is_completed_by_the_same_call(
    relabelled: Path, tmp_path: Path, kill: int
) -> None:
    store = str(tmp_path / "store")
    shutil.copytree(relabelled, store)
    before = contents(store, "shop", ["raw"])
    made = plain_posterior(known=True)
    kill_during(*moment(kill + 3000, N_POINTS // BATCH), "recompute-known", store)
    assert run_recompute(made, store).projected == N_POINTS
    assert contents(store, "shop", ["raw"]) == before
    with open_store(store) as opened:
        collection = ImageCollection.open(opened, "shop")
        assert collection.origin("posterior_label").is_complete
        assert verify_vector(collection, made, n=N_POINTS).stale == 0
        table = collection.table(["posterior_label"], payload=["n"])
    codes = table.vectors["posterior_label"][:, :3]
    np.testing.assert_array_equal(codes, np.eye(3)[np.array(table.payload["n"]) % 3])


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder with ready vectors, some of them unusable, and their metadata."""
    folder = tmp_path_factory.mktemp("vectors")
    X = np.random.default_rng(6).normal(size=(N_POINTS, DIM)).astype(np.float32)
    X[:: N_POINTS // N_BROKEN] = 0
    np.save(folder / "X.npy", X)
    rows = [f"sku-{n},l{n % 7},{n}" for n in range(N_POINTS)]
    (folder / "meta.csv").write_text("\n".join(["id,label,n", *rows]))
    return str(folder)


@pytest.fixture(scope="module")
def loaded(vectors: str, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    store = str(tmp_path_factory.mktemp("loaded") / "store")
    assert run_vectors(vectors, store).written > N_POINTS - 2 * N_BROKEN
    return contents(store, "shop", ["raw", "pca"])


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_ingest_of_ready_vectors_is_completed_by_the_same_call(
    vectors: str, loaded: Contents, tmp_path: Path, kill: int
) -> None:
    store = str(tmp_path / "store")
    kill_during(*moment(kill + 2000, N_POINTS // BATCH), "vectors", vectors, store)
    survived = contents(store, "shop", ["raw", "pca"])
    assert survived.items() <= loaded.items()  # whole points or none
    summary = run_vectors(vectors, store)
    assert (summary.written, summary.skipped) == (len(loaded) - len(survived), len(survived))
    assert contents(store, "shop", ["raw", "pca"]) == loaded
    again = run_vectors(vectors, store)
    assert (again.written, again.updated, again.skipped) == (0, 0, len(loaded))


if __name__ == "__main__":
    # A job in a shell's background ignores Ctrl-C, and what it starts would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1] == "ingest":
        run_ingest(TellingEncoder(seconds=0.01), sys.argv[2], sys.argv[3])
    elif sys.argv[1] == "recompute-known":
        run_recompute(telling(plain_posterior(known=True)), sys.argv[2])
    elif sys.argv[1] == "vectors":
        run_vectors(sys.argv[2], sys.argv[3], is_telling=True)
    else:
        is_posterior = sys.argv[1] == "backfill-posterior"
        made = plain_posterior() if is_posterior else plain_projection(PlainEncoder())
        run_backfill(telling(made), sys.argv[2])
