"""No command needs the names of vectors where a collection has one, and one projection of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from intramodal import ImageCollection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.projection.projection import Projection
from intramodal.store.manifest import VectorOrigin
from tests.cli.kit import invoke, run

N = 60
LABELS = ("--labels", "kind")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `shop`, whose vectors are `image` and, from a backfill, `fewer`."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    kinds = np.arange(N) % 4
    X = rng.normal(size=(4, 8))[kinds] + 0.5 * rng.normal(size=(N, 8))
    clip = {"image": (8, VectorOrigin("clip", "declared:clip"))}
    projection = folder / "p.safetensors"
    Projection(np.eye(8, 4, dtype=np.float32), "pca", "clip", "declared:clip").save(projection)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with open_store(DEFAULT_STORE) as store:
            photos = ImageCollection.create(store, "shop", clip)
            payloads = [{"kind": f"kind {k}"} for k in kinds]
            photos.write(list(range(N)), {"image": X.astype(np.float32)}, payloads)
        words = ("backfill", "shop", "--projection", "p.safetensors")
        assert run(*words, "--to", "fewer")["source"] == "image"
    return folder


@pytest.fixture(autouse=True)
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def test_evaluations_take_both() -> None:
    quick = {"retrieval": (), "fewshot": ("--shots", "1", "--episodes", "2")}
    for name, more in quick.items():
        found = run("evaluate", name, "shop", *LABELS, *more)
        assert [*found["fields"]["kind"]["vectors"]] == ["image", "fewer"]
    found = run("evaluate", "index", "shop", *LABELS, "-k", "5", "--timed", "2")
    assert [row["search"] for row in found["rows"]] == ["image", "fewer", "fewer > image"]
    found = run("evaluate", "misalignment", "shop", *LABELS, "--no-map")
    assert [row["vector"] for row in found["rows"]] == ["image"]


def test_a_comparison_is_of_both_with_labels_and_without() -> None:
    for more in (LABELS, ("-k", "3")):
        found = run("compare", "shop", *more, "--seed", "1")
        assert list(found["vectors"]) == ["image", "fewer"]
        recorded = run("runs", "show", found["run_id"])["parameters"]
        assert recorded["vectors"] == "['image', 'fewer']"


def test_a_search_asks_both_and_an_export_writes_the_projection() -> None:
    assert [*run("search", "shop", "--id", "7", "-k", "2")["vectors"]] == ["image", "fewer"]
    assert run("export", "shop", "-o", "x.npy")["vector"] == "fewer"


def test_a_backfill_projects_the_encoder_s_own_and_goes_on_with_what_it_has_filled() -> None:
    words = ("backfill", "shop", "--projection", "p.safetensors")
    again = run(*words)
    assert (again["source"], again["vector"], again["projected"]) == ("image", "fewer", 0)
    assert run(*words, "--verify", "5")["vector"] == "fewer"
    assert run(*words, "--recompute", "kind=kind 1")["vector"] == "fewer"
    assert run(*words, "--recompute", "kind=kind 1", "--dry-run")["vector"] == "fewer"
    assert run(*words, "--dry-run")["n_missing"] == 0
    planned = run("backfill", "shop", "--rollback", "--dry-run")
    assert planned["vector"] == "fewer"


def test_a_collection_that_nobody_declared_is_adopted_and_filled_by_the_name_of_its_model(
    tmp_path: Path,
) -> None:
    store = str(tmp_path / "store")
    with open_store(store) as opened:
        from intramodal.store.base import VectorSpec

        opened.create("foreign", {"image": VectorSpec(8)})
        opened.upsert("foreign", [1, 2], {"image": np.eye(2, 8, dtype=np.float32)}, [{}, {}])
    words = ("foreign", "--store", store, "--made-by", "clip")
    plan = run("backfill", *words, "--projection", "p.safetensors", "--dry-run")
    assert (plan["source"], plan["vector"]) == ("image", "pca")
    assert run("adopt", *words)["vector"] == "image"
    done = run("backfill", *words, "--projection", "p.safetensors")
    assert (done["source"], done["projected"]) == ("image", 2)


def test_what_is_left_open_is_named_in_one_sentence(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with open_store(store) as opened:
        made_by = VectorOrigin("clip", "declared:clip")
        ImageCollection.create(opened, "two", {"a": (4, made_by), "b": (4, made_by)})
    fitted = ("--text-vectors", "x.npy", "--made-by", "c", "-o", "q.safetensors")
    for words in (
        ("evaluate", "retrieval", "two", *LABELS),
        ("compare", "two", *LABELS),
        ("compare", "two"),
        ("search", "two", "--id", "1"),
        ("export", "two", "-o", "y.npy"),
        ("backfill", "two", "--projection", "p.safetensors"),
        ("adopt", "two", "--made-by", "clip"),
        ("fit", *fitted, "--center", "two"),
        ("evaluate", "misalignment", "two", *LABELS),
    ):
        found = invoke(*words, "--store", store, "--json")
        message = json.loads(found.stdout)["error"]["message"]
        assert found.exit_code == 1
        assert "collection 'two' has the vectors 'a', 'b'; name the one to take" in message
    assert message.endswith(", as in two:a")
