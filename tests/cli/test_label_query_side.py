"""Maps of labels on a collection that is another's: fitted, tried and judged, nothing written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from intramodal import open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.fit_rows import FitRows
from intramodal.projection.projection import Projection
from intramodal.store.base import VectorSpec
from intramodal.types import declared_fingerprint
from tests.cli.kit import digest, invoke, run

N, D, K = 200, 32, 4
MODEL = "their model"
VECTORS = pytest.mark.parametrize("vector", ["raw", ""], ids=["named", "unnamed"])
HELD = {i for i in range(N) if FitRows(share=0.5).holds(i)}


def store_photos(vector: str) -> None:
    """Write a collection as other programs do, which nothing is known of."""
    rng = np.random.default_rng(4)
    kinds = rng.integers(K, size=N)
    X = (rng.normal(size=(N, D)) + rng.normal(size=(K, D))[kinds]).astype(np.float32)
    with open_store(DEFAULT_STORE) as store:
        store.create("photos", {vector: VectorSpec(D)})
        payloads = [{"kind": f"k{kind}"} for kind in kinds]
        store.upsert("photos", list(range(N)), {vector: X}, payloads)


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@VECTORS
def test_a_map_is_fitted_and_judged_where_nothing_may_be_written(vector: str) -> None:
    store_photos(vector)
    before, place = digest(vector), "photos" if vector else "photos:"
    labels = ("--labels", "kind")
    made = invoke("fit", place, *labels, "--made-by", MODEL, "-o", "kind.safetensors")
    assert made.exit_code == 0, made.output
    codes = ("--method", "posterior", "--force", "-o", "codes.safetensors")
    run("fit", place, *labels, "--made-by", MODEL, *codes)
    (line,) = re.findall(r"^next: (.*)$", made.stderr, re.MULTILINE)
    done = subprocess.run(
        ["sh", "-c", f"{line} --json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    named = ("--vectors", vector or "''")
    side = ("--query-side", "kind.safetensors")
    found = run("compare", "photos", *labels, *named, *side, "--rerank", "20",
                "--beside", "codes.safetensors")  # fmt: skip
    field, name = found["fields"]["kind"], "label_kind@query:20"
    assert found["held_out"]["n_fit_rows"] == len(HELD)
    assert field["verdict"] == "better"
    assert set(field["label_evidence"]) == {name, "posterior_kind"}
    retrieval = run("evaluate", "retrieval", "photos", *labels, *named, *side)
    assert retrieval["held_out"]["n_fit_rows"] == len(HELD)
    searches = ("--searches", vector or "''")
    run("evaluate", "index", "photos", *labels, *searches, *side, "--timed", "2", "-k", "5")
    assert len(run("search", "photos", "--id", "3", *named, *side)["vectors"]) == 2
    assert digest(vector) == before


def test_the_index_loss_of_a_map_of_labels_is_printed() -> None:
    store_photos("raw")
    run("fit", "photos", "--labels", "kind", "--made-by", MODEL, "-o", "kind.safetensors")
    found = run("compare", "photos", "--labels", "kind", "--query-side", "kind.safetensors")
    # Few points are in no index: the note says so, and nothing is made up.
    assert found["index"]["note"]
    assert found["index"]["recall_at_10"] == {}


def test_words_are_fitted_there_too() -> None:
    store_photos("raw")
    rng = np.random.default_rng(0)
    np.save("T.npy", rng.normal(size=(K, D)).astype(np.float32))
    made_by = MODEL, declared_fingerprint(MODEL)
    Projection(np.eye(D, 8, dtype=np.float32), "pca", *made_by).save("pca.safetensors")
    words = ("--words", "kind", "--projection", "pca.safetensors", "--text-vectors", "T.npy")
    run("fit", "photos", *words, "--made-by", MODEL, "-o", "words.safetensors")
    found = run("compare", "photos", "--labels", "kind", "--query-side", "words.safetensors")
    assert found["vectors"] == ["raw", "words_kind@query"]


def test_another_model_than_the_collections_is_refused() -> None:
    store_photos("raw")
    fit = ("fit", "photos", "--labels", "kind", "-o", "kind.safetensors")
    result = invoke(*fit)
    assert "nothing says which model made" in " ".join(result.stderr.split())
    run("adopt", "photos", "--made-by", MODEL)
    result = invoke(*fit, "--made-by", "another")
    assert result.exit_code == 1
    assert "was made by their model, not by another" in " ".join(result.stderr.split())
