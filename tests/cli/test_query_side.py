"""A projection tried on a collection that stays as it is: no key, no manifest, no new vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import AnchorSet, Projection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.store.base import VectorSpec
from intramodal.types import Floats, unit_rows
from tests.cli.kit import cells_of, digest, invoke, run

N, D, N_KINDS = 90, 16, 6
NAME = "pca_centered@query"
SIDE = ("--query-side", "cpca.safetensors")
VECTORS = pytest.mark.parametrize("vector", ["raw", ""], ids=["named", "unnamed"])


def store_photos(X: Floats, labels: list[str], vector: str = "raw") -> None:
    """Write a collection as other programs do, which nothing is known of."""
    with open_store(DEFAULT_STORE) as store:
        store.create("photos", {vector: VectorSpec(X.shape[1])})
        payloads = [{"kind": label, "path": f"{i}.jpg"} for i, label in enumerate(labels)]
        store.upsert("photos", list(range(len(X))), {vector: X}, payloads)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    monkeypatch.chdir(tmp_path)
    Q = np.linalg.qr(rng.normal(size=(D, 6)))[0]
    Projection(Q, "pca_centered", "clip", "3f9a", offset=np.full(D, 0.1)).save("cpca.safetensors")
    return tmp_path


@pytest.fixture
def X(rng: np.random.Generator) -> Floats:
    kinds = np.arange(N) % N_KINDS
    return unit_rows(rng.normal(size=(N_KINDS, D))[kinds] + rng.normal(size=(N, D)) + 0.5)


KINDS = [f"k{i % N_KINDS}" for i in range(N)]
COMMANDS: dict[str, tuple[str, ...]] = {
    "search": ("search", "photos", "--id", "3", "--html", "page.html"),
    "retrieval": ("evaluate", "retrieval", "photos", "--labels", "kind"),
    "index": ("evaluate", "index", "photos", "--labels", "kind", "-k", "5", "--timed", "2"),
    "compare": ("compare", "photos", "--labels", "kind", "-o", "report.html"),
}


@VECTORS
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_the_collection_changes(X: Floats, command: str, vector: str) -> None:
    store_photos(X, KINDS, vector)
    before = digest(vector)
    named = "--searches" if command == "index" else "--vectors"
    words = (*COMMANDS[command], *SIDE, "--rerank", "20", named, vector or "''")
    found = run(*words)
    assert f"{NAME}:20" in str(found)
    assert digest(vector) == before


def test_the_query_side_is_judged_as_a_vector_and_has_the_verdict(X: Floats) -> None:
    store_photos(X, KINDS)
    found = run(*COMMANDS["compare"], *SIDE)
    exact = run(*COMMANDS["retrieval"], *SIDE)["fields"]["kind"]["vectors"]
    field = found["fields"]["kind"]
    assert found["vectors"] == ["raw", NAME]
    assert found["asked"]["tasks"] == ["retrieval"]
    assert field["map"] == {name: exact[name]["map"] for name in ("raw", NAME)}
    assert field["delta"] == pytest.approx(exact[NAME]["map"] - exact["raw"]["map"])
    assert field["pieces"]["map"]
    assert field["pieces"]["fewshot"] is None
    assert list(found["cost"]) == ["raw", NAME]  # no search in two stages
    assert found["cost"][NAME]["recall_at_10"] == 1
    assert "no vector of the collection is in an index" in found["index"]["note"]
    page = Path("report.html").read_text(encoding="utf-8")
    assert NAME in page


def test_a_verdict_for_it_says_how_to_search_and_what_storing_it_would_take() -> None:
    rng = np.random.default_rng(5)
    kinds = np.arange(300) % N_KINDS
    made = Projection.load("cpca.safetensors")
    # What the projection drops is noise.
    noise = rng.normal(size=(300, D)) * 2
    noise -= noise @ made.matrix @ made.matrix.T
    centres = rng.normal(size=(N_KINDS, 6)) @ made.matrix.T
    X = unit_rows(centres[kinds] + noise + 0.3 * rng.normal(size=(300, D)))
    store_photos(X, [f"k{k}" for k in kinds])
    found = run("compare", "photos", "--labels", "kind", *SIDE, "--rerank", "50")
    decision = found["decision"]
    assert found["fields"]["kind"]["verdict"] == "better"
    assert f"Use {NAME}:50 for kind." in decision["sentence"]
    assert "would take 24 instead of 64 bytes per vector" in decision["sentence"]
    assert decision["snippet"].startswith(
        "client.query_points('photos', query=projection.query(vector[None])[0], using='raw', "
        "limit=50, with_vectors=True)"
    )


def test_by_default_it_stands_beside_the_stored_vector_alone(X: Floats) -> None:
    store_photos(X, KINDS)
    found = run(*COMMANDS["index"], *SIDE)
    assert [row["search"] for row in found["rows"]] == ["raw", NAME]
    exact = run(*COMMANDS["retrieval"], *SIDE)["fields"]["kind"]["vectors"]
    assert list(exact) == ["raw", NAME]
    # Equal scores apart, which the index gives in the order of the ids.
    assert found["rows"][1]["exact_map"] == pytest.approx(exact[NAME]["map"], abs=1e-6)
    assert found["rows"][1]["recall"] == 1
    shown = invoke("search", "photos", "--id", "3", *SIDE, "-k", "2")
    rows = [cells_of(line) for line in shown.stdout.splitlines() if line.strip()[:1] in "12"]
    assert [len(row) for row in rows if len(row) > 1] == [5, 5]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("compare", "photos", "--labels", "kind", *SIDE, "--vectors", "raw,pca"),
         "takes the place of vector B"),
        (("compare", "photos", "--labels", "kind", *SIDE, "--projection", "cpca.safetensors"),
         "--query-side is B itself"),
        (("compare", "photos", *SIDE), "with --labels only"),
        (("search", "photos", "--id", "3", "--vectors", "raw", "--rerank", "5"),
         "--rerank is for --query-side only"),
        (("evaluate", "retrieval", "photos", "--protocol", "revisited", "--ground-truth", "g.json",
          *SIDE), "does not apply to the revisited protocol"),
    ],
)  # fmt: skip
def test_what_contradicts_it_is_refused(X: Floats, words: tuple[str, ...], why: str) -> None:
    store_photos(X, KINDS)
    result = invoke(*words)
    assert result.exit_code == 2, result.output
    assert why in " ".join(result.stderr.split())


def test_few_shot_accuracy_is_not_asked_of_it(X: Floats) -> None:
    store_photos(X, KINDS)
    words = ("compare", "photos", "--labels", "kind", *SIDE, "--task", "fewshot")
    assert "judged by retrieval" in run(*words, code=1)["error"]["message"]


def rows_of(found: dict[str, Any]) -> dict[str, Any]:
    rows: dict[str, Any] = found["fields"]["kind"]["vectors"]
    return rows


@pytest.mark.real_data
def test_on_cifar_it_gives_what_the_stored_projection_gives(real_data: Path) -> None:
    source = real_data / "cifar10-500-clip-b32"
    X = np.load(source / "image_embeddings.npy").astype(np.float32)
    labels = [str(label) for label in np.load(source / "image_labels.npy").tolist()]
    store_photos(X, labels)
    texts = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    about: Any = {"encoder": "e", "encoder_fingerprint": "declared:e"}
    center = unit_rows(X).mean(axis=0)
    made = Projection.from_text(texts, anchors=AnchorSet.imagenet(), center=center, **about)
    made.save("cpca.safetensors")
    before = digest("raw")
    plain = rows_of(run(*COMMANDS["retrieval"], *SIDE))[NAME]
    reranked = rows_of(run(*COMMANDS["retrieval"], *SIDE, "--rerank", "100"))[f"{NAME}:100"]
    assert digest("raw") == before
    # As the stored route, printed in the reference: 75.34 at 256.
    assert plain["map"] == pytest.approx(0.7534, abs=0.005)
    assert reranked["map"] == pytest.approx(0.7534, abs=0.005)
    stored = unit_rows(made.apply(X))
    S = stored @ stored.T
    np.fill_diagonal(S, -np.inf)
    at_1 = np.mean([labels[i] == labels[j] for i, j in enumerate(S.argmax(axis=1))])
    assert reranked["precision@1"] == pytest.approx(at_1, abs=0.003)
