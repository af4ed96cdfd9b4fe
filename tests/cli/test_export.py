from __future__ import annotations

import csv
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, Projection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.errors import StoreError
from intramodal.ingest.vectors import export
from intramodal.store.base import Filter, Page, Store, VectorSpec
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store as open_again
from intramodal.types import unit_rows
from tests.cli.kit import invoke, run

N, D = 2300, 6  # three pages
N_LACKING = 5
IDS: list[Any] = [
    *range(300, 0, -1),
    *(str(uuid.UUID(int=(i * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128)) for i in range(2000)),
]


@pytest.fixture
def X(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> np.ndarray:
    """Go to a folder with a collection whose last points lack the vector."""
    monkeypatch.chdir(tmp_path)
    X = unit_rows(rng.normal(size=(N, D)))
    with open_store(DEFAULT_STORE) as store:
        store.create("shop", {"raw": VectorSpec(D), "other": VectorSpec(2)})
        store.upsert("shop", IDS, {"raw": X}, [{}] * N)
        lacking = list(range(10_000, 10_000 + N_LACKING))
        store.upsert("shop", lacking, {"other": np.ones((N_LACKING, 2), np.float32)}, [{}] * 5)
    return X


def exported(out: str) -> dict[str, Any]:
    return run("export", "shop", "--vector", "raw", "-o", out)


def read_ids(path: str) -> list[str]:
    with Path(path).open(newline="") as file:
        return [row["id"] for row in csv.DictReader(file)]


def in_order(X: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return ids and rows in the stated order: numbers by value, then UUIDs by text."""
    rows = sorted(range(N), key=lambda row: (isinstance(IDS[row], str), IDS[row]))
    return [str(IDS[row]) for row in rows], X[rows]


def test_rows_and_ids_are_in_id_order_and_points_without_the_vector_are_counted(
    X: np.ndarray,
) -> None:
    done = exported("raw.npy")
    assert done.pop("run_id")
    assert done == {
        "collection": "shop", "vector": "raw", "rows": N, "missing": N_LACKING, "dim": D,
        "out": "raw.npy", "ids": "raw.ids.csv",
    }  # fmt: skip
    ids, rows = in_order(X)
    assert read_ids("raw.ids.csv") == ids
    np.testing.assert_allclose(np.load("raw.npy"), rows, atol=1e-6)  # normalised twice in float32
    assert {path.name for path in Path().iterdir()} == {".intramodal", "raw.npy", "raw.ids.csv"}


def test_every_kind_of_file_holds_the_same(X: np.ndarray) -> None:
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file

    for suffix in ("npy", "safetensors", "parquet"):
        exported(f"out/raw.{suffix}")
    expected = np.load("out/raw.npy")
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(load_file("out/raw.safetensors")["raw"], expected)
    table = pq.read_table("out/raw.parquet")
    assert table["id"].to_pylist() == read_ids("out/raw.ids.csv")
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), expected)


def test_what_was_exported_can_be_ingested_again(X: np.ndarray) -> None:
    exported("raw.npy")
    again = ("--collection", "copy", "--made-by", "m")
    assert run("ingest", "raw.npy", "--metadata", "raw.ids.csv", *again)["written"] == N
    exported("raw.parquet")
    assert run("ingest", "raw.parquet", *again)["skipped"] == N
    run("export", "copy", "--vector", "raw", "-o", "copy.npy")
    assert read_ids("copy.ids.csv") == read_ids("raw.ids.csv")


@pytest.mark.parametrize("suffix", ["npy", "safetensors", "parquet"])
@pytest.mark.parametrize("counted", [0, 7, 10**12])
def test_the_count_in_the_header_is_that_of_the_rows(
    X: np.ndarray, monkeypatch: pytest.MonkeyPatch, suffix: str, counted: int
) -> None:
    """A live writer between the count and the pages leaves a whole file of what was read."""
    from safetensors.numpy import load_file

    exported(f"a.{suffix}")
    count = ImageCollection.count

    def stale(self: ImageCollection, where: Filter | None = None, *, exact: bool = True) -> int:
        return count(self, where) if exact else counted

    monkeypatch.setattr(ImageCollection, "count", stale)
    assert exported(f"b.{suffix}")["rows"] == N
    if suffix == "npy":
        np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))
    elif suffix == "safetensors":
        both = (load_file(f"{name}.safetensors")["raw"] for name in "ab")
        np.testing.assert_array_equal(*both)
    assert Path(f"a.{suffix}").read_bytes() == Path(f"b.{suffix}").read_bytes()


def test_a_failure_in_the_middle_leaves_the_last_export_alone(
    X: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported("raw.npy")
    before = {path.name: path.read_bytes() for path in Path().glob("raw*")}
    scan = ImageCollection.scan

    def failing(self: ImageCollection, **options: Any) -> Iterator[Page]:
        yield next(scan(self, **options))
        raise StoreError("gone")

    monkeypatch.setattr(ImageCollection, "scan", failing)
    for suffix in ("npy", "safetensors", "parquet"):
        result = invoke("export", "shop", "--vector", "raw", "-o", f"raw.{suffix}")
        assert (result.exit_code, result.stderr) == (1, "Error: gone\n")
    assert {path.name: path.read_bytes() for path in Path().glob("raw*")} == before


def test_a_kill_between_the_renames_leaves_no_vectors_with_the_ids_of_others(
    X: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported("raw.npy")
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if Path(target).suffix == ".npy":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    assert invoke("export", "shop", "--vector", "raw", "-o", "raw.npy").exit_code == 130
    assert {path.name for path in Path().glob("raw*")} == {"raw.ids.csv"}


def test_what_cannot_be_exported_is_one_sentence(X: np.ndarray) -> None:
    before = set(Path().iterdir())
    for arguments, said in (
        (
            ("shop", "--vector", "raw", "-o", "raw.txt"),
            "--out: the name 'raw.txt' does not end in .npy, .safetensors, .parquet, .onnx or",
        ),
        (("shop", "--vector", "pca", "-o", "x.npy"), "no vector 'pca'"),
        (("shopp", "--vector", "raw", "-o", "x.npy"), "'shop'"),
        (("shop", "--vector", "raw", "-o", ".intramodal/runs.db/x.npy"), "cannot write"),
        (
            ("shop", "--vector", "raw", "-o", ".intramodal/store/catalogue.json/x.npy"),
            "is read by",
        ),
    ):
        result = invoke("export", *arguments)
        assert result.exit_code == 1, result.output
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
    assert set(Path().iterdir()) == before


def test_an_empty_vector_gives_an_empty_file(X: np.ndarray) -> None:
    with open_store(DEFAULT_STORE) as store:
        collection = ImageCollection.open(store, "shop")
        collection.add_vector("pca", 3, VectorOrigin("m", "3f"))
    for suffix in ("npy", "safetensors", "parquet"):
        done = run("export", "shop", "-o", f"pca.{suffix}")
        assert (done["rows"], done["missing"]) == (0, N + N_LACKING)
    assert np.load("pca.npy").shape == (0, 3)
    assert Path("pca.ids.csv").read_text().split() == ["id"]


def test_memory_holds_one_page_at_a_time(X: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    append = export.MatrixFile.append

    def noted(self: Any, ids: Any, rows: np.ndarray) -> None:
        sizes.append(len(rows))
        append(self, ids, rows)

    monkeypatch.setattr(export.MatrixFile, "append", noted)
    exported("raw.npy")
    assert sizes == [1000, 1000, 300]


def test_the_local_mode_of_the_client_has_the_same_order(X: np.ndarray) -> None:
    store: Store
    with open_again(":memory:") as store:
        store.create("shop", {"raw": VectorSpec(D)})
        store.upsert("shop", IDS, {"raw": X}, [{}] * N)
        scrolled = [str(point) for page in store.scroll("shop") for point in page.ids]
    assert scrolled == in_order(X)[0]


def test_the_line_for_people_tells_what_was_left_out(X: np.ndarray) -> None:
    result = invoke("export", "shop", "--vector", "raw", "-o", "raw.npy")
    shown = "vectors: raw.npy (2,300 x 6, 5 points lack it)\nids: raw.ids.csv\n"
    assert result.stdout == shown
    found = run("export", "shop", "--vector", "raw", "-o", "raw", code=1)
    assert "give one as raw.npy" in found["error"]["message"]


# A map itself, for programs that are not Python.


@pytest.fixture
def projection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> Projection:
    monkeypatch.chdir(tmp_path)
    made = Projection(np.linalg.qr(rng.normal(size=(8, 3)))[0], "pca", "clip", "3f9a")
    made.save("pca.safetensors")
    return made


@pytest.mark.parametrize("suffix", ["json", "onnx"])
def test_a_map_is_exported_without_a_collection_and_recorded(
    projection: Projection, suffix: str
) -> None:
    found = run("export", "--projection", "pca.safetensors", "-o", f"map.{suffix}")
    assert (found["method"], found["dim_in"], found["dim_out"]) == ("pca", 8, 3)
    assert found["fingerprint"] == projection.fingerprint
    stored = run("runs", "show", found["run_id"])
    assert (stored["kind"], stored["status"]) == ("export", "COMPLETE")
    assert Path(f"map.{suffix}").stat().st_size
    shown = invoke("export", "--projection", "pca.safetensors", "-o", f"map.{suffix}")
    assert shown.stdout == f"map: map.{suffix} (pca, 8 > 3)\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("-o", "map.json"), "give either COLLECTION or --projection"),
        (("shop", "--projection", "pca.safetensors", "-o", "map.json"), "give either COLLECTION"),
        (("shop", "--normalize", "-o", "raw.npy"), "--normalize is for --projection only"),
    ],
)
def test_a_map_or_a_collection_is_exported(
    projection: Projection, words: tuple[str, ...], why: str
) -> None:
    result = invoke("export", *words)
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.split())


def test_a_map_has_its_own_kinds_of_file(X: np.ndarray, projection: Projection) -> None:
    told = run("export", "--projection", "pca.safetensors", "-o", "map.npy", code=1)
    assert "does not end in .onnx or .json" in told["error"]["message"]
    told = run("export", "shop", "--vector", "raw", "-o", "raw.json", code=1)
    assert "does not end in .npy, .safetensors or .parquet" in told["error"]["message"]
