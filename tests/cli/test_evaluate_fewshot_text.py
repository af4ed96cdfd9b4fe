"""`intramodal evaluate fewshot-text`: the rivals, on the episodes of `evaluate fewshot`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intramodal import ImageCollection, open_store
from intramodal.commands.options import DEFAULT_STORE
from intramodal.evaluation.fewshot_text import METHODS, evaluate_fewshot_text
from intramodal.evaluation.rivals.class_texts import ClassTexts
from tests.cli.evaluated import invoke, make_shop, pictures, run

COMMON = ("--labels", "kind", "--shots", "1,2", "--episodes", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(autouse=True)
def W(folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Return one text a class, near its pictures."""
    monkeypatch.chdir(folder)
    table = pictures()
    kinds = np.array(table.payload["kind"])
    found = [table.vectors["raw"][kinds == kind].mean(axis=0) for kind in sorted(set(kinds))]
    np.save("kinds.npy", np.asarray(found, dtype=np.float32))
    return np.asarray(found, dtype=np.float32)


def test_every_method_gives_what_the_function_gives(W: np.ndarray) -> None:
    found = run("fewshot-text", "photos", *COMMON, "--text-vectors", "kinds.npy")
    with open_store(DEFAULT_STORE) as store:
        table = ImageCollection.open(store, "photos").table(["raw"], payload=["kind"])
    expected = evaluate_fewshot_text(
        table,
        texts=ClassTexts.from_arrays(sorted(set(table.payload["kind"])), W),
        fields=["kind"],
        shots=(1, 2),
        episodes=3,
    )["kind", "raw"]
    by_method = found["fields"]["kind"]["vectors"]["raw"]
    assert set(by_method) == set(METHODS)
    for method, shots in by_method.items():
        for row, mean in zip(shots.values(), expected[method].mean, strict=True):
            assert row["accuracy"] == pytest.approx(mean, abs=1e-12)


def test_methods_that_compare_images_run_by_every_vector_asked_for() -> None:
    found = run(
        *("fewshot-text", "photos", *COMMON, "--text-vectors", "kinds.npy"),
        *("--methods", "zero-shot,prototype,lda+text", "--by", "raw,pca"),
    )
    vectors = found["fields"]["kind"]["vectors"]
    assert set(vectors["raw"]) == {"zero-shot", "prototype", "lda+text"}
    assert set(vectors["pca"]) == {"prototype", "lda+text"}


@pytest.mark.parametrize("kind", ["fewshot", "fewshot-text"])
def test_an_empty_row_has_a_reason_that_is_said_once(kind: str) -> None:
    asked = [kind, "photos", "--labels", "kind", "--shots", "1,1000", "--episodes", "2"]
    asked += ["--text-vectors", "kinds.npy"] if kind == "fewshot-text" else []
    vectors = run(*asked)["fields"]["kind"]["vectors"]["raw"]
    for shots in vectors.values():
        assert shots["1"]["reason"] is None
        assert shots["1000"]["accuracy"] is None
        assert "classes have enough images (1000 for shots, " in shots["1000"]["reason"]
    said = f"no accuracy of 'kind' with 1000 shots: {shots['1000']['reason']}"
    assert invoke(*asked).output.count(said) == 1


def test_the_table_names_method_and_vector() -> None:
    told = invoke(
        *("fewshot-text", "photos", *COMMON, "--text-vectors", "kinds.npy"),
        *("--methods", "zero-shot"),
    ).output
    assert "zero-shot" in told
    assert "3 episodes" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("photos:pca", "--text-vectors", "kinds.npy"), "is projected"),
        (("photos", "--text-vectors", "T.npy"), "6 classes and T.npy 40 texts"),
        (("photos", "--text-vectors", "kinds.npy", "--methods", "clip"), "zero-shot"),
        (("photos", "--text-vectors", "kinds.npy", "--preset", "pets2"), "no preset"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], told: str) -> None:
    found = run("fewshot-text", *arguments, *COMMON, code=1)
    assert told in found["error"]["message"]


def test_texts_of_a_file_are_embedded_by_the_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from intramodal import load_encoder
    from intramodal.evaluation.rivals.class_texts import read_texts
    from intramodal.store.manifest import VectorOrigin

    encoder = load_encoder("demo", device="cpu")
    names = ["cat", "dog", "fish"]
    X = np.repeat(encoder.encode_texts([f"a drawing of a {name}" for name in names]), 8, axis=0)
    X += np.random.default_rng(3).normal(size=X.shape).astype(np.float32) * X.std()
    origin = VectorOrigin(encoder.name, encoder.fingerprint)
    ids, kinds = list(range(24)), np.repeat(names, 8).tolist()
    with open_store("./drawn") as store:
        drawn = ImageCollection.create(store, "drawn", {"raw": (encoder.dim, origin)})
        drawn.write(ids, {"raw": X}, [{"kind": kind} for kind in kinds])
        table = drawn.table(["raw"], payload=["kind"])
    file = tmp_path / "texts.json"
    file.write_text(
        '{"dog": {"names": ["puppy"], "attributes": ["it barks"]}, "fish": ["scales"]}'
    )
    common = ("fewshot-text", "drawn", *COMMON, "--store", "./drawn", "--device", "cpu")
    methods = ("--methods", "coder-zero-shot,coder", "--validation", "2")
    found = run(*common, *methods, "--class-texts", str(file))
    expected = evaluate_fewshot_text(
        table,
        texts=ClassTexts.encode(encoder, names, words=read_texts(file)),
        fields=["kind"],
        methods=["coder-zero-shot", "coder"],
        shots=(1, 2),
        episodes=3,
        validation=2,
    )["kind", "raw"]
    for method, shots in found["fields"]["kind"]["vectors"]["raw"].items():
        for row, mean in zip(shots.values(), expected[method].mean, strict=True):
            assert row["accuracy"] == pytest.approx(mean, abs=1e-12)
    file.write_text('{"kangaroo": ["it jumps"]}')
    told = run(*common, "--class-texts", str(file), code=1)["error"]["message"]
    assert "says nothing of a class of field 'kind'" in told
    told = run(*common, "--class-texts", str(file), "--text-vectors", "T.npy", code=1)
    assert "texts that a model must embed" in told["error"]["message"]


def test_the_preset_of_the_paper_runs_its_own_classifiers_by_its_protocol() -> None:
    asked = ("fewshot-text", "photos", "--labels", "kind", "--shots", "1,2", "--preset", "paper")
    ready = ("--text-vectors", "kinds.npy", "--split", "split")
    by = ("--by", "raw,pca", "--projection", "pca.safetensors")
    found = run(*asked, *ready, *by)
    assert (found["preset"], found["protocol"]) == ("paper", "paper")
    assert (found["n_episodes"], found["n_validation"]) == (3, 0)
    vectors = found["fields"]["kind"]["vectors"]
    assert set(vectors["raw"]) == {"zero-shot", "prototype+text", "lda+text"}
    assert set(vectors["pca"]) == {"prototype+text", "lda+text"}
    message = run(*asked, *ready, "--methods", "ape", code=1)["error"]["message"]
    assert "has no constants of 'ape'" in message
