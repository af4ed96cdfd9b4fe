"""No command needs the names of vectors where a collection has one, and one projection of it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import ImageCollection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.projection.projection import Projection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import unit_rows
from tests.cli.kit import invoke, run
from tests.faults.wire import WireServer

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


# Every command, on a store of each kind


CALLS: dict[str, tuple[str, ...]] = {
    "retrieval": ("evaluate", "retrieval", "shop", *LABELS),
    "fewshot": ("evaluate", "fewshot", "shop", *LABELS, "--shots", "1", "--episodes", "2"),
    "fewshot with texts": ("evaluate", "fewshot-text", "shop", *LABELS, "--shots", "1",
                           "--episodes", "2", "--text-vectors", "kinds.npy",
                           "--methods", "tip-adapter", "--validation", "1"),
    "index": ("evaluate", "index", "shop", *LABELS, "-k", "5", "--timed", "2"),
    "misalignment": ("evaluate", "misalignment", "shop", *LABELS),
    "recovery": ("evaluate", "recovery", "shop", "--text-vectors", "T.npy", "--sizes", "4,20",
                 "--subsets", "2"),
    "text": ("evaluate", "text", "shop", *LABELS, "--text-vectors", "kinds.npy"),
    "compare": ("compare", "shop", *LABELS, "--no-controls"),
    "compare with its map": ("compare", "shop", *LABELS, "--projection", "p.safetensors"),
    "compare a query side": ("compare", "shop", *LABELS, "--query-side", "p.safetensors"),
    "compare without labels": ("compare", "shop", "-k", "3"),
    "search": ("search", "shop", "--id", "7"),
    "search in stages": ("search", "shop", "--id", "7", "--query-side", "p.safetensors"),
    "export": ("export", "shop", "-o", "x.npy"),
    "adopt": ("adopt", "shop", "--made-by", "clip"),
    "advise": ("advise", "shop", *LABELS, "--projection", "p.safetensors"),
    "fit labels": ("fit", "shop", *LABELS, "-o", "kind.safetensors"),
    "fit a centre": ("fit", "--center", "shop", "--text-vectors", "T.npy", "--anchors",
                     "names.txt", "--components", "4", "--made-by", "clip", "-o", "c.safetensors"),
    "plan": ("backfill", "shop", "--projection", "p.safetensors", "--dry-run"),
    "backfill": ("backfill", "shop", "--projection", "p.safetensors"),
    "verify": ("backfill", "shop", "--projection", "p.safetensors", "--verify", "5"),
    "recompute": ("backfill", "shop", "--projection", "p.safetensors", "--recompute", "all"),
    "rollback": ("backfill", "shop", "--rollback", "--dry-run"),
    "ingest": ("ingest", "X.npy", "--collection", "shop", "--made-by", "clip",
               "--projection", "p.safetensors"),
    "reproduce": ("reproduce", "table3", "--on", "shop", "--label", "kind",
                  "--methods", "original,pca", "--projection", "p.safetensors"),
}  # fmt: skip


@pytest.fixture(scope="module", params=["embedded", "server"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Yield a folder and a store in which `shop` has the vectors `image` and `half`."""
    folder = tmp_path_factory.mktemp("calls")
    rng = np.random.default_rng(1)
    X = rng.normal(size=(N, 8)).astype(np.float32)
    for name, rows in (("X", X), ("T", X[:20]), ("kinds", X[:4])):
        np.save(folder / f"{name}.npy", rows)
    (folder / "names.txt").write_text("".join(f"thing {n}\n" for n in range(20)))
    projection = Projection(np.eye(8, 4, dtype=np.float32), "pca", "clip", "declared:clip")
    projection.save(folder / "p.safetensors")
    clip = VectorOrigin("clip", "declared:clip")
    made = VectorOrigin("clip", "declared:clip", projection=projection.fingerprint, source="image")
    with ExitStack() as stack:
        location = str(folder / "store")
        if request.param == "server":
            location = stack.enter_context(WireServer(speaks_grpc=True)).url
        with open_store(location) as store:
            photos = ImageCollection.create(store, "shop", {"image": (8, clip), "half": (4, made)})
            payloads = [{"kind": f"kind {n % 4}"} for n in range(N)]
            vectors = {"image": unit_rows(X), "half": projection.apply(X)}
            photos.write(list(range(N)), vectors, payloads)
        yield folder, location


@pytest.mark.parametrize("name", CALLS)
def test_no_command_needs_the_name_of_a_vector(
    name: str, place: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, location = place
    monkeypatch.chdir(folder)
    found = run(*CALLS[name], "--store", location)
    named = found.get("vectors", found.get("vector", ()))
    assert not {"raw", "pca"} & {*([named] if isinstance(named, str) else named)}
    with open_store(location) as store:  # nothing is made under another name
        assert sorted(ImageCollection.open(store, "shop").vectors) == ["half", "image"]


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
