"""A collection that exists, from ready text embeddings to projected neighbours."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from intramodal import ImageCollection, Projection, open_store
from intramodal.cli import cli
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.base import VectorSpec
from intramodal.types import unit_rows

N, D, MODEL = 120, 16, "hf:our/clip"
FIT = ["fit", "--text-vectors", "T.npy", "--made-by", MODEL, "--anchors", "names.txt"]
PLACE = ["products", "--from", "image", "--to", "pca", "--projection", "pca.safetensors"]


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    """Return a folder with a foreign collection of integer ids, and embedded class names."""
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("".join(f"thing {i}\n" for i in range(40)))
    np.save("T.npy", rng.normal(size=(40, D)).astype(np.float32))
    X = rng.normal(size=(N, D)).astype(np.float32)
    with open_store(DEFAULT_STORE) as store:
        store.create("products", {"image": VectorSpec(D)})
        store.upsert("products", list(range(N)), {"image": X}, [{"kind": "x"}] * N)
    return tmp_path


def backfill(*more: str, code: int = 0) -> Any:
    return run("backfill", *PLACE, "--made-by", MODEL, *more, code=code)


def test_fit_backfill_and_search_work_on_a_foreign_collection(shop: Path) -> None:
    fitted = run(*FIT, "-o", "pca.safetensors")
    assert (fitted["dim_in"], fitted["dim_out"], fitted["n_anchors"]) == (D, D // 2, 40)
    assert backfill("--dry-run")["n_missing"] == N
    with open_store(DEFAULT_STORE) as store:
        assert not ImageCollection.open(store, "products").manifest.vectors
    done = backfill()
    assert (done["projected"], done["skipped"], done["unprojectable"]) == (N, 0, 0)
    assert backfill()["projected"] == 0
    found = run("search", "products", "--id", "7", "--vectors", "image,pca", "-k", "5")
    assert {len(hits) for hits in found["vectors"].values()} == {5}
    assert all(hit["id"] != 7 for hits in found["vectors"].values() for hit in hits)
    kinds = {row["kind"]: row["status"] for row in run("runs", "list")["runs"]}
    assert kinds == dict.fromkeys(("fit", "backfill", "search"), "COMPLETE")


def test_the_exported_rows_are_the_projected_ones(shop: Path) -> None:
    run(*FIT, "-o", "pca.safetensors")
    run("export", "products", "--vector", "image", "-o", "before.npy")
    backfill()
    run("export", "products", "--vector", "image", "-o", "after.npy")
    run("export", "products", "--vector", "pca", "-o", "pca.npy")
    assert Path("before.npy").read_bytes() == Path("after.npy").read_bytes()
    expected = unit_rows(Projection.load("pca.safetensors").apply(np.load("after.npy")))
    # float32 dot products over 16 terms, stored normalised
    np.testing.assert_allclose(np.load("pca.npy"), expected, atol=1e-5)
    ids = [int(row["id"]) for row in csv.DictReader(Path("pca.ids.csv").read_text().splitlines())]
    assert sorted(ids) == list(range(N))


def test_another_models_projection_is_refused_and_nothing_is_added(shop: Path) -> None:
    run("adopt", "products", "--vector", "image", "--made-by", "some other model")
    run(*FIT, "-o", "pca.safetensors")
    place = ("products", "--from", "image", "--projection", "pca.safetensors")
    refused = run("backfill", *place, code=1)
    assert refused["error"]["type"] == "ManifestMismatchError"
    with open_store(DEFAULT_STORE) as store:
        assert set(ImageCollection.open(store, "products").info().vectors) == {"image"}


def test_a_collection_without_manifest_is_not_projected_unless_its_owner_declares_it(
    shop: Path,
) -> None:
    run(*FIT, "-o", "pca.safetensors")
    place = ("products", "--from", "image", "--projection", "pca.safetensors")
    assert "intramodal adopt" in run("backfill", *place, code=1)["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["fit", "--model", "demo", "--text-vectors", "T.npy", "-o", "x.safetensors"],
            "either --model or",
        ),
        (["fit", "--text-vectors", "T.npy", "-o", "x.safetensors"], "needs --made-by"),
        (["search", "products"], "one of --image, --text and --id"),
    ],
)
def test_contradicting_options_are_wrong_usage(
    shop: Path, arguments: list[str], said: str
) -> None:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["fit", "--text-vectors", "no.npy", "--made-by", "m", "-o", "x.safetensors"],
            "there is no file no.npy",
        ),
        (
            ["fit", "--text-vectors", "T.npy", "--made-by", "m", "-o", "x.safetensors"],
            "1000 anchors need",
        ),
        (["search", "product", "--id", "1"], "'products'"),
        (["search", "products", "--id", "1", "--vectors", "imagge"], "it has 'image'"),
        (["search", "products", "--text", "a", "--vectors", "pca"], "has no vector 'pca'; it has"),
        (["search", "products", "--id", "999", "--vectors", "image"], "no point '999'"),
        (["export", "products", "--vector", "pca", "-o", "x.npy"], "it has 'image'"),
        (["backfill", "products", "--projection", "no.st"], "there is no projection"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence_and_leaves_no_file(
    shop: Path, arguments: list[str], said: str
) -> None:
    before = {path.name for path in shop.iterdir()}
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert {path.name for path in shop.iterdir()} == before


def test_tables_for_people_hold_the_same_facts(shop: Path) -> None:
    for arguments, said in (
        ([*FIT, "-o", "pca.safetensors"], "16 > 8"),
        (["backfill", *PLACE, "--made-by", MODEL], "120"),
        (["search", "products", "--id", "3", "--vectors", "image,pca"], "pca: score"),
        (["export", "products", "-o", "pca.npy"], "120 x 8"),
        (["models", "list"], "open_clip:ViT-B-32:openai"),
    ):
        result = CliRunner(env={"COLUMNS": "200"}).invoke(cli, arguments)
        assert result.exit_code == 0, result.stderr
        assert said in result.stdout
